"""How often a confirmation ends with the wrong one ahead, how far off what it states is, and how
long it takes: on queues.

Two finalists and a baseline are queues behind a batcher, whose capacities are known. Each server is
a few per cent faster or slower than its configuration is in the long run, and all slow down and
recover together, as machines do. ``Rounds`` and ``CapacityPolicy`` measure them as they measure
servers.
"""

import math
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import numpy as np

from benchmarks.load.bench import Row, summary
from benchmarks.queues import QueueServer, Rng, batches
from tuner.analysis.ratios import paired_ratio
from tuner.commands.audience import Silent
from tuner.deadline import Deadline
from tuner.deployments.subjects import Subject
from tuner.goals.sla import Sla, bound_ratio
from tuner.load.arrivals import Arrivals
from tuner.measurement.capacity import Effort, find_capacity
from tuner.measurement.draft import Draft
from tuner.measurement.fitting import ProbeResult
from tuner.measurement.policies import CapacityPolicy, is_settled
from tuner.measurement.race import ForTheBest
from tuner.measurement.rounds import Rounds
from tuner.measurement.session import Conditions, Sessions
from tuner.measurement.settings import CONFIRMATION
from tuner.measurement.watch import ProbeWatch, Thoroughness
from tuner.model.space import INSTANCE_COUNT, Candidate

PER_ROUND = 20
RATIOS = (1.0, 1.03, 1.08, 1.3)
"""The best finalist's capacity over the other's."""
MATTERS = 1.02
"""The ratio of capacities from which the wrong one ahead counts."""
BASELINE = 2.5
"""The best one's capacity over the baseline's."""
_SLA = Sla.parse("p99<40ms")
_BASE, _PER_ITEM, _LARGEST = 0.004, 0.00035, 64
"""Seconds of a batch and of each of its items, and the largest batch."""


@dataclass(frozen=True)
class MachineSettings:
    """How servers differ from what their configurations serve in the long run."""

    launch_scatter: float = 0.024
    """Standard deviation of the logarithm of each launch's service times: 3 % of the capacity."""
    drift: float = 0.03
    """By which share all services take longer, and shorter, in the course of ``drift_seconds``."""
    drift_seconds: float = 60.0
    """About as long as a confirmation takes, so that no round is like the one before."""
    expectation_scatter: float = 0.04
    """Of what the search expects of each, in logarithms."""
    launch_seconds: float = 4.0
    """With warm-up; while no load counts."""


MACHINE = MachineSettings()


@dataclass(frozen=True)
class End:
    """How a confirmation ended: after how many rounds, at what second."""

    rounds: int
    seconds: float
    first_is_ahead: bool
    interval: tuple[float, float]
    """Of 95 %, of the first finalist's capacity over the second's."""
    settled: bool
    width: float = math.inf
    """high / low - 1 of the winner's capacity."""
    held: bool = False
    """Whether the winner's own interval holds the capacity of its configuration."""
    error: float = math.nan
    """Of the winner's stated capacity, as a share."""
    recommended: float = math.nan
    """The recommended rate over that capacity."""


class Machine:
    """Runs simulated servers, one loaded at a time; its clock tells seconds."""

    conditions = Conditions(_SLA, Arrivals.POISSON, verification="none")

    def __init__(self, slowness: dict[int, float], rng: Rng) -> None:
        """``slowness`` is the factor of the service times, by trial."""
        self.deadline = Deadline()
        self.progress = Silent()
        self.rng = rng
        self.seconds = 0.0
        self.rounds = 0
        self._slowness = slowness
        self._phase = rng.uniform(0, 2 * math.pi)

    def close(self) -> None: ...

    @contextmanager
    def open(self, draft: Draft, beside: bool = False) -> Iterator["SimulatedSession"]:
        self.seconds += MACHINE.launch_seconds
        launch = math.exp(MACHINE.launch_scatter * self.rng.standard_normal())
        session = SimulatedSession(self, launch * self._slowness[draft.subject.trial])
        session.server = draft.launches
        if not beside:
            self.rounds = max(self.rounds, draft.launches + 1)
        draft.launches += 1
        yield session

    def drift(self) -> float:
        """The factor of all service times by now."""
        angle = self._phase + 2 * math.pi * self.seconds / MACHINE.drift_seconds
        return 1 + MACHINE.drift * math.sin(angle)


class SimulatedSession:
    """One launched server, whose service times are ``slowness`` times those of the fastest one."""

    def __init__(self, machine: Machine, slowness: float) -> None:
        self.server = 0
        self._machine, self._slowness = machine, slowness
        self.saturation = _LARGEST / (_BASE + _LARGEST * _PER_ITEM) / slowness

    def begin_round(self, subject: Subject, number: int) -> None:
        self._machine.rounds = max(self._machine.rounds, number + 1)

    def unloaded(self, is_warm: bool = False) -> None: ...

    def warm_up(self, roughly: bool = False) -> None: ...

    def probe(self, rate: float, how: Thoroughness) -> ProbeResult:
        """The samples come as a server's do, and end the probe as early."""
        machine, length = self._machine, how.length(rate, _SLA)
        queue = queue_of(self._slowness * machine.drift())
        samples = queue(rate, max(20, int(rate * length)), machine.rng)
        watch = ProbeWatch(_SLA, how)
        for moment in np.arange(0.4, length, 0.2):  # the engine asks now and then, too
            seen = samples.take(samples.intended <= moment)
            if watch(seen):
                samples, length = seen, float(moment)
                break
        verdict = watch.final(samples)
        machine.seconds += length
        return ProbeResult(
            rate,
            verdict.outcome,
            bound_ratio(samples, _SLA),
            verdict.telling,
            verdict.repeat,
            seconds=length,
            server=self.server,
        )


