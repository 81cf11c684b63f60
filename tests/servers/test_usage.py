"""What servers use, from real processes and from what Docker engines say."""

import math
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tuner.servers.base import Endpoints, ResourceUsage
from tuner.servers.docker_usage import usage_of
from tuner.servers.host_watch import HostWatch, stolen
from tuner.servers.program import LocalServer

BURN = "import time\nwhile time.process_time() < {}: pass\n"
PARENT = f"""
import signal, subprocess, sys
if "unwaited" in sys.argv:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
block = bytearray(64 * 2**20)
child = subprocess.Popen([sys.executable, "-c", {BURN.format(0.3) + "input()"!r}],
                         stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
print("ready", flush=True)
input()
child.communicate(b"\\n")
print("ended", flush=True)
input()
"""


@pytest.fixture(params=["waited", "unwaited"])
def process(request: pytest.FixtureRequest) -> "Iterator[subprocess.Popen[bytes]]":
    """A parent of 64 MiB whose child spends 0.3 s of CPU, and ends when it is told to."""
    command = [sys.executable, "-c", PARENT, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def tell(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    return process.stdout.readline()


def server_of(process: "subprocess.Popen[bytes]", tmp_path: Path) -> LocalServer:
    return LocalServer(process, Endpoints("127.0.0.1:1"), tmp_path / "log")


def wait_for_cpu(server: LocalServer, seconds: float) -> ResourceUsage:
    while True:
        usage = server.usage()
        assert usage is not None
        if usage.cpu >= seconds:
            return usage


def test_a_child_that_ends_takes_no_cpu_time_back(
    process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    server = server_of(process, tmp_path)
    before = wait_for_cpu(server, 0.3)
    assert before.processes == 2
    assert before.memory is not None
    assert before.memory > 64 * 2**20
    assert tell(process) == b"ended\n"
    after = server.usage()
    assert after is not None
    assert after.processes == 1
    assert after.cpu >= before.cpu
    assert after.memory is not None
    assert after.memory < before.memory


def test_a_server_that_ended_uses_nothing_that_is_known(
    process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    server = server_of(process, tmp_path)
    with HostWatch(server) as watch:
        psutil.Process(process.pid).kill()
        process.wait()
    assert server.usage() is None
    reading = watch.reading(client_cpu=0.0)
    assert reading is not None
    assert reading.cpu is None
    assert reading.memory is not None, "what was seen before is kept"


def test_a_zombie_is_no_server(process: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    server = server_of(process, tmp_path)
    child = psutil.Process(process.pid)
    child.kill()
    while child.status() != psutil.STATUS_ZOMBIE:
        pass
    assert server._tree.usage() is None


def test_memory_shared_after_a_fork_counts_once(tmp_path: Path) -> None:
    code = (
        "import os\nblock = bytearray(b'1' * (96 * 2**20))\nos.fork()\n"
        "os.write(1, b'.')\nos.read(0, 1)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b".."
        usage = server_of(process, tmp_path).usage()
        each = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        resident = sum(one.memory_info().rss for one in each)
        process.communicate()
    assert usage is not None
    assert usage.processes == 2
    assert usage.memory is not None
    assert 96 * 2**20 < usage.memory < resident - 64 * 2**20


def test_before_the_end_there_is_no_reading(
    process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    watch = HostWatch(server_of(process, tmp_path))
    assert watch.reading(1.0) is None


def times(**seconds: float) -> Any:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest")
    known = dict.fromkeys((*names, "guest_nice"), 0.0)
    return namedtuple("times", known)(**{**known, **seconds})


def test_time_that_the_hypervisor_took_is_a_share_of_the_busy_time() -> None:
    before = times(user=10.0, idle=100.0, steal=1.0)
    after = times(user=13.0, idle=150.0, iowait=5.0, steal=2.0)
    assert stolen(before, after) == pytest.approx(0.25)
    assert stolen(before, times(user=10.0, idle=150.0, steal=1.0)) == 0.0
    assert stolen(before, namedtuple("mac", ("user", "idle"))(1.0, 2.0)) is None


V2 = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
    "memory_stats": {
        "usage": 900,
        "limit": 10**9,
        "stats": {"file": 500, "shmem": 80, "anon": 300},
    },
    "pids_stats": {"current": 31},
}
V1 = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000, "percpu_usage": [1, 2]}},
    "memory_stats": {"usage": 900, "stats": {"cache": 500, "total_cache": 500, "total_shmem": 80}},
    "pids_stats": {"current": 31},
}


@pytest.mark.parametrize("stats", [V1, V2], ids=["cgroup v1", "cgroup v2"])
def test_a_container_is_read_without_the_page_cache(stats: Any) -> None:
    assert usage_of(stats) == ResourceUsage(cpu=2.5, memory=900 - 420, processes=31)


def test_cgroup_v1_without_shared_memory_in_its_statistics() -> None:
    stats = {**V1, "memory_stats": {"usage": 900, "stats": {"cache": 500}}}
    assert usage_of(stats) == ResourceUsage(cpu=2.5, memory=400, processes=31)


def test_a_group_that_does_not_tell_its_cache_has_no_memory_that_is_known() -> None:
    usage = usage_of({**V2, "memory_stats": {"usage": 900}})
    assert usage == ResourceUsage(cpu=2.5, memory=None, processes=31)


@pytest.mark.parametrize(
    "stats",
    [
        None,
        {},
        "gone",
        {"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}, "pids_stats": {}},
        {**V2, "cpu_stats": None},
        {**V2, "cpu_stats": {"cpu_usage": {"total_usage": math.nan}}},
        {**V2, "cpu_stats": {"cpu_usage": {"total_usage": "2500000000"}}},
        {**V2, "cpu_stats": {"cpu_usage": {"total_usage": -1}}},
        {**V2, "memory_stats": {"usage": math.inf, "stats": {"file": 1}}},
    ],
    ids=str,
)
def test_a_container_that_ended_or_an_answer_that_is_none(stats: Any) -> None:
    assert usage_of(stats) is None
