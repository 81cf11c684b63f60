"""What goes wrong at the user's end: a clear message, the right exit code, nothing left behind."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Outcome

Tuner = Callable[..., Outcome]
SEARCH = ("search", "emulated_gpu", "--sla-p99", "20ms")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "nowhere/model", "--sla-p99", "20ms"), "there is no model 'nowhere/model'"),
        (("search", "text_clasifier", "--sla-p99", "20ms"), "did you mean 'text_classifier'?"),
        (("search", "emulated_gpu", "--sla-p99", "20"), "did you mean 20ms?"),
        (("search", "emulated_gpu", "--sla-p99", "fast"), "duration 'fast' is not valid"),
        (("search", "emulated_gpu", "--sla", "p99<20ms,p5"), "bound 'p5' is not valid"),
        (("search", "emulated_gpu"), "no SLA is given"),
        ((*SEARCH, "--space", "defualt"), "there is no search space 'defualt'"),
        ((*SEARCH, "--space", "missing.yaml"), "cannot read the search space missing.yaml"),
        ((*SEARCH, "--launcher", "cloud"), "launcher: "),
        ((*SEARCH, "--launcher", "attached"), "--url"),
        ((*SEARCH, "--timeout", "5"), "did you mean 5s or 5m?"),
        ((*SEARCH, "--shape", "INPUT"), "--shape 'INPUT' is not valid"),
        ((*SEARCH, "--env", "NAME"), "write it like NAME=value"),
        ((*SEARCH, "--shm-size", "12"), "size '12' needs a unit"),
        (("measure", "emulated_gpu", "--sla-p99", "20ms", "--set", "max_bach_size=3"), "did you"),
        (("measure", "emulated_gpu", "--sla-p99", "20ms", "--set", "x"), "write it like"),
        (("measure", "emulated_gpu", "--sla-p99", "20ms", "--rate", "-3"), "rate"),
        (("measure", *SEARCH[1:], "--rate", "9", "--confirm", "none"), "--confirm none for none"),
        ((*SEARCH, "--confirm", "twice"), "confirm: "),
        (("report", "nowhere"), "nowhere is not a run folder"),
        (("export", "nowhere", "--to", "x"), "nowhere is not a run folder"),
        ((*SEARCH, "--load", "gama:3"), "did you mean 'gamma'?"),
        ((*SEARCH, "--load", "gamma:0"), "as in gamma:3"),
        ((*SEARCH, "--load", "trace:nowhere.csv"), "cannot read the trace nowhere.csv"),
        ((*SEARCH, "--batch", "1:x"), "--batch '1:x' is not valid"),
        ((*SEARCH, "--shared-memory", "cuda"), "shared-memory: "),
        ((*SEARCH, "--constraint", "gpu_memroy<1GiB"), "did you mean 'gpu_memory'?"),
        ((*SEARCH, "--constraint", "cpu<=4,memory<1"), "size '1' needs a unit"),
        ((*SEARCH, "--minimize", "p99"), "add --rate"),
        ((*SEARCH, "--rate", "100"), "--rate goes with --minimize"),
        ((*SEARCH, "--run", "../evil"), "run: give a plain name such as night-1"),
        ((*SEARCH, "--shape", "INPTU:3"), "did you mean 'INPUT'?"),
        ((*SEARCH, "--input-data", "nowhere.json"), "cannot read --input-data nowhere.json"),
        ((*SEARCH, "--dry-run", "--shape", "INPTU:3"), "did you mean 'INPUT'?"),
        ((*SEARCH, "--probe-seconds", "0"), "--probe-seconds"),
        ((*SEARCH, "--dry-run", "--gpus", "abc"), "--gpus 'abc' is not valid"),
        (("remove",), "name runs, or say --older-than 30d"),
        ((*SEARCH, "--minimize", "p98", "--rate", "9"), "did you mean 'p99'?"),
        ((*SEARCH, "--minimize", "p99 + instances", "--rate", "9"), "as in p99/10ms"),
        ((*SEARCH, "--minimize", "p99", "--rate", "9", "--load", "closed"), "an open loop"),
        ((*SEARCH, "--sampler", "magic"), "sampler: "),
        ((*SEARCH, "--relaunch", "never"), "relaunch: "),
        ((*SEARCH, "--until", "0%"), "until: "),
        ((*SEARCH, "--until", "soon"), "share 'soon' is not valid"),
        ((*SEARCH, "--warm-start", "nowhere"), "nowhere is not a run folder"),
        (("simulate", "nowhere"), "nowhere is not a run folder"),
        (("search", "--no-such-option"), "No such option"),
    ],
)
def test_usage(
    refusal: Callable[..., str], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in refusal(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository / "emulated_gpu", tmp_path / "models/emulated_gpu"))


def test_storage_of_no_known_kind_makes_no_run(refusal: Callable[..., str]) -> None:
    said = refusal(*SEARCH, "--storage", "nosuch://x", code=3)
    assert "the storage nosuch://" in said
    assert "sqlite:///" in said
    assert not Path("reports").exists()


def test_config_that_does_not_parse(refusal: Callable[..., str], broken: Path) -> None:
    (broken / "config.pbtxt").write_text('name: "emulated_gpu"\nmax_batch_size: eight\n')
    said = refusal("search", str(broken), "--sla-p99", "20ms")
    assert "config.pbtxt:2:17" in said
    assert "eight" in said


def test_config_that_triton_would_refuse(refusal: Callable[..., str], broken: Path) -> None:
    config = broken / "config.pbtxt"
    config.write_text(
        config.read_text().replace(
            "dynamic_batching { }", "dynamic_batching { preferred_batch_size: 16 }"
        )
    )
    said = refusal("search", str(broken), "--sla-p99", "20ms")
    assert "preferred_batch_size 16 must lie in 1..max_batch_size (8)" in said


def test_config_is_missing(refusal: Callable[..., str], broken: Path) -> None:
    (broken / "config.pbtxt").unlink()
    said = refusal("search", str(broken), "--sla-p99", "20ms")
    assert "has no config.pbtxt" in said


def test_space_with_a_typo(refusal: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nparameters:\n  max_bach_size: [1, 2]\n")
    said = refusal(*SEARCH, "--space", "mine.yaml")
    assert "mine.yaml:3" in said
    assert "did you mean 'max_batch_size'?" in said


def test_experiment_file_with_a_typo(refusal: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "tuner.yaml").write_text("modle: emulated_gpu\n")
    said = refusal("search", "--sla-p99", "20ms")
    assert "did you mean 'model'?" in said


def test_repository_with_several_models(refusal: Callable[..., str], tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / "model_repository" / name
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(f'name: "{name}"\n')
    said = refusal("search", "--sla-p99", "20ms")
    assert "name one: one, two" in said


def test_engine_that_is_not_there(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    said = refusal(*SEARCH, "--launcher", "docker", code=3)
    assert "no Docker engine answers at unix:///nowhere/docker.sock" in said


@pytest.mark.docker
def test_image_that_cannot_be_pulled(refusal: Callable[..., str], engine: None) -> None:
    image = ("--launcher", "docker", "--image", "localhost:1/no/image:0", "--gpus=none")
    assert "localhost:1/no/image:0" in refusal(*SEARCH, *image, code=3)


@pytest.mark.slow
def test_endpoint_that_does_not_answer(tuner: Tuner) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = tuner(*SEARCH, "--launcher", "attached", "--url", f"127.0.0.1:{port}")
    assert done.code == 3
    assert f"no Triton server answers at http://127.0.0.1:{port}" in done.err
    assert "run reports/" not in done.err, "it is known before a run is made"


@pytest.mark.triton
def test_full_disk(tuner: Tuner, embedded_triton: None, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=True)
    try:
        done = tuner(*SEARCH, "--launcher", "local", "-o", str(small / "reports"))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.code == 3, done.out + done.err
    assert "free some disk space" in done.err


@pytest.mark.triton
def test_input_left_open(tuner: Tuner, embedded_triton: None, broken: Path) -> None:
    config = broken / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [ 16 ]", "dims: [ -1 ]"))
    done = tuner("search", str(broken), "--sla-p99", "20ms", "--launcher", "local")
    assert done.code == 2
    assert "--shape INPUT:N" in done.err
    fine = ("measure", str(broken), "--sla", "p90<150ms", "--rate", "100", "--launcher", "local")
    assert tuner(*fine, "--shape", "INPUT:16").code == 0
