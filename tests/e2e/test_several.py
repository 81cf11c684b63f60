"""Several models on one real server: mixes, pipelines, BLS, and what of them fails."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.pipelines import EmulatedModel, EmulatedPipeline
from tests.e2e.conftest import Outcome, no_server_left
from tests.e2e.test_models import ECHO, TENSORS
from tuner.model.config import parse_config
from tuner.model.repository import configs_of
from tuner.records.results import Evaluation
from tuner.records.run import Run

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]
HOW = ("--launcher", "local", "-q", "--json")
FAST, SLOW = EmulatedModel("fast", 1.0, 0.5, 0.0), EmulatedModel("slow", 6.0, 1.0, 0.0)
SPACE = """
name: small
parameters:
  max_batch_size: [4, 8]
  slow/instance_group.count: [1, 2]
"""


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    with no_server_left(tmp_path):
        yield


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    EmulatedPipeline("chain", (FAST, SLOW), "p99<300ms").repository(folder)
    return folder


@pytest.fixture
def space(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(SPACE)
    return str(file)


def run_of(done: Outcome, folder: Path) -> Run:
    return Run.open(folder / done.result["run"])


def evaluation(done: Outcome, folder: Path) -> Evaluation:
    (found,) = run_of(done, folder).evaluations()
    return found


def test_a_mix_is_searched_and_its_winner_is_a_repository_that_loads(
    tuner: Tuner, tmp_path: Path, models: Path, space: str
) -> None:
    sla = ("--sla", "fast:p90<250ms", "--sla", "slow:p90<300ms", "--mix", "fast=2,slow=1")
    done = tuner("search", str(models), *sla, "--space", space, "--timeout", "150s", *HOW)
    assert done.code == 0, done.err
    result = done.result
    assert {each["model"] for each in result["models"]} == {"fast", "slow"}
    fast, slow = result["models"]
    assert fast["capacity_per_second"] == pytest.approx(2 * slow["capacity_per_second"])
    assert result["search"]["simulated"] > 1, "the simulation chose"
    assert set(result["search"]["insight"]["alone"]) == {"fast", "slow"}
    run = run_of(done, tmp_path)
    assert {window.model for window in run.windows()} == {"fast", "slow"}
    best = next(e for e in run.evaluations() if e.trial == result["winner"]["trial"])
    for name in ("fast", "slow"):
        exported = (run.winner / name / "config.pbtxt").read_text()
        stated = configs_of(best.config)[name]
        if not best.baseline:
            assert parse_config(exported, name) == parse_config(stated, name)
    page = run.report.read_text()
    assert "Models of the mix" in page
    assert "What the two models can serve together" in page
    again = tuner(
        "measure", str(run.winner), *sla, "--rate", "30", "--output", str(tmp_path / "again"), *HOW
    )
    assert again.was_measured, again.err
    probe = evaluation(again, tmp_path).probes[-1]
    counts = {step.model: step.server.requests for step in probe.steps if step.server}
    assert counts["fast"] / counts["slow"] == pytest.approx(2, rel=0.3)
    assert probe.latency["slow p90"] is not None


def test_an_ensemble_is_searched_by_its_steps_of_which_one_is_the_bottleneck(
    tuner: Tuner, tmp_path: Path, models: Path, space: str
) -> None:
    words = ("search", str(models / "chain"), "--sla", "p90<300ms", "--space", space)
    done = tuner(*words, "--timeout", "120s", *HOW)
    assert done.code == 0, done.err
    steps = {each["model"]: each for each in done.result["steps"]}
    assert set(steps) == {"fast", "slow"}
    assert steps["fast"]["calls_per_request"] == pytest.approx(1, rel=0.1)
    busiest = max(steps, key=lambda name: steps[name]["utilization"])
    assert busiest == "slow"
    assert steps["slow"]["simulated_gain_of_one_more_instance"] > 0.5
    run = run_of(done, tmp_path)
    assert (run.winner / "chain" / "config.pbtxt").is_file()
    assert "A request&#x27;s way through the pipeline" in run.report.read_text() or (
        "A request's way through the pipeline" in run.report.read_text()
    )


def test_a_held_model_keeps_its_rate_and_a_limit_of_executions_is_set(
    tuner: Tuner, tmp_path: Path, models: Path
) -> None:
    sla = ("--sla", "fast:p90<250ms", "--sla", "slow:p90<300ms", "--mix", "fast=1")
    settings = ("--set", "rate_limit=1", "--set", "slow/max_batch_size=4")
    done = tuner("measure", str(models), *sla, "--hold", "slow=20", *settings, "--rate", "40", *HOW)
    assert done.was_measured, done.err
    found = evaluation(done, tmp_path)
    probe = found.probes[-1]
    counts = {step.model: step.server.requests for step in probe.steps if step.server}
    assert counts["fast"] / counts["slow"] == pytest.approx(2, rel=0.35)
    configs = {name: parse_config(text, name) for name, text in configs_of(found.config).items()}
    (resource,) = configs["fast"].instance_group[0].rate_limiter.resources
    assert resource.name == "tuner"
    assert configs["slow"].max_batch_size == 4


def test_the_models_that_a_model_calls_are_found_and_tuned(
    tuner: Tuner, tmp_path: Path, models: Path
) -> None:
    calling = models / "calling"
    (calling / "1").mkdir(parents=True)
    tensors = TENSORS.format(kind="TYPE_FP32", dims="16", inputs="")
    (calling / "config.pbtxt").write_text(
        f'name: "calling" backend: "python" max_batch_size: 8 dynamic_batching {{ }} {tensors}'
    )
    body = """
            asked = pb_utils.InferenceRequest(model_name="fast", requested_output_names=["OUTPUT"],
                inputs=[pb_utils.Tensor("INPUT", tensor.as_numpy())])
            if asked.exec().has_error():
                raise pb_utils.TritonModelException("it failed")"""
    (calling / "1" / "model.py").write_text(ECHO.format(body=body))
    words = ("measure", str(calling), "--sla", "p50<1s", "--rate", "20", *HOW)
    done = tuner(*words, "--bls-composing-models", "auto", "--set", "fast/max_batch_size=4")
    assert done.was_measured, done.err
    found = evaluation(done, tmp_path)
    steps = {step.model for probe in found.probes for step in probe.steps}
    assert steps == {"calling", "fast"}
    assert parse_config(configs_of(found.config)["fast"], "fast").max_batch_size == 4


def test_a_model_that_fails_only_beside_others_is_named(
    tuner: Tuner, tmp_path: Path, models: Path
) -> None:
    file = models / "slow" / "config.pbtxt"
    text = file.read_text()
    entry = '{ key: "most_items" value: { string_value: "8" } },'
    file.write_text(text.replace("parameters [\n", f"parameters [\n  {entry}\n", 1))
    sla = ("--sla", "fast:p90<250ms", "--sla", "slow:p90<300ms")
    done = tuner(
        "measure", str(models), *sla, "--set", "slow/max_batch_size=16", "--rate", "10", *HOW
    )
    assert done.code == 3
    found = evaluation(done, tmp_path)
    assert found.cause == "out of memory"
    assert "slow does not load beside 1 other:" in (found.failure or "")
    assert json.loads(done.out.splitlines()[-1])["failed"] == 1
