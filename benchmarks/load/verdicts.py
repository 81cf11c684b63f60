"""How often verdicts are wrong, and how many requests they take: on queues with closed forms."""

import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from benchmarks.load.bench import Row
from benchmarks.queues import Queue, md1, md1_share, mm1, mm1_share, rate_at
from tuner.samples import Samples
from tuner.sla import Bound, Outcome, Sla, judge, judge_as_loadgen
from tuner.stats import design_effect

LIMIT, BUDGET, CONFIDENCE = 0.02, 0.01, 0.95
CELLS = (("M/M/1", 10.0), ("M/M/1", 40.0), ("M/D/1", 10.0), ("M/D/1", 40.0))
MOST, FIRST, GROWTH = 40_000, 1000, 1.15
LOADS = (0.9, 0.95, 0.99, 1.01, 1.05, 1.1)
PER_ROUND = 100
_Z = 1.6449


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    cases = [(kind, ratio, load) for kind, ratio in CELLS for load in LOADS]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context) as pool:
        found = pool.map(partial(_row, rounds * PER_ROUND), *zip(*cases, strict=True))
        rows = {
            f"{kind}, limit {ratio:g} service times, {load:g} x capacity": row
            for (kind, ratio, load), row in zip(cases, found, strict=True)
        }
    return rows, [
        f"{rounds * PER_ROUND} runs per row, each from an empty queue, judged at {CONFIDENCE:.0%} "
        f"after {FIRST:,} requests and then at every {GROWTH - 1:.0%} more, {MOST:,} at most",
        "below capacity (x < 1) every `violated` is an error, above it every `met`",
        "the rule of LoadGen judges the first 5,000 requests of the same runs once, as independent",
        "the fixed-size test is told the true share and design effect of each row, and takes as "
        "many requests as it needs to tell that share from the budget with 5 % errors of both "
        f"kinds, {MOST:,} at most",
    ]


def _row(runs: int, kind: str, ratio: float, load: float) -> Row:
    sla = Sla((Bound(1 - BUDGET, LIMIT),))
    queue, rate, effect = _queue(kind, ratio)
    rng = np.random.default_rng([int(ratio), int(100 * load)])
    said: Counter[Outcome] = Counter()
    naive: Counter[Outcome] = Counter()
    used = []
    for _ in range(runs):
        samples = queue(load * rate, MOST, rng)
        outcome, n = _sequential(samples, sla)
        said[outcome] += 1
        used.append(n)
        head = samples.take(np.arange(MOST) < 5000)
        naive[judge_as_loadgen(head, sla, CONFIDENCE).outcome] += 1
    return {
        "met": _percent(said, Outcome.MET),
        "violated": _percent(said, Outcome.VIOLATED),
        "open": _percent(said, Outcome.INCONCLUSIVE),
        "naive_met": _percent(naive, Outcome.MET),
        "requests": round(float(np.mean(used))),
        "of_fixed": round(float(np.mean(used)) / _fixed(kind, ratio, load, effect), 2),
    }


def _queue(kind: str, ratio: float) -> tuple[Queue, float, float]:
    """The queue, its capacity in requests/s, and its design effect there."""
    service = LIMIT / ratio
    make, share = (mm1, mm1_share) if kind == "M/M/1" else (md1, md1_share)
    rate = rate_at(lambda r: share(r, service, LIMIT), BUDGET, 1 / service)
    rng = np.random.default_rng(0)
    runs = [make(service)(rate, 100_000, rng) for _ in range(20)]
    effects = [design_effect(run.latency, run.intended, LIMIT) for run in runs]
    return make(service), rate, float(np.median(effects))


def _fixed(kind: str, ratio: float, load: float, effect: float) -> float:
    service = LIMIT / ratio
    share_of = mm1_share if kind == "M/M/1" else md1_share
    capacity = rate_at(lambda r: share_of(r, service, LIMIT), BUDGET, 1 / service)
    share = min(0.5, share_of(min(load * capacity, 0.9999 / service), service, LIMIT))
    spread = math.sqrt(BUDGET * (1 - BUDGET)) + math.sqrt(share * (1 - share))
    independent = (_Z * spread / (share - BUDGET)) ** 2
    return min(MOST, max(FIRST, effect * independent))


def _sequential(samples: Samples, sla: Sla) -> tuple[Outcome, int]:
    for n in _looks():
        outcome = judge(samples.take(np.arange(len(samples)) < n), sla, CONFIDENCE).outcome
        if outcome is not Outcome.INCONCLUSIVE:
            return outcome, n
    return outcome, n


def _looks() -> Iterator[int]:
    n = float(FIRST)
    while n < MOST:
        yield int(n)
        n *= GROWTH
    yield MOST


def _percent(said: Counter[Outcome], outcome: Outcome) -> float:
    return round(100 * said[outcome] / said.total(), 1)
