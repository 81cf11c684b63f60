"""Kinds of models that Triton serves, each measured as it is."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Outcome, no_server_left
from tuner.model.config import parse_config
from tuner.records.results import Evaluation, best
from tuner.records.run import Run

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]
SLA = ("--sla", "p90<200ms", "--load", "constant", "--launcher", "local", "-q", "--json")
"""What a busy machine keeps."""
ECHO = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "IN")
            {body}
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())]))
        return answers
"""
TENSORS = """
input [ {{ name: "IN" data_type: {kind} dims: [ {dims} ] }} {inputs} ]
output [ {{ name: "OUT" data_type: {kind} dims: [ {dims} ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    with no_server_left(tmp_path):
        yield


def model(
    folder: Path,
    config: str = "max_batch_size: 8 dynamic_batching { }",
    body: str = "pass",
    kind: str = "TYPE_FP32",
    dims: str = "4",
    inputs: str = "",
) -> Path:
    """A model that gives back what it gets, after ``body`` for each request."""
    place = folder / "models" / "echo"
    (place / "1").mkdir(parents=True)
    (place / "1" / "model.py").write_text(ECHO.format(body=body))
    tensors = TENSORS.format(kind=kind, dims=dims, inputs=inputs)
    (place / "config.pbtxt").write_text(f'name: "echo" backend: "python" {config} {tensors}')
    return place


def evaluation(done: Outcome, folder: Path) -> Evaluation:
    (found,) = Run.open(folder / done.result["run"]).evaluations()
    return found


def test_a_slow_model_gets_a_verdict_in_time(tuner: Tuner, tmp_path: Path) -> None:
    slow = model(tmp_path, "max_batch_size: 16 dynamic_batching { }", "time.sleep(0.4)")
    began = time.monotonic()
    done = tuner("measure", str(slow), *SLA, "--rate", "300")
    assert done.code == 1, done.err
    (probe,) = [p for p in evaluation(done, tmp_path).probes if p.purpose == "measure"]
    assert probe.outcome == "violated"
    assert time.monotonic() - began < 60


def test_a_slow_model_has_a_capacity(tuner: Tuner, tmp_path: Path) -> None:
    slow = model(tmp_path, "max_batch_size: 4 dynamic_batching { }", "time.sleep(0.1)")
    done = tuner("measure", str(slow), "--sla", "p90<1s", *SLA[2:])
    assert done.code == 0, done.err
    found = evaluation(done, tmp_path)
    always_busy = 10.0  # requests/s
    assert found.low
    assert found.high
    assert found.recommended
    # A queue that grows by a tenth of a second per second is seen in probes of seconds, no less.
    assert found.low <= 1.15 * always_busy, "more than it can serve"
    assert found.recommended <= 1.15 * always_busy
    assert found.high >= 0.8 * always_busy


def test_a_response_cache_is_not_measured_by_mistake(tuner: Tuner, tmp_path: Path) -> None:
    config = "max_batch_size: 8 dynamic_batching { } response_cache { enable: true }"
    cached = model(tmp_path, config, "time.sleep(0.01)")
    words = (*SLA, "--server-arg=--cache-config=local,size=4194304", "--rate", "30")
    found = evaluation(tuner("measure", str(cached), *words), tmp_path)
    assert all((probe.cached or 0) < 0.05 for probe in found.probes)
    alone = next(probe for probe in found.probes if probe.purpose == "unloaded")
    assert (alone.latency["p50"] or 0) > 0.009
    done = tuner("measure", str(cached), *words, "--cache-hits", "90%")
    found = evaluation(done, tmp_path)
    (judged,) = [probe for probe in found.probes if probe.purpose == "measure"]
    assert 0.8 < (judged.cached or 0) < 0.97  # the pool's requests are known by then
    assert "from its response cache" in Run.open(tmp_path / done.result["run"]).report.read_text()


def test_a_warm_up_follows_the_largest_batch(tuner: Tuner, tmp_path: Path) -> None:
    config = """max_batch_size: 32 dynamic_batching { } model_warmup [ { name: "w" batch_size: 32
      inputs { key: "IN" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } } ]"""
    done = tuner("measure", str(model(tmp_path, config)), *SLA, "--set", "max_batch_size=4")
    assert done.code == 0, done.err
    rendered = parse_config(evaluation(done, tmp_path).config, "record")
    assert (rendered.max_batch_size, rendered.model_warmup[0].batch_size) == (4, 4)


def test_the_version_that_answers_is_the_one_that_is_read(tuner: Tuner, tmp_path: Path) -> None:
    several = model(tmp_path, "max_batch_size: 8 dynamic_batching { } version_policy { all { } }")
    (several / "2").mkdir()
    slow = ECHO.format(body="time.sleep(0.01)")
    (several / "2" / "model.py").write_text(slow)
    words = ("measure", str(several), *SLA, "--rate", "40")
    for version, least, most in (("", 0.009, 1.0), ("2", 0.009, 1.0), ("1", 0.0, 0.005)):
        chosen = ("--model-version", version) if version else ()
        probes = evaluation(tuner(*words, *chosen), tmp_path).probes
        spent = [probe.server.compute_infer if probe.server else -1.0 for probe in probes]
        assert all(least < each < most for each in spent)


def test_what_the_model_completes_is_tuned_and_exported(tuner: Tuner, tmp_path: Path) -> None:
    place = tmp_path / "models" / "auto"
    (place / "1").mkdir(parents=True)
    (place / "config.pbtxt").write_text('backend: "python"')
    (place / "1" / "model.py").write_text(
        ECHO.format(body="pass")
        + """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(16)
        config.set_dynamic_batching()
        return config
