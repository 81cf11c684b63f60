"""How many times more one configuration serves than another, from interleaved rounds of both; and
whether the machine stayed what it was.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from tuner.results import Evaluation
from tuner.units import format_rate

_NORMAL = 1.959963984540054


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

    Each round gives one log ratio, in which what was common to the round cancels. The interval is
    the wider of two: Student's t on their scatter, and the normal one by the errors of the rounds.
    """
    pairs = list(zip(first, second, strict=False))
    if len(pairs) < 2:
        return None
    logs = np.array([math.log(a / b) for (a, _), (b, _) in pairs])
    within = math.sqrt(sum(e**2 + f**2 for (_, e), (_, f) in pairs)) / len(pairs)
    student = float(special.stdtrit(len(pairs) - 1, 0.975))
    aside = max(student * float(logs.std(ddof=1)) / math.sqrt(len(pairs)), _NORMAL * within)
    middle = float(logs.mean())
    return Ratio(math.exp(middle), math.exp(middle - aside), math.exp(middle + aside))


def gain(last: Evaluation, first: Evaluation) -> Ratio | None:
    """How many times more ``last`` serves than ``first``, where both were measured by turns."""
    return paired_ratio(last.by_launch, first.by_launch)


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
