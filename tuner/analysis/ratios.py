"""How many times more one configuration, or one deployment, serves than another."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tuner.analysis.contenders import Contender
from tuner.records.results import Evaluation
from tuner.stats.pooling import cumulative, pooled


@dataclass(frozen=True)
class Ratio:
    """``value`` and the interval ``low`` to ``high`` of a ratio of capacities, that of 95 % unless
    another is asked for.
    """

    value: float
    low: float
    high: float

    @property
    def is_tie(self) -> bool:
        """Whether what was measured leaves open which of the two serves more."""
        return self.low <= 1 <= self.high


@dataclass(frozen=True)
class PairingSettings:
    """The grid on which ratios of rounds are pooled, in natural logarithms of the ratio."""

    reach: float = 1.0
    """Beyond the outermost rounds, on either side: a factor of e. No round is wrong by so much."""
    points: int = 600
    """Steps of well below 1 % where rounds agree, finer than any round's error."""


PAIRING = PairingSettings()

Round = tuple[float, float]
"""Capacity (requests/s) of one server, and the standard error of its logarithm. A round has a fresh
server, or all rounds have one.
"""


def paired_ratio(
    first: tuple[Round, ...], second: tuple[Round, ...], confidence: float = 0.95
) -> Ratio | None:
    """The ratio first / second of two interleaved configurations; None without a round.

    Each round of fresh servers gives one log ratio, in which what was common to the round cancels;
    they are pooled with their errors and their scatter (see ``tuner.stats.pooling``). Servers that
    were kept for all rounds give one alone, with the errors of both.
    """
    pairs = list(zip(first, second, strict=False))
    if not pairs:
        return None
    ratios = np.array([math.log(a / b) for (a, _), (b, _) in pairs])
    if len(pairs) == 1:
        ((_, e), (_, f)), aside = pairs[0], NormalDist().inv_cdf((1 + confidence) / 2)
        log, aside = float(ratios[0]), aside * math.hypot(e, f)
        return Ratio(math.exp(log), math.exp(log - aside), math.exp(log + aside))
    logs = np.linspace(ratios.min() - PAIRING.reach, ratios.max() + PAIRING.reach, PAIRING.points)
    errors = np.array([math.hypot(e, f) for (_, e), (_, f) in pairs]) + (logs[1] - logs[0]) / 2
    seen = [np.exp(-(((logs - r) / e) ** 2) / 2) for r, e in zip(ratios, errors, strict=True)]
    ends = ((1 - confidence) / 2, 0.5, (1 + confidence) / 2)
    low, middle, high = np.exp(np.interp(ends, cumulative(pooled(seen, logs)), logs))
    return Ratio(float(middle), float(low), float(high))


def gain(last: Evaluation, first: Evaluation) -> Ratio | None:
    """How many times more ``last`` serves than ``first``, or how many times less it costs at the
    given rate; None unless both were measured in interleaved rounds.
    """
    if last.cost is not None and first.cost is not None:
        rounds = first.cost.by_round, last.cost.by_round
        return paired_ratio(*rounds) if min(map(len, rounds)) > 1 else None
    return paired_ratio(last.by_round, first.by_round)


def ratio(first: Contender, second: Contender) -> Ratio | None:
    """Of the capacities of two deployments; None unless both have one.

    Where both were measured interleaved, from their rounds.
    """
    above, below = first.evaluation, second.evaluation
    if not above.capacity or not below.capacity:
        return None
    return paired_ratio(above.by_round, below.by_round) or unpaired_ratio(above, below)


def unpaired_ratio(above: Evaluation, below: Evaluation, confidence: float = 0.95) -> Ratio | None:
    """Of the capacities of two that were measured at different times; None unless both have one.

    Their intervals, of 95 %, are taken as independent and normal: their distances on a logarithmic
    scale add as errors do. An open end leaves the ratio's open, down to 0 or up to +inf.
    """
    if not above.capacity or not below.capacity:
        return None
    wider = NormalDist().inv_cdf((1 + confidence) / 2) / NormalDist().inv_cdf(0.975)
    value = math.log(above.capacity / below.capacity)
    down = wider * math.hypot(_distance(above, above.low), _distance(below, below.high))
    up = wider * math.hypot(_distance(above, above.high), _distance(below, below.low))
    return Ratio(math.exp(value), math.exp(value - down), math.exp(value + up))


def _distance(evaluation: Evaluation, end: float | None) -> float:
    """On the scale of logarithms, from the capacity to an end of its interval."""
    return abs(math.log(end / evaluation.capacity)) if end and evaluation.capacity else math.inf


def is_tie(first: Contender, second: Contender) -> bool:
    """Whether what was measured leaves open which of the two serves more."""
    compared = ratio(first, second)
    return compared is not None and compared.is_tie


def serves_clearly_less(first: Contender, second: Contender) -> bool:
    """Whether the first serves less than the second, beyond the intervals of both."""
    compared = ratio(second, first)
    return compared is not None and compared.low > 1