"""
    )
    space = tmp_path / "space.yaml"
    space.write_text("parameters:\n  max_batch_size: [8]\n  instance_group.count: [1]\n")
    words = ("--space", str(space), "--confirm", "none")
    done = tuner("search", str(place), *SLA, *words)
    assert done.code == 0, done.err
    run = Run.open(tmp_path / done.result["run"])
    settings = [dict(each.settings) for each in run.evaluations()]
    assert {each["max_batch_size"] for each in settings} == {8, 16}
    found = best(run.evaluations())
    assert found is not None
    winner = parse_config((run.winner / "auto/config.pbtxt").read_text(), "winner")
    if not found.baseline:
        assert winner.max_batch_size == 8
        assert [each.name for each in winner.input] == ["IN"]
        assert winner.HasField("dynamic_batching")


@pytest.mark.parametrize("given", [False, True])
def test_an_optional_input_may_be_left_out(tuner: Tuner, tmp_path: Path, given: bool) -> None:
    body = """assert pb_utils.get_input_tensor_by_name(request, "BIAS") is None"""
    bias = ', { name: "BIAS" data_type: TYPE_FP32 dims: [ -1 ] optional: true }'
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"data": [{"IN": [1, 2, 3, 4]}, {"IN": [5, 6, 7, 8]}]}))
    words = ("--rate", "50", *(("--input-data", str(file)) if given else ()))
    done = tuner("measure", str(model(tmp_path, body=body, inputs=bias)), *SLA, *words)
    assert done.code == 0, done.err


def test_strings_in_base64_reach_the_model_as_they_are(tuner: Tuner, tmp_path: Path) -> None:
    body = """assert tensor.as_numpy().reshape(-1)[0] == b"hello world" """
    words = model(tmp_path, body=body, kind="TYPE_STRING", dims="1")
    file = tmp_path / "data.json"
    file.write_text('{"data": [{"IN": {"b64": "CwAAAGhlbGxvIHdvcmxk"}}]}')
    done = tuner("measure", str(words), *SLA, "--rate", "50", "--input-data", str(file))
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["linked", "a+b%20c"])
def test_a_model_has_the_name_under_which_triton_finds_it(
    tuner: Tuner, tmp_path: Path, name: str
) -> None:
    stored = model(tmp_path)
    config = stored / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "echo"', f'name: "{name}"'))
    (tmp_path / "repository").mkdir()
    os.symlink(stored, tmp_path / "repository" / name)
    for protocol in ("http", "grpc"):  # through all URLs and files that a name goes into
        words = (*SLA, "--rate", "50", "--protocol", protocol)
        done = tuner("measure", f"repository/{name}", *words)
        assert done.code == 0, done.err
        assert Run.open(tmp_path / done.result["run"]).manifest().model_name == name


def test_a_name_that_no_path_can_hold_is_refused_before_a_launch(
    tuner: Tuner, tmp_path: Path
) -> None:
    stored = model(tmp_path)
    named = stored.rename(stored.with_name("with space"))
    config = named / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "echo"', 'name: "with space"'))
    done = tuner("measure", str(named), *SLA, "--rate", "50")
    assert done.code == 2
    assert "rename its folder" in done.err
    assert not (tmp_path / "reports").exists()


def test_a_queue_policy_survives_a_change_of_something_else(tuner: Tuner, tmp_path: Path) -> None:
    policy = "dynamic_batching { default_queue_policy { max_queue_size: 2 } }"
    place = model(tmp_path, f"max_batch_size: 1 {policy}", "time.sleep(0.005)")
    before = parse_config((place / "config.pbtxt").read_text(), "own")
    for words in ((), ("--set", "instance_count=2")):
        done = tuner("measure", str(place), *SLA, "--rate", "10", *words)
        assert done.code == 0, done.err
        rendered = parse_config(evaluation(done, tmp_path).config, "record")
        before.instance_group[0].count = 2 if words else 1
        assert rendered == before


def test_an_ensemble_is_measured_as_a_whole(tuner: Tuner, tmp_path: Path) -> None:
    model(tmp_path)
    ensemble = tmp_path / "models" / "größe"  # the Python backend opens no such path
    (ensemble / "1").mkdir(parents=True)
    step = (
        '{{ model_name: "echo" model_version: -1 input_map {{ key: "IN" value: "{0}" }} '
        'output_map {{ key: "OUT" value: "{1}" }} }}'
    )
    steps = ", ".join(step.format(*pair) for pair in (("A", "B"), ("B", "C")))
    (ensemble / "config.pbtxt").write_text(
        f"""name: "größe" platform: "ensemble" max_batch_size: 8
        input [ {{ name: "A" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        output [ {{ name: "C" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        ensemble_scheduling {{ step [ {steps} ] }}"""
    )
    done = tuner("measure", str(ensemble), *SLA, "--rate", "50")
    assert done.code == 0, done.err
    (passed,) = json.loads(done.out)["steps"]
    assert (passed["model"], passed["instances"]) == ("echo", 1)
    assert passed["calls_per_request"] == pytest.approx(2, rel=0.05)
    assert 0 < passed["utilization"] < 1
    steps_of_unknown = step.format("A", "B").replace("echo", "gone")
    broken = tmp_path / "models" / "broken"
    (broken / "1").mkdir(parents=True)
    (broken / "config.pbtxt").write_text(
        f"""name: "broken" platform: "ensemble" max_batch_size: 8
        input [ {{ name: "A" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        output [ {{ name: "B" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        ensemble_scheduling {{ step [ {steps_of_unknown} ] }}"""
    )
    refused = tuner("measure", str(broken), *SLA, "--rate", "50")
    assert refused.code == 2
    assert "broken calls the model gone, which is not in" in refused.err


def test_a_model_that_calls_another_needs_it_loaded(tuner: Tuner, tmp_path: Path) -> None:
    model(tmp_path)
    calling = tmp_path / "models" / "calling"
    (calling / "1").mkdir(parents=True)
    text = (tmp_path / "models/echo/config.pbtxt").read_text()
    (calling / "config.pbtxt").write_text(text.replace('"echo"', '"calling"'))
    body = """
            asked = pb_utils.InferenceRequest(
                model_name="echo", requested_output_names=["OUT"], inputs=[tensor])
            answer = asked.exec()
            if answer.has_error():
                raise pb_utils.TritonModelException(answer.error().message())"""
    (calling / "1/model.py").write_text(ECHO.format(body=body))
    words = ("measure", str(calling), *SLA, "--rate", "20")
    done = tuner(*words)
    assert done.code == 3
    assert "--load-model" in (evaluation(done, tmp_path).failure or "")
    done = tuner(*words, "--load-model", "echo")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("model_transaction_policy { decoupled: true }", "is decoupled"),
        ("sequence_batching { }", "has a sequence batcher"),
    ],
)
@pytest.mark.parametrize("verb", ["search", "measure"])
def test_what_cannot_be_measured_is_refused_before_a_launch(
    tuner: Tuner, tmp_path: Path, verb: str, config: str, words: str
) -> None:
    done = tuner(verb, str(model(tmp_path, f"max_batch_size: 8 {config}")), *SLA)
    assert done.code == 2
    assert words in done.err
    assert not (tmp_path / "reports").exists()
