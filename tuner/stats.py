"""Pure functions of samples: quantiles, and how sure one can be of a share of violations."""

import math
from functools import cache

import numpy as np
from scipy import special

from tuner.samples import Bools, Floats


def quantile(latency: Floats, q: float) -> float | None:
    """The q-quantile as an order statistic: the smallest value with at least a share q at or below.

    None for no data: an empty sample has no p99. May be +inf, where failed requests reach it.
    No interpolation, so the result is a latency that really occurred.
    """
    if len(latency) == 0:
        return None
    rank = max(0, math.ceil(q * len(latency) - 1e-9) - 1)
    return float(np.partition(latency, rank)[rank])


def surely_below(violations: int, n: int, share: float, confidence: float) -> bool:
    """Whether n requests with so many violations show, at that confidence, a true share below.

    The early-stopping rule of MLPerf LoadGen:
    P[Binomial(n, share) <= violations] <= 1 - confidence.
    """
    return n > 0 and float(special.bdtr(violations, n, share)) <= 1 - confidence


def surely_above(violations: int, n: int, share: float, confidence: float) -> bool:
    """Whether the true share of violations is above, at that confidence.

    P[Binomial(n, share) >= violations] <= 1 - confidence.
    """
    if n == 0 or violations == 0:
        return False
    return float(special.bdtrc(violations - 1, n, share)) <= 1 - confidence


def design_effect(late: Bools, intended: Floats, block: float) -> float:
    """How much less n requests say than n independent ones would; at least 1.

    Late requests come in clusters, since a queue that is long stays so for a while. The effect is
    the variance of the count of late requests per block of ``block`` seconds over its binomial
    variance (Kish's design effect by batch means). Dividing counts by it makes the binomial tests
    apply. With fewer than two blocks, or nothing late, it is 1.
    """
    if len(late) < 2 or not late.any():
        return 1.0
    number = ((intended - intended[0]) / block).astype(np.int64)
    sizes = np.bincount(number).astype(np.float64)
    counts = np.bincount(number, weights=late)[sizes > 0]
    sizes = sizes[sizes > 0]
    share = counts.sum() / sizes.sum()
    binomial = share * (1 - share) * sizes.sum()
    if len(sizes) < 2 or binomial <= 0:
        return 1.0
    observed = float(np.sum((counts - share * sizes) ** 2)) * len(sizes) / (len(sizes) - 1)
    return max(1.0, observed / float(binomial))


@cache
def requests_needed(violations: int, share: float, confidence: float) -> int:
    """The smallest n for which ``surely_below`` holds with so many violations.

    >>> requests_needed(0, 0.01, 0.99), requests_needed(10, 0.01, 0.99)
    (459, 2010)
    """
    low, high = violations, max(64, violations * 2)
    while not surely_below(violations, high, share, confidence):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if surely_below(violations, middle, share, confidence):
            high = middle
        else:
            low = middle
    return high


def violations_allowed(n: int, share: float, confidence: float) -> int | None:
    """The most violations with which n requests still pass; None if n is too small for any."""
    if requests_needed(0, share, confidence) > n:
        return None
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if requests_needed(middle, share, confidence) <= n:
            low = middle
        else:
            high = middle
    return low
