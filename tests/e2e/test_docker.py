"""A whole run on Triton in real containers."""

from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from tests.e2e.conftest import Outcome
from tuner.model_config import from_json
from tuner.results import Run, best
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.docker import DockerLauncher

pytestmark = pytest.mark.docker
Tuner = Callable[..., Outcome]


def test_search_relaunches_containers_and_exports_a_winner(
    tuner: Tuner, test_image: str, repository: Path, tmp_path: Path
) -> None:
    done = tuner(
        *("search", str(repository / "emulated_gpu"), "--sla-p99", "120ms", "--trials", "2"),
        *("--launcher", "docker", "--image", test_image, "--gpus", "none", "--json"),
    )
    assert done.code == 0, done.err
    run = Run.open(tmp_path / done.result["run"])
    assert run.experiment()["environment"]["launcher"] == "docker"
    winner = best(run.evaluations())
    assert winner is not None
    spec = ServerSpec(run.winner, "emulated_gpu", tmp_path / "fresh.log")
    with (
        DockerLauncher(image=test_image) as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load("emulated_gpu", None, 60)
        in_force = from_json(control.config("emulated_gpu"))
        assert in_force.max_batch_size == winner.settings.get("max_batch_size", 8)
    client = docker.from_env()
    try:
        assert client.containers.list(all=True, filters={"label": "io.tuner.owner"}) == []
    finally:
        client.close()


def test_the_onnx_model_is_served_unchanged(tuner: Tuner, test_image: str) -> None:
    done = tuner(
        *("measure", "text_classifier", "--sla-p99", "500ms", "--rate", "100"),
        *("--launcher", "docker", "--image", test_image, "--gpus", "none", "--json"),
    )
    assert done.code == 0, done.err
    assert done.result["winner"]["capacity_per_second"] == 100