def queue_of(slowness: float) -> Any:
    """The queue of one instance, batches to 64; the service times are those of emulated_gpu."""
    return batches(_BASE * slowness, _PER_ITEM * slowness, _LARGEST)


@cache
def slowness_of(ratio: float) -> float:
    """The factor of the service times with which the capacity is one ``ratio``-th, by secants."""
    slowness, power = 1.0, 0.8
    for _ in range(4):
        off = math.log(_capacity(1.0) / ratio / _capacity(slowness))
        slowness *= math.exp(-power * off)
    return slowness


@cache
def _capacity(slowness: float) -> float:
    """Requests/s, from long probes with seeds that all factors share."""
    effort = Effort(width=0.0, seconds=400.0, fewest=8)
    queue = QueueServer(queue_of(slowness), _SLA, seconds=50.0)
    found = find_capacity(queue, 2080.0 / slowness, effort)
    assert found.rate is not None
    return found.rate


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    runs = rounds * PER_ROUND
    cases = [
        (ratio, beside, slowness_of(ratio), slowness_of(BASELINE), _capacity(1.0))
        for ratio in RATIOS
        for beside in (True, False)
    ]
    context = multiprocessing.get_context("spawn")
    rows: dict[str, Row] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context) as pool:
        found = pool.map(partial(_confirmations, runs), *zip(*cases, strict=True))
        for (ratio, beside, *_), ends in zip(cases, found, strict=True):
            label = f"{ratio:g} x the other, {'side by side' if beside else 'fresh servers'}"
            rows[label] = _row(ends, ratio)
    return rows, [
        f"{runs} confirmations per row, of two finalists and a baseline of 1/{BASELINE:g} of the "
        "best one's capacity",
        f"launches differ by {MACHINE.launch_scatter:.0%} (standard deviation), and all drift "
        f"together by {MACHINE.drift:.0%} up and down in {MACHINE.drift_seconds:g} s; side by side "
        "each has one launch for all of its rounds, so that no further round averages it out",
        "wrong: the finalist with the lower capacity is ahead at the end, where it is lower by "
        f"over {MATTERS - 1:.0%}; a finalist is left where less than {CONFIRMATION.loss:.0%} is "
        "expected to be lost by it",
        "settled: the rule said that it is enough; without that, the last round decides",
        "held: the 95 % interval of the ratio of the finalists' capacities holds the true one; "
        "winner_held, the winner's own interval its configuration's capacity",
        "error: by how much the winner's stated capacity is off that of its configuration, in %; "
        "kept: its recommended rate is no higher than that",
        "the seconds are those of load and launches, without the verification",
    ]


def _row(ends: Sequence[End], ratio: float) -> Row:
    """Shares in per cent; rounds, and seconds."""
    wrong = [ratio > MATTERS and not end.first_is_ahead for end in ends]
    return {
        "wrong": _percent(wrong),
        "held": _percent(end.interval[0] <= ratio <= end.interval[1] for end in ends),
        "settled": _percent(end.settled for end in ends),
        "interval": summary([100 * end.width for end in ends]),
        "winner_held": _percent(end.held for end in ends),
        "error": summary([100 * abs(end.error) for end in ends]),
        "kept": _percent(end.recommended <= 1 for end in ends),
        "recommended": summary([100 * end.recommended for end in ends]),
        "played": summary([float(end.rounds) for end in ends]),
        "seconds": summary([end.seconds for end in ends]),
    }


def _percent(which: Iterable[bool]) -> float:
    return round(100 * float(np.mean(list(which))), 1)


def _confirmations(
    runs: int, ratio: float, beside: bool, other: float, baseline: float, capacity: float
) -> list[End]:
    """One by one; ``other`` and ``baseline`` are factors of service times."""
    ends = []
    for seed in range(runs):
        rng = np.random.default_rng([seed, round(1e3 * ratio), beside])
        machine = Machine({0: 1.0, 1: other, 2: baseline}, rng)
        truths = (capacity, capacity / ratio, capacity / BASELINE)
        ends.append(_confirm(machine, truths, beside))
    return ends


def _confirm(machine: Machine, truths: Sequence[float], beside: bool) -> End:
    scatter = np.exp(MACHINE.expectation_scatter * machine.rng.standard_normal(len(truths)))
    expected = [float(each) for each in np.array(truths) * scatter]
    drafts = [
        Draft(
            Subject(number, Candidate.of({INSTANCE_COUNT: number + 1}), baseline=number == 2),
            *("confirm", ""),
            np.random.default_rng(0),
        )
        for number in range(len(truths))
    ]
    policy = CapacityPolicy(machine.conditions)
    sessions = cast(Sessions, machine)
    Rounds(sessions, policy, drafts, expected, ForTheBest()).play(beside)
    found = paired_ratio(drafts[0].by_round(), drafts[1].by_round())
    best = max(drafts, key=lambda draft: draft.rank)
    capacity, truth = best.capacity, truths[drafts.index(best)]
    assert capacity.rate is not None
    assert capacity.low is not None
    assert capacity.high is not None
    assert capacity.recommended is not None
    return End(
        machine.rounds,
        machine.seconds,
        best is drafts[0],
        (found.low, found.high) if found else (0.0, math.inf),
        is_settled(drafts, machine.rounds, not beside),
        capacity.high / capacity.low - 1,
        capacity.low <= truth <= capacity.high,
        capacity.rate / truth - 1,
        capacity.recommended / truth,
    )
