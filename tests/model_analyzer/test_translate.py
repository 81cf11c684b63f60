"""What becomes of each entry of a Model Analyzer configuration: nothing is dropped silently."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tuner.cli.app import app
from tuner.commands.importing import import_configuration
from tuner.errors import UsageError
from tuner.experiment.resolve import resolve
from tuner.model.space_file import load_space
from tuner.model_analyzer.translate import Translated, Translation, translate

FULL = """
model_repository: /models
checkpoint_directory: /tmp/c
run_config_search_mode: quick
run_config_search_max_model_batch_size: 16
run_config_search_min_model_batch_size: 4
run_config_search_max_instance_count: 3
client_protocol: grpc
latency_budget: 20
triton_launch_mode: docker
triton_docker_image: nvcr.io/nvidia/tritonserver:25.01-py3
triton_docker_shm_size: 2g
triton_docker_mounts: ["/a:/b"]
triton_server_flags: {log_verbose: true, strict_model_config: false}
triton_server_environment: {OMP_NUM_THREADS: 1}
gpus: [0, 1]
perf_analyzer_flags: {shape: "INPUT0:16", percentile: 95, streaming: true}
profile_models: [detector]
"""


def translated(text: str) -> tuple[Translated, Translation]:
    translation = translate(yaml.safe_load(text))
    (only,) = translation.experiments
    return only, translation


def fates(translation: Translation) -> dict[str, str]:
    return {note.place: note.fate for note in translation.notes.found}


def test_a_whole_configuration_is_taken_over() -> None:
    made, translation = translated(FULL)
    assert made.fields == {
        "model": "/models/detector",
        "launcher": "docker",
        "image": "nvcr.io/nvidia/tritonserver:25.01-py3",
        "shm_size": 2 << 30,
        "gpus": "0,1",
        "server_args": ["--log-verbose=true"],
        "env": ["OMP_NUM_THREADS=1"],
        "protocol": "grpc",
        "sla": "p99<20ms",
        "shapes": ["INPUT0:16"],
    }
    assert made.space is not None
    assert made.space["max_batch_size"] == [4, 8, 16]
    assert made.space["instance_group.count"] == {"range": [1, 3]}
    found = fates(translation)
    assert found["checkpoint_directory"] == "needless"
    assert found["triton_docker_mounts"] == "not taken"
    assert found["perf_analyzer_flags.streaming"] == "not taken"
    assert found["server_args: --strict-model-config=false"] == "not taken"


@pytest.mark.parametrize("entry", yaml.safe_load(FULL))
def test_every_entry_leaves_a_trace(entry: str) -> None:
    made, translation = translated(FULL)
    if entry in ("model_repository", "profile_models"):
        assert made.fields["model"] == "/models/detector"
        return
    assert any(note.place.startswith(entry) for note in translation.notes.found)


def test_parameters_are_swept_where_they_are_lists() -> None:
    text = """
    profile_models:
      m:
        constraints: {perf_latency_p99: {max: 50}, gpu_used_memory: {max: 200}}
        model_config_parameters:
          max_batch_size: 8
          dynamic_batching:
            preferred_batch_size: [[4, 8], [16]]
            max_queue_delay_microseconds: [200, 300]
          instance_group: [{kind: KIND_GPU, count: [1, 2]}]
          parameters: {threads: {string_value: ["1", "2"]}}
    """
    made, translation = translated(text)
    assert made.space == {
        "max_batch_size": [8],
        "dynamic_batching.preferred_batch_size": [[4, 8], [16]],
        "dynamic_batching.max_queue_delay_microseconds": [200, 300],
        "instance_group.count": [1, 2],
        "parameters[threads]": ["1", "2"],
    }
    assert made.fields["sla"] == "p99<50ms"
    assert made.fields["constraints"] == ["gpu_memory<200MB"]
    kind = next(n for n in translation.notes.of("not taken") if n.place.endswith(".kind"))
    assert "KIND_GPU" in kind.text


def test_groups_that_are_swept_are_counts() -> None:
    text = """
    profile_models: {m: {model_config_parameters: {instance_group: [[{count: 1}], [{count: 4}]]}}}
    """
    made, _ = translated(text)
    assert made.space == {"instance_group.count": [1, 4]}


def test_models_one_by_one_and_at_once() -> None:
    text = """
    constraints: {perf_latency_p99: {max: 50}}
    profile_models:
      a: {weighting: 2, model_config_parameters: {max_batch_size: [1, 2]}}
      b: {constraints: {perf_latency_p95: {max: 10}}}
    """
    settings = yaml.safe_load(text)
    one, other = translate(settings).experiments
    assert (one.fields["sla"], other.fields["sla"]) == ("p99<50ms", "p95<10ms")
    (both,) = translate(
        {**settings, "run_config_profile_models_concurrently_enable": True}
    ).experiments
    assert both.fields["sla"] == "a:p99<50ms,b:p95<10ms"
    assert both.fields["mix"] == "a=1,b=1"
    assert both.space == {"a/max_batch_size": [1, 2]}


def test_composing_models_are_parts_of_the_space() -> None:
    text = """
    profile_models: pipeline
    bls_composing_models: {inner: {model_config_parameters: {max_batch_size: [4, 8]}}}
    """
    made, _ = translated(text)
    assert made.fields["bls_composing_models"] == ["inner"]
    assert made.space == {"inner/max_batch_size": [4, 8]}


def test_a_remote_server_is_attached_to() -> None:
    made, _ = translated("triton_launch_mode: remote\nprofile_models: m")
    assert made.fields["launcher"] == "attached"
    assert made.fields["url"] == "localhost:8000"
    assert made.lacks_sla


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "profile_models is missing"),
        ("[1]", "no mapping"),
        ("profile_models: 3", "no list of names"),
        ("profile_models: m\nbatch_sizes: {start: 1, stop: 99999999}", "too many"),
        ("profile_models: m\nbatch_sizes: x", "no whole number"),
        ("profile_models: {m: 3}", "no mapping"),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        translate(yaml.safe_load(text))


LEAVES = st.none() | st.booleans() | st.integers(-5, 300) | st.text("ab,_.{", max_size=6)
KNOWN = st.sampled_from(
    (
        *yaml.safe_load(FULL),
        *("constraints", "objectives", "model_config_parameters", "parameters", "instance_group"),
        *("dynamic_batching", "bls_composing_models", "count", "max", "start"),
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KNOWN, VALUES, max_size=5))
def test_anything_is_translated_or_refused(settings: dict[str, Any]) -> None:
    try:
        translation = translate({"profile_models": "m", **settings})
    except UsageError:
        return
    for made in translation.experiments:
        yaml.safe_dump([made.fields, made.space])


def test_the_files_are_what_a_search_reads(tmp_path: Path) -> None:
    source = tmp_path / "analyzer.yaml"
    source.write_text(FULL.replace("/models", str(tmp_path)))
    imported = import_configuration(source, tmp_path / "tuning")
    experiment, space = imported.files
    made = resolve({"model": "emulated_gpu"}, experiment)
    assert made.sla.text == "p99<20ms"
    assert made.space == str(space)
    assert load_space(made.space).parameters["max_batch_size"].values == (4, 8, 16)
    assert imported.commands == (f"tuner search --config {experiment}",)
    with pytest.raises(UsageError, match="exists; choose another folder"):
        import_configuration(source, tmp_path / "tuning")


def test_the_command_prints_what_became_of_each_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("analyzer.yaml").write_text("profile_models: m\ntriton_launch_mode: c_api\nnonsense: 1")
    done = CliRunner().invoke(app, ["import", "analyzer.yaml"])
    assert done.exit_code == 0, done.output
    assert "c_api" in done.stdout
    assert "nonsense" in done.stdout
    assert "NOT taken over" in done.stdout
    assert "next: tuner search --sla-p99 DURATION" in done.stdout
    assert Path("tuner.yaml").is_file()


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("a: [1")
    done = CliRunner().invoke(app, ["import", str(file)])
    assert done.exit_code == 2
    assert f"{file}:" in done.stderr
