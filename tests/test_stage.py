from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.deployments.stage import Stage
from tuner.deployments.triton import Inputs, Running, TritonDeployment
from tuner.errors import ServerFailed
from tuner.load.target import Protocol
from tuner.model_config import read_config
from tuner.servers.local import LocalLauncher
from tuner.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]


def candidate(largest: int, count: int) -> Candidate:
    return Candidate.of({MAX_BATCH_SIZE: largest, INSTANCE_COUNT: count})


@pytest.fixture(scope="module")
def deployment(repository: Path) -> Iterator[TritonDeployment]:
    model = repository / "emulated_gpu"
    with LocalLauncher() as launcher:
        yield TritonDeployment(launcher, model, read_config(model), Protocol.HTTP, Inputs(), 60.0)


@pytest.fixture
def stage(deployment: TritonDeployment) -> Iterator[Stage]:
    with Stage(deployment) as stage:
        yield stage


def processes(running: Running) -> tuple[int, ...]:
    return running._server.pids()[:1]


def test_a_server_is_kept_where_only_instances_differ(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with stage.server(candidate(8, 1), log, keep=True) as first:
        assert stage.is_fresh
        before = processes(first)
    with stage.server(candidate(8, 3), log, keep=True) as second:
        assert not stage.is_fresh
        assert processes(second) == before
        assert len(second._server.pids()) > 3  # one process for each instance, and the server
    with stage.server(candidate(16, 3), log, keep=True) as third:
        assert stage.is_fresh
        assert processes(third) != before


def test_who_does_not_keep_gets_a_fresh_one(stage: Stage, tmp_path: Path) -> None:
    with stage.server(candidate(8, 1), tmp_path / "log", keep=True) as first:
        before = processes(first)
    with stage.server(candidate(8, 2), tmp_path / "log", keep=False) as second:
        assert stage.is_fresh
        assert processes(second) != before
    assert second._server.exit_reason() is not None


def test_the_model_as_found_is_always_launched(stage: Stage, tmp_path: Path) -> None:
    for _ in range(2):
        with stage.server(None, tmp_path / "log", keep=True):
            assert stage.is_fresh


def test_after_an_error_the_server_is_gone(stage: Stage, tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed),
        stage.server(candidate(8, 1), tmp_path / "log", keep=True) as running,
    ):
        raise ServerFailed("as a probe may find")
    assert running._server.exit_reason() is not None
    with stage.server(candidate(8, 2), tmp_path / "log", keep=True):
        assert stage.is_fresh


@pytest.mark.parametrize(
    ("other", "can"), [(candidate(8, 4), True), (candidate(4, 1), False)], ids=["count", "batch"]
)
def test_only_instances_can_be_changed(
    deployment: TritonDeployment, other: Candidate, can: bool
) -> None:
    assert deployment.can_change(candidate(8, 1), other) is can
