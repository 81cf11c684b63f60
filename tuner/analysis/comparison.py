"""How many times more one configuration serves than another, from interleaved rounds of both; and
whether the machine stayed what it was.
"""

import math
from dataclasses import dataclass

import numpy as np

from tuner.goals.objective import Objective
from tuner.model.space import Candidate
from tuner.records.results import Evaluation, Outcome
from tuner.stats.pooling import cumulative, pooled
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
    with their errors and their scatter (see ``tuner.stats.pooling``).
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
    """How many times more ``last`` serves than ``first``, or how many times less it comes to at the
    given rate, where both were measured by turns.
    """
    if last.cost is not None and first.cost is not None:
        return paired_ratio(first.cost.by_round, last.cost.by_round)
    return paired_ratio(last.by_round, first.by_round)


def disagreement(evaluation: Evaluation) -> str | None:
    """A sentence where the rounds of one confirmation differ by more than their errors allow."""
    rounds = evaluation.cost.by_round if evaluation.cost else evaluation.by_round
    if len(rounds) < 2:
        return None
    (low, low_error), (high, high_error) = min(rounds), max(rounds)
    if math.log(high / low) <= _FAR_APART * math.hypot(low_error, high_error):
        return None
    ends = " and ".join(_show(evaluation, value) for value, _ in (min(rounds), max(rounds)))
    return (
        f"its rounds lie between {ends}, further apart than chance allows: the machine was not "
        "steady, and the interval is wide for it."
    )


def _show(evaluation: Evaluation, value: float | None) -> str:
    """A capacity, or a cost."""
    cost = evaluation.cost
    if cost is None:
        return format_rate(value)
    return Objective.parse(cost.objective, cost.rate).show(value)


def cpu_steal(evaluations: list[Evaluation]) -> str | None:
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
    looks = [(e, *_interval(e)) for e in evaluations if e.baseline and e.merit]
    looks = [look for look in looks if look[2] and look[3]]
    for later, value, low, high in looks[1:]:
        first, at_first, lowest, highest = looks[0]
        if (low or 0) > (highest or 0) or (high or 0) < (lowest or 0):
            verb = "held" if later.cost is None else "came to"
            return (
                f"The machine changed: the model as found {verb} {_show(first, at_first)} at "
                f"first and {_show(later, value)} later, more than the intervals allow. "
                "Candidates that were measured far apart in time do not compare; what was "
                "confirmed was measured by turns."
            )
    return None


def refutation(evaluations: list[Evaluation]) -> str | None:
    """A sentence where the finalists of the search did so much worse when they were confirmed that
    another candidate was confirmed besides.
    """
    confirmed = [e for e in evaluations if e.phase == "confirm"]
    known = {e.candidate for e in confirmed if e.look == 0}
    more = [e for e in confirmed if e.look and e.candidate not in known and e.cost is None]
    first = next((e for e in confirmed if not e.look and not e.baseline), None)
    if not more or first is None:
        return None
    hoped = next((e for e in evaluations if _is_searched(e, first.candidate)), None)
    return (
        f"Trial {first.trial} ({first.label}) was put at "
        f"{format_rate(hoped.capacity if hoped else None)} by the search and at "
        f"{format_rate(first.capacity)} by its confirmation: of many measurements the best one was "
        f"also lucky. So trial {more[0].trial} ({more[0].label}) was confirmed as well."
    )


def _is_searched(evaluation: Evaluation, candidate: Candidate) -> bool:
    return evaluation.phase == "search" and evaluation.candidate == candidate


def _interval(evaluation: Evaluation) -> tuple[float | None, float | None, float | None]:
    """What counts of it, and its 95 % interval."""
    cost = evaluation.cost
    if cost is None:
        return evaluation.capacity, evaluation.low, evaluation.high
    return cost.value, cost.low, cost.high


def completeness(outcome: Outcome, better: str = "serves more by over") -> str:
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
        f"{told} The chance that one of the others {better} {100 * outcome.by:.0f} % is "
        f"put at {chance}, as far as the simulation, set right by what was measured, can tell."
    )
