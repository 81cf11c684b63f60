"""Pure functions of samples: quantiles, and confidence statements on the share of violations."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from tuner.stats.samples import Floats, Samples

INTERVAL_WIDTH = 3.92
"""Standard errors from one end of a 95 % interval to the other, where errors are normal."""
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
"""The latencies that records hold, by name."""


@dataclass(frozen=True)
class EstimatorSettings:
    blocks: int = 256  # of a run: clusters of any length from 1/256 of it on are seen
    fewest_blocks: int = 16  # below, the variance between blocks is known too badly
    level: float = 0.9  # quantile of latencies whose clusters stand for rarer ones; see below
    near: float = 1 / 8  # of the limit: what happens further below it says nothing of it
    batches: int = 20  # stretches of which rates are compared: 19 degrees of freedom
    fewest_replies: int = 30  # below, most stretches hold one reply or none
    stretches: int = 5  # of which latencies are compared: few, so their means are less correlated
    fewest_in_stretch: int = 2  # one reply may be the first of a batch, and wait for nobody


_SETTINGS = EstimatorSettings()


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
    from scipy import special  # slow to import, and the command line's help needs none of it

    return n > 0 and float(special.bdtr(violations, n, share)) <= 1 - confidence


def surely_above(violations: int, n: int, share: float, confidence: float) -> bool:
    """Whether the true share of violations is above, at that confidence.

    P[Binomial(n, share) >= violations] <= 1 - confidence.
    """
    from scipy import special

    if n == 0 or violations == 0:
        return False
    return float(special.bdtrc(violations - 1, n, share)) <= 1 - confidence


def design_effect(latency: Floats, intended: Floats, limit: float) -> float:
    """How much less n requests say about the share above ``limit`` than n independent ones; >= 1.

    Latencies in a queue are correlated: late requests come in clusters. The effect is the variance
    of their count per block of time over its binomial variance (Kish's design effect by batch
    means), the largest over block lengths from 1/256 to 1/16 of the run. Dividing counts by it
    makes tests for independent requests apply.

    Clusters of rare late requests are seen too seldom to be told by themselves, so the effect is
    also taken at a lower threshold, the p90 of the latencies themselves: an excursion of a queue
    above a level lasts about as long whatever the level (exactly so in M/M/1). At a higher quantile
    there are too few of them: the effect comes out too small, and verdicts too bold. The threshold
    is no lower than an eighth of the limit: far below it, how fast moments follow on slow ones says
    nothing of what breaks the limit, and where stalls do, it hides their clusters.
    ``latency`` and ``intended`` have shape (n,), in seconds, ``intended`` ascending; latencies may
    be +inf, and so may ``limit``, which then tells failed from answered: failures are no excursions
    of a queue, and have clusters only as far as they are seen.
    """
    if len(latency) < 2 or intended[-1] <= intended[0]:
        return 1.0
    blocks = _SETTINGS.blocks
    where = (intended - intended[0]) * (blocks / (intended[-1] - intended[0]))
    block = np.minimum(where.astype(np.int64), blocks - 1)
    sizes: Floats = np.bincount(block, minlength=blocks).astype(np.float64)
    level = max(quantile(latency, _SETTINGS.level) or 0.0, _SETTINGS.near * limit)
    effects = [1.0]
    for threshold in {limit, min(limit, level)} if math.isfinite(limit) else {limit}:
        late = latency > threshold if math.isfinite(threshold) else np.isinf(latency)
        counts = np.bincount(block, weights=late, minlength=blocks).astype(np.float64)
        effects.append(_inflation(sizes, counts))
    return max(effects)


def _inflation(sizes: Floats, counts: Floats) -> float:
    """Observed over binomial variance of counts per block, the largest over merged blocks."""
    n = float(sizes.sum())
    share = float(counts.sum()) / n
    if not 0 < share < 1:
        return 1.0
    largest = 1.0
    while len(sizes) >= _SETTINGS.fewest_blocks:
        rest = counts - share * sizes
        observed = float(rest @ rest) * len(sizes) / (len(sizes) - 1)
        largest = max(largest, observed / (share * (1 - share) * n))
        sizes, counts = sizes[0::2] + sizes[1::2], counts[0::2] + counts[1::2]
    return largest


def quantile_interval(
    latency: Floats, q: float, effect: float, confidence: float
) -> tuple[float, float]:
    """Bounds for the true q-quantile; +inf above where the run is too short for an upper one.

    Order statistics at the Clopper-Pearson bounds of the share q, for n / effect independent
    requests. ``latency`` holds at least one value.
    """
    from scipy import special

    n = len(latency) / effect
    below, rest = q * n, (1 - confidence) / 2
    low = float(special.betaincinv(below, n - below + 1, rest))
    high = float(special.betaincinv(below + 1, n - below, 1 - rest)) if below < n else 1.0
    values = np.sort(latency)
    first = max(0, math.floor(low * len(values)) - 1)
    last = math.ceil(high * len(values)) - 1
    too_short = q**n > rest  # even all n below it would be no surprise
    return float(values[first]), math.inf if too_short else float(values[last])


def throughput_interval(samples: Samples) -> tuple[float, float] | None:
    """The central 95 % for the mean rate of good replies per second, by batch means.

    Replies are counted in equal stretches from the first to the last; None below 30 replies.
    """
    from scipy import special

    done = np.sort(samples.done[samples.ok])
    if len(done) < _SETTINGS.fewest_replies or done[-1] <= done[0]:
        return None
    batches = _SETTINGS.batches
    counts, edges = np.histogram(done, batches, (float(done[0]), float(done[-1])))
    rates = counts / (edges[1] - edges[0])
    half = float(special.stdtrit(batches - 1, 0.975) * rates.std(ddof=1) / batches**0.5)
    return max(0.0, float(rates.mean()) - half), float(rates.mean()) + half


def growth(samples: Samples) -> float | None:
    """By how many seconds the latency grew at least for each second of sending, over the second
    half of a run: up to lambda / mu - 1 where arrivals at the rate lambda exceed the throughput mu
    for good, and mostly not above 0 if the server keeps up.

    The lower end, at 95 %, of the slope of a line through the means of consecutive replies. These
    are correlated near saturation, so that it is too high more often: at a load of 0.9, 60 replies
    seem to grow by over 0.1 in one run of twenty. None below 10 good replies there.
    """
    half = samples.ok & (samples.intended >= samples.intended[-1:] / 2)
    stretches = _SETTINGS.stretches
    if np.count_nonzero(half) < _SETTINGS.fewest_in_stretch * stretches:
        return None
    pairs = np.column_stack((samples.intended[half], samples.latency[half]))
    means = np.array([part.mean(axis=0) for part in np.array_split(pairs, stretches)])
    times, latency = means[:, 0] - means[:, 0].mean(), means[:, 1] - means[:, 1].mean()
    spread = float(times @ times)
    if spread == 0:
        return None
    slope = float(times @ latency) / spread
    rest = latency - slope * times
    from scipy import special

    error = math.sqrt(float(rest @ rest) / (stretches - 2) / spread)
    return slope - float(special.stdtrit(stretches - 2, 0.95)) * error


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
