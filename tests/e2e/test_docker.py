"""Whole runs on Triton in real containers."""

from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from tests.contracts.test_docker import mine
from tests.e2e.conftest import Outcome, sleepy_model
from tuner.model.config import from_json
from tuner.records.results import State, best
from tuner.records.run import Run
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.docker import ContainerSpec, DockerLauncher

pytestmark = pytest.mark.docker
Tuner = Callable[..., Outcome]


def test_search_relaunches_containers_and_the_model_as_found_wins(
    tuner: Tuner, test_image: str, repository: Path, tmp_path: Path
) -> None:
    """The only other candidate cannot load, for a reason that only its own settings give."""
    model = sleepy_model(repository, tmp_path, max_batch_size=4, base_ms=20)
    (tmp_path / "space.yaml").write_text(
        "parameters:\n  parameters[base_us]: ['20000', 'nonsense']\n"
    )
    done = tuner(
        *(
            "search",
            str(model),
            "--sla",
            "p90<100ms",
            "--load",
            "constant",
            "--space",
            "space.yaml",
            "--confirm",
            "none",
        ),
        *("--launcher", "docker", "--image", test_image, "--gpus", "none", "--json"),
    )
    assert done.code == 0, done.err
    run = Run.open(tmp_path / done.result["run"])
    assert run.manifest().environment.launcher == "docker"
    evaluations = run.evaluations()
    assert [(e.phase, e.state) for e in evaluations] == [
        ("search", State.OK),
        ("search", State.FAILED),
    ]
    assert "base_us is 'nonsense'" in (evaluations[1].failure or "")
    winner = best(evaluations)
    assert winner is not None
    assert winner.baseline
    own = (model / "config.pbtxt").read_bytes()
    assert (run.winner / "emulated_gpu/config.pbtxt").read_bytes() == own
    spec = ServerSpec(run.winner, "emulated_gpu", tmp_path / "fresh.log")
    with (
        DockerLauncher(ContainerSpec(image=test_image)) as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load("emulated_gpu", None, 60)
        assert from_json(control.config("emulated_gpu")).max_batch_size == 4
    client = docker.from_env()
    try:
        assert mine(client, done.pid) == []
    finally:
        client.close()


def test_the_onnx_model_is_served_unchanged(tuner: Tuner, test_image: str) -> None:
    done = tuner(
        *("measure", "text_classifier", "--sla", "p90<500ms", "--rate", "30"),
        *("--launcher", "docker", "--image", test_image, "--gpus", "none", "--json"),
    )
    assert done.code == 0, done.err
    assert done.result["winner"]["capacity_per_second"] == 30
