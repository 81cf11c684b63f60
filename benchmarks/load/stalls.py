"""How often either verdict is wrong where the machine stalls, or the server: on simulated queues.

The machine's stalls are seen by the meter, the server's are not.
"""

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from benchmarks.load.bench import Row
from benchmarks.queues import Rng, md1_share, mm1_share, rate_at
from benchmarks.stalling import Pauses, one_server
from tuner.goals.sla import Bound, Sla
from tuner.goals.undisturbed import told_apart
from tuner.measurement.settings import VERIFICATION
from tuner.measurement.watch import ProbeWatch
from tuner.stats.samples import Samples

LIMIT, BUDGET = 0.02, 0.01
CELLS = (("M/M/1", 10.0), ("M/M/1", 40.0), ("M/D/1", 10.0))
LOADS = (0.8, 0.95, 1.05)
WHO = ("nobody", "machine", "server", "both", "server, rarely")
PER_SECOND, SHORTEST, LONGEST = 0.35, 0.06, 0.2
RARELY = 0.12
"""Stalls per second: the share of late requests is above the budget all the same."""
LOOK = 0.5
PER_ROUND = 20


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    cases = [(kind, ratio, load, who) for kind, ratio in CELLS for load in LOADS for who in WHO]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context) as pool:
        found = pool.map(partial(_row, rounds * PER_ROUND), *zip(*cases, strict=True))
        rows = {
            f"{kind}, limit {ratio:g} service times, {load:g} x capacity, stalled: {who}": row
            for (kind, ratio, load, who), row in zip(cases, found, strict=True)
        }
    return rows, [
        f"{rounds * PER_ROUND} verifications per row, of {VERIFICATION.seconds:g} s at most",
        f"stalls of {SHORTEST:g} to {LONGEST:g} s, {PER_SECOND:g} each second ({RARELY:g} rarely)",
        "late is the share of late requests in the long run, stalls included; capacity is without",
        "met, violated: without the machine's stalls, which are seen by a meter that wakes every "
        "10 ms; undecidable: more than half was left out",
        "to be repeated: not met as it happened, and that is put down to the machine's stalls, or "
        "to a single stall of a second at most",
    ]


def _row(runs: int, kind: str, ratio: float, load: float, who: str) -> Row:
    sla, rng = Sla((Bound(1 - BUDGET, LIMIT),)), np.random.default_rng([int(ratio), int(99 * load)])
    service = LIMIT / ratio
    share = mm1_share if kind == "M/M/1" else md1_share
    rate = load * rate_at(lambda r: share(r, service, LIMIT), BUDGET, 1 / service)
    honest: Counter[str] = Counter()
    without: Counter[str] = Counter()
    left_out, repeats, excused, late, late_rest = [], 0, 0, [], []
    for _ in range(runs):
        samples, machine = _run(kind, rate, service, who, rng)
        late.append(float((samples.latency > LIMIT).mean()))
        stalls = machine.seen(rng)
        watch = ProbeWatch(sla, VERIFICATION, stalls=lambda: stalls, load=rate * service)  # noqa: B023
        part = _watched(watch, samples)
        verdict, undisturbed = watch.final(part), watch.undisturbed(part)
        honest[verdict.outcome.value] += 1
        told = told_apart(verdict, undisturbed)
        repeats += told.repeat
        rest = part if undisturbed is None else undisturbed.samples
        if len(rest):
            late_rest.append(float((rest.latency > LIMIT).mean()))
        if undisturbed is None:
            without[verdict.outcome.value] += 1
            continue
        left_out.append(undisturbed.left_out)
        decidable = undisturbed.is_decidable
        excused += not verdict.met and decidable and undisturbed.verdict.met
        without[undisturbed.verdict.outcome.value if decidable else "undecidable"] += 1
    return {
        "late": round(100 * float(np.mean(late)), 2),
        "late_rest": round(100 * float(np.mean(late_rest)), 2),
        "honest_met": _percent(honest, "met"),
        "honest_violated": _percent(honest, "violated"),
        "met": _percent(without, "met"),
        "violated": _percent(without, "violated"),
        "undecidable": _percent(without, "undecidable"),
        "left_out": round(100 * sum(left_out) / runs, 1),
        "excused": round(100 * excused / runs, 1),
        "repeat": round(100 * repeats / runs, 1),
    }


def _run(kind: str, rate: float, service: float, who: str, rng: Rng) -> tuple[Samples, Pauses]:
    n = int(rate * VERIFICATION.seconds)
    until = 2 * VERIFICATION.seconds
    machine, server = Pauses.none(), Pauses.none()
    if who in ("machine", "both"):
        machine = Pauses.random(PER_SECOND, SHORTEST, LONGEST, until, rng)
    if who in ("server", "both", "server, rarely"):
        often = RARELY if who == "server, rarely" else PER_SECOND
        server = Pauses.random(often, SHORTEST, LONGEST, until, rng)
    work = rng.exponential(service, n) if kind == "M/M/1" else np.full(n, service)
    return one_server(rate, work, machine.joined(server), rng), machine


def _watched(watch: ProbeWatch, samples: Samples) -> Samples:
    """The requests until the watch ends the probe, or all."""
    for now in np.arange(LOOK, samples.intended[-1], LOOK):
        if watch(samples.take(samples.intended <= now - LIMIT)):
            return samples.take(samples.intended <= now)
    return samples


def _percent(said: Counter[str], outcome: str) -> float:
    return round(100 * said[outcome] / said.total(), 1)
