"""How often a gate's verdict is wrong, and how long it takes: on queues.

The machine, its servers and their scatter are those of ``benchmarks.load.confirmation``; rounds,
policy and verdict are those of ``tuner gate``. The clock is simulated, launches included.
"""

import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import cast

import numpy as np

from benchmarks.load.bench import Row, summary
from benchmarks.load.confirmation import MACHINE, Machine, slowness_of
from tuner.deadline import Deadline
from tuner.deployments.subjects import Subject
from tuner.measurement.draft import Draft
from tuner.measurement.gating import GatePolicy, of_two_versions
from tuner.measurement.rounds import Rounds
from tuner.measurement.session import Sessions
from tuner.measurement.settings import GATE
from tuner.records.gate import Verdict

PER_ROUND = 40
RATIOS = (1.0, 0.95, 0.9, 0.8)
"""The new version's capacity over the old one's."""
MARGIN = 0.05
TIMEOUT = 120.0
"""Seconds, simulated."""


class _Clock(Deadline):
    """Of the machine's seconds."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    @property
    def left(self) -> float:
        return max(0.0, TIMEOUT - self._machine.seconds)


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    runs = rounds * PER_ROUND
    factors = [slowness_of(1 / ratio) for ratio in RATIOS]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context) as pool:
        found = list(pool.map(partial(_gates, runs), RATIOS, factors))
    rows = {f"new / old {ratio:g}": _row(ends) for ratio, ends in zip(RATIOS, found, strict=True)}
    return rows, [
        f"{runs} gates per row, margin {MARGIN:.0%}, at most {TIMEOUT:g} s, simulated",
        f"launches differ by {MACHINE.launch_scatter:.0%} (standard deviation of service times), "
        f"and take {MACHINE.launch_seconds:g} s; all drift together by {MACHINE.drift:.0%} up and "
        f"down in {MACHINE.drift_seconds:g} s",
        f"shares in per cent; at most {GATE.within(TIMEOUT).rounds} rounds",
    ]


def _row(ends: Sequence[tuple[Verdict, int, float]]) -> Row:
    verdicts = Counter(verdict for verdict, _, _ in ends)
    shares = {each.value: round(100 * verdicts[each] / len(ends), 1) for each in Verdict}
    return {
        **shares,
        "played": summary([float(rounds) for _, rounds, _ in ends]),
        "seconds": summary([seconds for *_, seconds in ends]),
    }


def _gates(runs: int, ratio: float, slowness: float) -> list[tuple[Verdict, int, float]]:
    return [_gate(seed, ratio, slowness) for seed in range(runs)]


def _gate(seed: int, ratio: float, slowness: float) -> tuple[Verdict, int, float]:
    rng = np.random.default_rng([seed, round(1e3 * ratio), 7])
    machine = Machine({0: 1.0, 1: slowness}, rng)
    machine.deadline = _Clock(machine)
    drafts = [
        Draft(Subject(trial, baseline=trial == 0), "confirm", "", np.random.default_rng(0))
        for trial in (0, 1)
    ]
    race = of_two_versions(MARGIN, GATE.within(TIMEOUT))
    sessions = cast(Sessions, machine)
    Rounds(sessions, GatePolicy(machine.conditions), drafts, [0.0, 0.0], race).play(False)
    judgement = race.judgement([draft.evaluation() for draft in drafts])
    assert math.isfinite(machine.seconds)
    return judgement.verdict, machine.rounds, machine.seconds
