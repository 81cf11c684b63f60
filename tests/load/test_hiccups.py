"""What the hiccup meter calls a stall of the machine, and what it does not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tuner.load.hiccup_process import HEAD, SLOT_BYTES
from tuner.load.hiccups import HiccupMeter
from tuner.stats.stalls import Stall

BUSY = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\n"
BUSY += "while time.monotonic() < end: pass"
CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture
def meter() -> Iterator[HiccupMeter]:
    with HiccupMeter() as meter:
        wait_for(lambda: meter.watches)
        yield meter


def wait_for(there: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def busy(seconds: float, first: str = "") -> "subprocess.Popen[bytes]":
    """A process that does nothing else, after the lines ``first``."""
    return subprocess.Popen([sys.executable, "-S", "-c", first + BUSY, str(seconds)])


def held(core: int) -> str:
    """Lines with which a process takes a core for itself, as ``taskset`` and ``chrt -f 50`` do."""
    return (
        f"import os\nos.sched_setaffinity(0, {{{core}}})\n"
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))\n"
    )


needs_real_time = pytest.mark.skipif(
    busy(0, held(CORES[0])).wait() != 0, reason="no real-time priority allowed"
)


def of_core(stalls: tuple[Stall, ...]) -> float:
    return sum(stall.seconds for stall in stalls if stall.core is not None)


@needs_real_time
def test_what_holds_every_core_in_real_time_is_a_stall_of_the_machine(meter: HiccupMeter) -> None:
    began = time.monotonic()
    loops = [busy(0.3, held(core)) for core in CORES]
    assert [loop.wait() for loop in loops] == [0] * len(CORES)
    for core in CORES:
        wait_for(
            lambda core=core: any(
                stall.core == core and stall.seconds > 0.15 for stall in meter.stalls(began)
            )
        )


def test_a_stall_in_progress_is_told(meter: HiccupMeter) -> None:
    """As the process hangs that watches a core, so would the machine."""
    began = time.monotonic()
    assert meter._process is not None
    first = psutil.Process(meter._process.pid).children()[0]
    first.suspend()
    try:
        wait_for(lambda: of_core(meter.stalls(began)) > 0.1)
    finally:
        first.resume()


@needs_real_time
def test_a_server_that_uses_all_cores_is_no_stall_of_the_machine(meter: HiccupMeter) -> None:
    loops = [busy(600) for _ in range(2 * len(CORES))]
    try:
        meter.follow(tuple(loop.pid for loop in loops))
        began = time.monotonic()
        time.sleep(2.0)
        share = of_core(meter.stalls(began)) / (time.monotonic() - began) / len(CORES)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert share < 0.25


def test_a_server_that_is_stopped_is_no_stall_of_the_machine(meter: HiccupMeter) -> None:
    server = busy(600)
    try:
        meter.follow((server.pid,))
        began = time.monotonic()
        for _ in range(3):
            server.send_signal(signal.SIGSTOP)
            time.sleep(0.3)
            server.send_signal(signal.SIGCONT)
            time.sleep(0.2)
        stalls = [s for s in meter.stalls(began) if s.core is not None]
    finally:
        server.kill()
        server.wait()
    # Even on a machine that stalls by itself, hardly three times for so long in so short a time.
    assert sum(stall.seconds > 0.25 for stall in stalls) < 3


@needs_real_time
def test_without_real_time_priority_competition_is_no_stall(tmp_path: Path) -> None:
    """What kept the watching process waiting was another one, perhaps the server."""
    board = tmp_path / "board"
    board.write_bytes(bytes(SLOT_BYTES))
    core = CORES[0]
    code = (
        "import mmap, sys\nfrom tuner.load.hiccup_process import SLOT_BYTES, Slot, watch_core\n"
        f"file = open({str(board)!r}, 'r+b')\nboard = mmap.mmap(file.fileno(), SLOT_BYTES)\n"
        f"watch_core(Slot(board, 0), {core}, False)"
    )
    watching = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(lambda: np.fromfile(board)[1] > 0)
        rounds = [busy(0.3, held(core)).wait() for _ in range(3)]
        assert rounds == [0, 0, 0]
        time.sleep(0.1)
    finally:
        watching.kill()
        watching.wait()
    row = np.fromfile(board)
    lengths = row[HEAD + 1 : HEAD + 2 * int(row[0]) : 2]
    assert np.count_nonzero(lengths > 0.2) < 3


def test_another_process_that_takes_a_core_is_told(meter: HiccupMeter) -> None:
    server = busy(600)
    stranger = None
    try:
        meter.follow((server.pid,))
        began = time.monotonic()
        # Its parent ends at once, so that it is no descendant of this process.
        command = [sys.executable, "-S", "-c", BUSY, "60"]
        told = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid)"
        first = subprocess.run(
            [sys.executable, "-c", told, *command], stdout=subprocess.PIPE, check=True
        )
        stranger = psutil.Process(int(first.stdout))
        wait_for(lambda: any(s.core is None for s in meter.stalls(began)))
    finally:
        server.kill()
        server.wait()
        if stranger is not None:
            stranger.kill()


def test_nobody_is_called_foreign_where_the_server_cannot_be_seen(meter: HiccupMeter) -> None:
    meter.follow(())
    time.sleep(0.2)
    began = time.monotonic()
    time.sleep(1.0)
    assert not [s for s in meter.stalls(began) if s.core is None and s.start > 0]


def test_the_processes_end_with_the_meter() -> None:
    with HiccupMeter() as meter:
        wait_for(lambda: meter.watches)
        assert meter._process is not None
        root = psutil.Process(meter._process.pid)
        processes = [root, *root.children()]
        assert len(processes) == 1 + len(CORES)
    wait_for(lambda: not any(p.is_running() and p.status() != "zombie" for p in processes))


def test_the_processes_end_when_their_owner_is_killed() -> None:
    code = (
        "import time\nfrom tuner.load.hiccups import HiccupMeter\nmeter = HiccupMeter()\n"
        "while not meter.watches: time.sleep(0.01)\n"
        "print(meter._process.pid, flush=True)\ntime.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    root = psutil.Process(int(owner.stdout.readline()))
    processes = [root, *root.children()]
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait_for(lambda: not any(p.is_running() and p.status() != "zombie" for p in processes))
