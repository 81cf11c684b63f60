"""Arrival processes: the planned send times of one probe."""

from enum import StrEnum

import numpy as np

from tuner.samples import Floats


class Arrivals(StrEnum):
    """How open-loop requests are spaced."""

    POISSON = "poisson"
    CONSTANT = "constant"


def schedule(arrivals: Arrivals, rate: float, duration: float, rng: np.random.Generator) -> Floats:
    """Planned send times in seconds from the start, ascending, all below ``duration``.

    ``rate`` is the mean number of requests per second. Poisson gaps are exponential; constant
    arrivals start at a random phase, so that shards of several probes do not beat.
    """
    if not rate > 0 or not duration > 0:
        raise ValueError(f"rate {rate} and duration {duration} must be greater than zero")
    if arrivals is Arrivals.CONSTANT:
        times = (np.arange(int(rate * duration) + 1) + rng.random()) / rate
    else:
        expected = rate * duration
        count = int(expected + 10 * np.sqrt(expected) + 10)
        times = np.cumsum(rng.exponential(1 / rate, count))
    return np.asarray(times[times < duration], dtype=np.float64)
