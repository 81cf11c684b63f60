import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.deployments.slot import ServerSlot
from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.errors import ServerFailed
from tuner.load.target import Transport
from tuner.model.config import read_config, to_text
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]


AS_FOUND = Subject(0, baseline=True)


def candidate(largest: int, count: int) -> Subject:
    return Subject(0, Candidate.of({MAX_BATCH_SIZE: largest, INSTANCE_COUNT: count}))


@pytest.fixture(scope="module")
def deployment(repository: Path) -> Iterator[TritonDeployment]:
    model = repository / "emulated_gpu"
    with LocalLauncher() as launcher:
        yield TritonDeployment(launcher, model, read_config(model), Transport.HTTP, Inputs(), 60.0)


@pytest.fixture
def slot(deployment: TritonDeployment) -> Iterator[ServerSlot]:
    with ServerSlot(TritonCandidates(deployment)) as slot:
        yield slot


def processes(running: RunningTriton) -> tuple[int, ...]:
    return running.server.pids()[:1]


def test_a_server_is_kept_where_only_instances_differ(slot: ServerSlot, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with slot.server(candidate(8, 1), log, keep=True) as first:
        assert slot.is_fresh
        before = processes(first)
    with slot.server(candidate(8, 3), log, keep=True) as second:
        assert not slot.is_fresh
        assert processes(second) == before
        assert len(second.server.pids()) > 3  # one process for each instance, and the server
    with slot.server(candidate(16, 3), log, keep=True) as third:
        assert slot.is_fresh
        assert processes(third) != before


def test_who_does_not_keep_gets_a_fresh_one(slot: ServerSlot, tmp_path: Path) -> None:
    with slot.server(candidate(8, 1), tmp_path / "log", keep=True) as first:
        before = processes(first)
    with slot.server(candidate(8, 2), tmp_path / "log", keep=False) as second:
        assert slot.is_fresh
        assert processes(second) != before
    assert second.server.exit_reason() is not None


def test_the_model_as_found_is_always_launched(slot: ServerSlot, tmp_path: Path) -> None:
    for _ in range(2):
        with slot.server(AS_FOUND, tmp_path / "log", keep=True):
            assert slot.is_fresh


def test_after_an_error_the_server_is_gone(slot: ServerSlot, tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed),
        slot.server(candidate(8, 1), tmp_path / "log", keep=True) as running,
    ):
        raise ServerFailed("as a probe may find")
    assert running.server.exit_reason() is not None
    with slot.server(candidate(8, 2), tmp_path / "log", keep=True):
        assert slot.is_fresh


def test_a_server_that_has_ended_meanwhile_is_launched_anew(
    slot: ServerSlot, tmp_path: Path
) -> None:
    with slot.server(candidate(8, 1), tmp_path / "log", keep=True) as running:
        (pid,) = processes(running)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with slot.server(candidate(8, 2), tmp_path / "log", keep=True) as second:
        assert slot.is_fresh
        assert processes(second) != (pid,)


@pytest.mark.parametrize(
    ("other", "can"), [(candidate(8, 4), True), (candidate(4, 1), False)], ids=["count", "batch"]
)
def test_only_instances_can_be_changed(
    deployment: TritonDeployment, other: Subject, can: bool
) -> None:
    candidates = TritonCandidates(deployment)
    assert candidates.can_change(candidate(8, 1), other) is can
    assert not candidates.can_change(AS_FOUND, other)
    assert not candidates.can_change(candidate(8, 1), AS_FOUND)


COMPLETING = """\


def completing(config):
    config.set_dynamic_batching()
    return config


TritonPythonModel.auto_complete_config = staticmethod(completing)
"""


def completes(log: Path) -> bool:
    """Whether the server of this log was to complete configurations."""
    found = re.search(r"strict_model_config +\| (\d)", log.read_text())
    assert found
    return found[1] == "0"


def test_completion_is_left_out_where_it_had_nothing_to_add(
    deployment: TritonDeployment, tmp_path: Path
) -> None:
    deployment = TritonDeployment(
        *(deployment._launcher, deployment._model, deployment._config),
        *(Transport.HTTP, Inputs(), 60.0),
    )
    said = []
    for number, (subject, as_served) in enumerate(
        [
            (candidate(8, 1), False),
            (candidate(4, 1), False),
            (candidate(4, 1), True),
            (AS_FOUND, False),
        ]
    ):
        log = tmp_path / str(number)
        with (
            ServerSlot(TritonCandidates(deployment), as_served) as slot,
            slot.server(subject, log, keep=False),
        ):
            pass
        said.append(completes(log))
    assert said == [True, False, True, True]


def test_completion_stays_where_the_model_completes_itself(
    deployment: TritonDeployment, repository: Path, tmp_path: Path
) -> None:
    model = tmp_path / "models/emulated_gpu"
    shutil.copytree(repository / "emulated_gpu", model)
    with (model / "1/model.py").open("a") as code:
        code.write(COMPLETING)
    config = read_config(model)
    config.ClearField("dynamic_batching")
    (model / "config.pbtxt").write_text(to_text(config))
    completed = TritonDeployment(
        deployment._launcher, model, config, Transport.HTTP, Inputs(), 60.0
    )
    with ServerSlot(TritonCandidates(completed)) as slot:
        for number, largest in enumerate((8, 4)):
            log = tmp_path / str(number)
            with slot.server(candidate(largest, 1), log, keep=True):
                pass
            assert completes(log)
