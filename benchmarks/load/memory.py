"""tuner's own memory: over five hundred trials, and over a probe of ten million requests.

The trials are a real search of a real space, with records of the committed sample run in the place
of measurements. The probe's requests are written to the boards of two load processes as these would
write them; all that is then made of them is real. Each row is a process of its own.
"""

import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.load.bench import ROOT, Row
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.board import OK, Board
from tuner.load.generator import LoadResult
from tuner.measurement.recording import OfferedLoad, ProbeReadings, probe_record, save_samples
from tuner.measurement.settings import SEARCH_PROBE
from tuner.measurement.watch import ProbeWatch
from tuner.model.config import fit_space, own_settings, read_config
from tuner.model.space_file import parse_space
from tuner.optimizer.samplers.choose import make_sampler
from tuner.optimizer.stopping import Budget
from tuner.optimizer.study import Study
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.report.page import write_report
from tuner.stats.samples import Samples

TRIALS, REQUESTS, WORKERS = 500, 10_000_000, 2
RATE = 20_000.0
SLA = "p99<20ms"
_SPACE = """
parameters:
  max_batch_size: {range: [2, 128]}
  max_queue_delay_microseconds: [0, 100, 200, 500, 1000, 2000, 5000]
  instance_count: {range: [1, 8]}
"""
_EARLY = 100
"""Trials after which all modules are there."""


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    rows: dict[str, Row] = {
        f"{TRIALS} trials, {sampler}": _alone(_trials, sampler) for sampler in ("random", "tpe")
    }
    for requests in (REQUESTS // 10, REQUESTS):
        rows[f"a probe of {requests:,} requests"] = _alone(_probe, requests)
    return rows, [
        f"per trial is the growth from trial {_EARLY} to trial {TRIALS}, records included; the "
        "report is written at the end, and counts for the peak",
        "of a probe, memory at first is that before it; the boards (32 bytes for each request) "
        "are in shared memory and count for the peak",
    ]


def _alone(function: Callable[[Any], Row], argument: Any) -> Row:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, argument).result()


class _Recorded:
    """Measures nothing: each candidate gets a record of the sample run, with another capacity."""

    def __init__(self) -> None:
        found = Run.open(ROOT / "reports" / "sample").evaluations()
        self._records = [each for each in found if each.phase == "search" and each.capacity]
        self._rng = np.random.default_rng(0)

    def search(
        self, subject: Any, to_beat: float, phase: Any = "search", expected: float = 0.0
    ) -> Evaluation:
        record = self._records[subject.trial % len(self._records)]
        return record.model_copy(
            update={
                "trial": subject.trial,
                "phase": phase,
                "baseline": subject.baseline,
                "settings": dict(subject.candidate.settings),
                "capacity": (record.capacity or 0.0) * self._rng.uniform(0.5, 1.5),
            }
        )

    def calibrate(self, plan: Any, /) -> list[Any]:
        raise NotImplementedError

    def confirm(self, subjects: Any, look: int, /) -> list[Evaluation]:
        raise NotImplementedError


def _trials(sampler: str) -> Row:
    config = read_config(ROOT / "model_repository" / "emulated_gpu")
    space = fit_space(parse_space(_SPACE, "benchmarks/load/memory.py"), config)
    seen: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(ROOT / "reports" / "sample")
        run = Run.create(Path(folder) / "run", run.manifest())
        study = Study(
            run, space, own_settings(space, config), _Recorded(), make_sampler(sampler, 0)
        )

        def heard(evaluation: Evaluation) -> None:
            run.append(evaluation)
            seen.append(_memory())

        study.search(Budget(trials=TRIALS, seconds=1e6, confirms=False), heard)
        study.finish("the end of the benchmark")
        write_report(run)
    return {
        "memory_before": round(seen[_EARLY], 1),
        "memory_after": round(seen[-1], 1),
        "per_trial": round(1024 * (seen[-1] - seen[_EARLY]) / (len(seen) - _EARLY), 1),
        "peak": round(_peak(), 1),
    }


def _probe(requests: int) -> Row:
    sla, rng = Sla.parse(SLA), np.random.default_rng(0)
    before = _memory()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        times = schedule(Arrivals.POISSON, RATE, requests / RATE, rng)
        boards = []
        for number in range(WORKERS):
            share = times[number::WORKERS]
            board = Board.create(Path(folder) / str(number), len(share))
            board.intended[:] = board.sent[:] = share
            board.done[:] = share + rng.exponential(0.003, len(share))
            board.status[:] = OK
            boards.append(board)
        watch = ProbeWatch(sla, SEARCH_PROBE)
        for until in np.linspace(0.1, 1.0, 10) * times[-1]:
            watch(Samples.merge([board.samples(0.0, until) for board in boards]))
        samples = Samples.merge([board.samples(0.0) for board in boards])
        verdict = watch.final(samples)
        offer = OfferedLoad("measure", "poisson", RATE)
        readings = ProbeReadings(None, None, None, None)
        file = save_samples(samples, Path(folder), "samples")
        result = LoadResult(samples, 1.0, stopped=False)
        probe_record(offer, result, verdict, sla, readings, 0, 1.0, file)
    return {
        "memory_before": round(before, 1),
        "memory_after": round(_memory(), 1),
        "peak": round(_peak(), 1),
    }


def _memory() -> float:
    """MiB that this process holds."""
    return float(psutil.Process().memory_info().rss) / 2**20


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
