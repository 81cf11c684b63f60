"""How many times more one deployment serves than another, and how sure that is."""

import math

from tuner.analysis.comparison import Ratio, paired_ratio
from tuner.analysis.records import Contender
from tuner.records.results import Evaluation
from tuner.units import format_number

NBSP = "\N{NO-BREAK SPACE}"


def ratio(first: Contender, second: Contender) -> Ratio | None:
    """Of their capacities; None unless both have one.

    Where both were measured interleaved, from their rounds (see ``tuner.analysis.comparison``).
    Else the intervals of the two are taken as independent, their distances on a logarithmic scale
    added as errors are; an open end leaves the ratio's open, down to 0 or up to +inf.
    """
    above, below = first.evaluation, second.evaluation
    if not above.capacity or not below.capacity:
        return None
    paired = paired_ratio(above.by_round, below.by_round)
    if paired is not None:
        return paired
    value = math.log(above.capacity / below.capacity)
    down = math.hypot(_distance(above, above.low), _distance(below, below.high))
    up = math.hypot(_distance(above, above.high), _distance(below, below.low))
    return Ratio(math.exp(value), math.exp(value - down), math.exp(value + up))


def _distance(evaluation: Evaluation, end: float | None) -> float:
    """On the scale of logarithms, from the capacity to an end of its interval."""
    return abs(math.log(end / evaluation.capacity)) if end and evaluation.capacity else math.inf


def is_tie(first: Contender, second: Contender) -> bool:
    """Whether what was measured leaves open which of the two serves more."""
    found = ratio(first, second)
    return found is not None and found.low <= 1 <= found.high


def show_ratio(found: Ratio) -> str:
    """``3.12 × (95 %: 2.9 to 3.4)``."""
    low, high = format_number(found.low), format_number(found.high)
    ends = f"{low} to {high}" if math.isfinite(found.high) else f"at least {low}"
    return f"{format_number(found.value)}{NBSP}× (95{NBSP}%: {ends})"
