"""How many times more one configuration serves than another, from interleaved rounds of both; and
whether the machine stayed what it was.
"""

import math
from dataclasses import dataclass

import numpy as np

from tuner.pooling import cumulative, pooled
from tuner.results import Evaluation, Outcome
from tuner.units import format_rate

_REACH = 1.0
_GRID = 600
_FAR_APART = 3.0
_MUCH_STOLEN = 0.05


@dataclass(frozen=True)
class Ratio:
    """``value`` and the 95 % interval ``low`` to ``high`` of a ratio of capacities."""

    value: float
    low: float
    high: float


Round = tuple[float, float]
"""Capacity (requests/s) of one server, and the standard error of its logarithm."""


def paired_ratio(first: tuple[Round, ...], second: tuple[Round, ...]) -> Ratio | None:
    """The ratio first / second of two configurations measured by turns; None below two rounds.

    Each round gives one log ratio, in which what was common to the round cancels; they are pooled
    with their errors and their scatter (see ``tuner.pooling``).
    """
    pairs = list(zip(first, second, strict=False))
    if len(pairs) < 2:
        return None
    ratios = np.array([math.log(a / b) for (a, _), (b, _) in pairs])
    logs = np.linspace(ratios.min() - _REACH, ratios.max() + _REACH, _GRID)
    errors = np.array([math.hypot(e, f) for (_, e), (_, f) in pairs]) + (logs[1] - logs[0]) / 2
    seen = [np.exp(-(((logs - r) / e) ** 2) / 2) for r, e in zip(ratios, errors, strict=True)]
    low, middle, high = np.exp(np.interp((0.025, 0.5, 0.975), cumulative(pooled(seen, logs)), logs))
    return Ratio(float(middle), float(low), float(high))


def gain(last: Evaluation, first: Evaluation) -> Ratio | None:
    """How many times more ``last`` serves than ``first``, where both were measured by turns."""
    return paired_ratio(last.by_round, first.by_round)


def disagreement(evaluation: Evaluation) -> str | None:
    """A sentence where the rounds of one confirmation differ by more than their errors allow."""
    rounds = evaluation.by_round
    if len(rounds) < 2:
        return None
    (low, low_error), (high, high_error) = min(rounds), max(rounds)
    if math.log(high / low) < _FAR_APART * math.hypot(low_error, high_error):
        return None
    rates = " and ".join(format_rate(rate) for rate, _ in (min(rounds), max(rounds)))
    return (
        f"its rounds lie between {rates}, further apart than chance allows: the machine was not "
        "steady, and the interval is wide for it."
    )


def theft(evaluations: list[Evaluation]) -> str | None:
    """A sentence where the hypervisor took much of the processors' time from the measurements."""
    shares = [
        (probe.host.stolen, probe.seconds)
        for each in evaluations
        for probe in each.probes
        if probe.host is not None and probe.host.stolen is not None
    ]
    seconds = sum(lasted for _, lasted in shares)
    share = sum(part * lasted for part, lasted in shares) / seconds if seconds else 0.0
    if share < _MUCH_STOLEN:
        return None
    return (
        f"The hypervisor took {share:.0%} of the time in which this machine's processors wanted to "
        "run: late sends and late answers are also its own. Measure where processors are not "
        "shared, or take the figures for what this host gives now."
    )


def drift(evaluations: list[Evaluation]) -> str | None:
    """A sentence where the model as found, measured more than once, changed by more than its
    intervals allow.
    """
    looks = [e for e in evaluations if e.baseline and e.low and e.high and e.capacity]
    for later in looks[1:]:
        first = looks[0]
        if (later.low or 0) > (first.high or 0) or (later.high or 0) < (first.low or 0):
            return (
                f"The machine changed: the model as found held {format_rate(first.capacity)} at "
                f"first and {format_rate(later.capacity)} later, more than the intervals allow. "
                "Candidates that were measured far apart in time do not compare; what was "
                "confirmed was measured by turns."
            )
    return None


def completeness(outcome: Outcome) -> str:
    """Sentences on how much of the space was seen, and how likely a better candidate was missed."""
    size = (
        "of more than can be counted"
        if outcome.candidates is None
        else f"of {outcome.candidates:,}"
    )
    told = f"{outcome.measured} {size} candidates were measured"
    if not outcome.simulated:
        return f"{told}."
    told += f", {outcome.simulated:,} simulated."
    if outcome.missed is None:
        return told
    chance = (
        "less than 1 %" if outcome.missed < 0.01 else f"{outcome.missed:.0%}".replace("%", " %")
    )
    return (
        f"{told} The chance that one of the others serves more by over {100 * outcome.by:.0f} % is "
        f"put at {chance}, as far as the simulation, set right by what was measured, can tell."
    )
