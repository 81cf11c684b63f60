"""Who runs on which cores: parsed, and held against what real processes report."""

import os
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tuner.cores import Cores, parse_cores
from tuner.errors import UsageError
from tuner.load.generator import LoadGenerator
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

SIXTEEN = frozenset(range(16))


@pytest.mark.parametrize(
    ("text", "server", "stubs", "load"),
    [
        ("0-3:4-11:12-15", range(4), range(4, 12), range(12, 16)),
        ("0-3:8", range(4), range(4), [8]),
        ("0,2,4-5:0,2:1", [0, 2, 4, 5], [0, 2], [1]),
        ("auto", range(4), range(4, 12), range(12, 16)),
    ],
)
def test_cores_are_parsed(text, server, stubs, load):
    cores = parse_cores(text, SIXTEEN)
    assert cores == Cores(frozenset(server), frozenset(stubs), frozenset(load))
    assert cores.serving == frozenset(server) | frozenset(stubs)


def test_without_enough_cores_all_share_them():
    assert parse_cores("none", SIXTEEN) is None
    assert parse_cores("auto", frozenset({0, 1})) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", "is not valid; write none, auto"),
        ("0-3", "is not valid; write none, auto"),
        ("3-1:4", "is not valid; write none, auto"),
        ("0::1", "is not valid; write none, auto"),
        ("0:1:2:3", "is not valid; write none, auto"),
        ("0-3:16", "core 16 is not available"),
        ("0-3:3", "must not share cores"),
        ("0:4:4", "must not share cores"),
        ("²:1", "is not valid; write none, auto"),
        ("9" * 5000 + ":1", "is not valid; write none, auto"),
        ("0-999999999999:1", "is not valid; write none, auto"),
        ("0-99999," * 1000 + "0:1", "is not valid; write none, auto"),
        (":".join(["0-99999"] * 10_000), "is not valid; write none, auto"),
    ],
)
def test_what_cannot_be_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        parse_cores(text, SIXTEEN)


def test_load_processes_leave_a_core_to_tuner_where_they_can():
    cores = parse_cores("0-3:4-11:12-15", SIXTEEN)
    assert [cores.of_worker(number) for number in range(4)] == [{13}, {14}, {15}, {13}]
    assert parse_cores("0:1", SIXTEEN).of_worker(3) == {1}


def test_load_processes_run_on_their_cores():
    first, second = sorted(os.sched_getaffinity(0))[:2]
    cores = Cores(frozenset({first}), frozenset({first}), frozenset({second}))
    with LoadGenerator(workers=2, cores=cores) as generator:
        generator._await_start()
        found = [os.sched_getaffinity(process.pid) for process in generator._processes]
    assert found == [{second}, {second}]


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_server_and_stubs_run_on_theirs(tmp_path: Path):
    first, second = sorted(os.sched_getaffinity(0))[:2]
    cores = Cores(frozenset({first}), frozenset({second}), frozenset())
    spec = ServerSpec(ROOT / "model_repository", "emulated_gpu", tmp_path / "log", 60.0)
    with (
        LocalLauncher(cores=cores) as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load("emulated_gpu", None, 60.0)
        server_pid, *children = server.pids()
        commands = {pid: " ".join(psutil.Process(pid).cmdline()) for pid in children}
        stubs = [pid for pid, command in commands.items() if "python_backend_stub" in command]
        assert stubs
        assert os.sched_getaffinity(server_pid) == {first}
        assert [os.sched_getaffinity(pid) for pid in stubs] == [{second}] * len(stubs)
