"""How often verdicts are wrong, and how many requests they take: on queues with closed forms."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from benchmarks.load.bench import Row
from benchmarks.queues import Queue, md1, md1_share, mm1, mm1_share, rate_at
from tuner.goals.sla import Bound, Sla
from tuner.goals.verdict import SlaOutcome, judge, judge_as_loadgen
from tuner.stats.estimators import design_effect, surely_above, surely_below
from tuner.stats.samples import Floats, Samples

LIMIT, BUDGET, CONFIDENCE = 0.02, 0.01, 0.95
CELLS = (("M/M/1", 10.0), ("M/M/1", 40.0), ("M/D/1", 10.0), ("M/D/1", 40.0))
MOST, FIRST, GROWTH = 40_000, 1000, 1.15
LOADS = (0.9, 0.95, 0.99, 1.01, 1.05, 1.1)
PER_ROUND = 100


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
        "the fixed-size test judges each run once, at a number of requests fixed before, by the "
        "binomial law on counts divided by the design effect of the queue at capacity, which it is "
        "told; that number is the smallest with which it is right as often as the sequential one, "
        f"on the same runs, {MOST:,} at most; no figure where that is less than half of the time",
    ]


def _row(runs: int, kind: str, ratio: float, load: float) -> Row:
    sla = Sla((Bound(1 - BUDGET, LIMIT),))
    queue, rate, effect = _queue(kind, ratio)
    rng = np.random.default_rng([int(ratio), int(100 * load)])
    right = SlaOutcome.MET if load < 1 else SlaOutcome.VIOLATED
    said: Counter[SlaOutcome] = Counter()
    naive: Counter[SlaOutcome] = Counter()
    fixed = np.zeros(len(list(_looks())))
    used = []
    for _ in range(runs):
        samples = queue(load * rate, MOST, rng)
        outcome, n = _sequential(samples, sla)
        said[outcome] += 1
        used.append(n)
        head = samples.take(np.arange(MOST) < 5000)
        naive[judge_as_loadgen(head, sla, CONFIDENCE).outcome] += 1
        fixed += _fixed(samples, effect, right)
    return {
        "met": _percent(said, SlaOutcome.MET),
        "violated": _percent(said, SlaOutcome.VIOLATED),
        "open": _percent(said, SlaOutcome.INCONCLUSIVE),
        "naive_met": _percent(naive, SlaOutcome.MET),
        "requests": round(float(np.mean(used))),
        "of_fixed": _of_fixed(float(np.mean(used)), said[right], fixed, runs),
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


def _fixed(samples: Samples, effect: float, right: SlaOutcome) -> Floats:
    """Whether a test of each of the fixed sizes is right, as 0 or 1."""
    late = np.cumsum(samples.latency > LIMIT)
    surely = surely_below if right is SlaOutcome.MET else surely_above
    return np.array(
        [surely(late[n - 1] / effect, n / effect, BUDGET, CONFIDENCE) for n in _looks()], float
    )


def _of_fixed(used: float, right: int, fixed: Floats, runs: int) -> float | None:
    """Mean requests over those of the smallest fixed size that is right as often."""
    if right < runs / 2:
        return None
    enough = [n for n, times in zip(_looks(), fixed, strict=True) if times >= right]
    return round(used / min(enough, default=MOST), 2)


def _sequential(samples: Samples, sla: Sla) -> tuple[SlaOutcome, int]:
    for n in _looks():
        outcome = judge(samples.take(np.arange(len(samples)) < n), sla, CONFIDENCE).outcome
        if outcome is not SlaOutcome.INCONCLUSIVE:
            return outcome, n
    return outcome, n


def _looks() -> Iterator[int]:
    n = float(FIRST)
    while n < MOST:
        yield int(n)
        n *= GROWTH
    yield MOST


def _percent(said: Counter[SlaOutcome], outcome: SlaOutcome) -> float:
    return round(100 * said[outcome] / said.total(), 1)
