"""A probe of a real server that stalls, or whose machine does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.evaluating import Silent
from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.load.hiccups import HiccupMeter
from tuner.measurement.fitness import SETTINGS, Fitness
from tuner.measurement.probe import Prober
from tuner.measurement.watch import Thoroughness
from tuner.model.config import read_config
from tuner.records.results import ProbeRecord
from tuner.servers.local import LocalLauncher
from tuner.stats.stalls import Stall

HOW = Thoroughness(seconds=3.0, least_seconds=3.0, most_seconds=3.0, confidence=0.95)
HOLD = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
end = time.monotonic() + 0.3
while time.monotonic() < end: pass
"""


@pytest.fixture(scope="module")
def generator() -> Iterator[LoadGenerator]:
    with HiccupMeter() as meter, LoadGenerator(meter=meter) as generator:
        yield generator


@pytest.fixture(scope="module")
def running(
    repository: Path, embedded_triton: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningTriton]:
    model = repository / "emulated_gpu"
    log = tmp_path_factory.mktemp("stalls") / "log"
    with LocalLauncher() as launcher:
        deployment = TritonDeployment(launcher, model, read_config(model), "http", Inputs())
        with deployment.start(None, log) as running:
            yield running


def probe(
    running: RunningTriton, generator: LoadGenerator, folder: Path, disturb: Callable[[], None]
) -> ProbeRecord:
    """50 requests/s, disturbed after a second."""
    sla, seeds = Sla.parse("p99<100ms"), np.random.default_rng(0)
    prober = Prober(running, generator, sla, folder, "0", seeds)
    prober.warm_up(4, rounds=1)
    timer = threading.Timer(1.0, disturb)
    timer.start()
    record, _ = prober.open_loop(Arrivals.parse("constant"), 50.0, HOW, "capacity")
    timer.join()
    return record


@pytest.mark.triton
def test_a_server_that_is_stopped_stalls_by_itself(
    running: RunningTriton, generator: LoadGenerator, tmp_path: Path
) -> None:
    def stop() -> None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in running.server.pids():
                os.kill(pid, number)
            time.sleep(0.6)

    record = probe(running, generator, tmp_path, stop)
    assert record.violations > 10
    long = [s for s in record.stalls if s[2] != "foreign" and s[1] > 0.5]
    assert not long
    rest = record.undisturbed
    # Whatever else happens on this machine, what the server did itself stays in.
    assert rest is None or rest.late > 0 or rest.outcome != "met"


@pytest.mark.triton
def test_a_machine_that_stalls_is_told_from_its_server(
    running: RunningTriton, generator: LoadGenerator, tmp_path: Path
) -> None:
    done = []

    def hold() -> None:
        loops = [
            subprocess.Popen([sys.executable, "-S", "-c", HOLD, str(core)])
            for core in os.sched_getaffinity(0)
        ]
        done.extend(loop.wait() for loop in loops)

    record = probe(running, generator, tmp_path, hold)
    if any(done):
        pytest.skip("no real-time priority allowed")
    assert any(seconds > 0.15 for _, seconds, place in record.stalls if place != "foreign")
    rest = record.undisturbed
    assert rest is not None
    assert 0 < rest.left_out < 1
    assert rest.late <= record.violations
    assert ProbeRecord.model_validate_json(record.model_dump_json()) == record


class Known(HiccupMeter):
    """One that has seen these stalls already."""

    def __init__(self, stalls: list[Stall], seconds: float) -> None:
        self._stalls, self.began = stalls, time.monotonic() - seconds

    @property
    def watches(self) -> bool:
        return True

    def stalls(self, since: float, until: float = float("inf")) -> tuple[Stall, ...]:
        return tuple(self._stalls)


@pytest.mark.parametrize(
    ("limit", "length", "unfit"),
    [("20ms", 0.1, True), ("20ms", 0.008, False), ("500ms", 0.1, False)],
)
def test_a_machine_that_stalls_too_often_for_an_sla_is_said_to_be_unfit_once(
    limit: str, length: float, unfit: bool
) -> None:
    notes: list[str] = []
    stalls = [Stall(second, length, core) for second in range(5) for core in (0, 1)]
    fitness = Fitness(Known(stalls, 10.0), Sla.parse(f"p99<{limit}"), notes.append)
    fitness.check()
    fitness.check()
    assert len(notes) == unfit
    if unfit:
        assert notes[0].startswith("this machine stalls 30 times a minute, up to 100 ms")
        assert "p99 ≤ 20 ms" in notes[0]


def test_nothing_is_said_before_enough_was_seen() -> None:
    stalls = [Stall(0.1, 0.1, 0), Stall(0.3, 0.1, 0)]
    notes: list[str] = []
    meter = Known(stalls, SETTINGS.least_seconds / 2)
    Fitness(meter, Sla.parse("p99<20ms"), notes.append).check()
    Fitness(None, Sla.parse("p99<20ms"), Silent().noted).check()
    assert not notes
