"""Arrivals whose gaps do not depend on each other: any stretch of time is like any other."""

import math
from dataclasses import dataclass

import numpy as np

from tuner.errors import UsageError
from tuner.stats.samples import Floats
from tuner.text import shown

_LEAST_VARIATION, _MOST_VARIATION = 0.01, 100.0
"""Below it gaps are as good as constant; above it a probe sees hardly more than one burst."""


class _Stationary:
    own_rate: float | None = None
    sha256: str | None = None

    def least_seconds(self, rate: float) -> float:
        return 0.0


@dataclass(frozen=True)
class Constant(_Stationary):
    """Evenly spaced, from a random phase on."""

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        return np.asarray((np.arange(int(rate * duration) + 1) + rng.random()) / rate)


@dataclass(frozen=True)
class Poisson(_Stationary):
    """Exponential gaps: requests of many users who know nothing of each other."""

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        expected = rate * duration
        count = int(expected + 10 * np.sqrt(expected) + 10)
        return np.cumsum(rng.exponential(1 / rate, count))


@dataclass(frozen=True)
class Gamma(_Stationary):
    """Gamma gaps with a coefficient of variation: 1 is Poisson, above it requests come in bursts.

    The start is stationary: a moment chosen at random falls into a gap with a probability that
    grows with its length, at a point uniform in it. The length-biased gamma is a gamma of a
    shape greater by one (Cox, Renewal Theory, 1962).
    """

    variation: float

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        shape = self.variation**-2
        scale = 1 / (shape * rate)
        last = rng.random() * rng.gamma(shape + 1, scale)
        parts = [np.array([last])]
        count = int(rate * duration + 4 * self.variation * np.sqrt(rate * duration) + 10)
        while last < duration:
            parts.append(last + np.cumsum(rng.gamma(shape, scale, count)))
            last = float(parts[-1][-1])
        return np.concatenate(parts)


def parse_variation(text: str, number: str) -> float:
    """The coefficient of variation behind ``gamma:``."""
    try:
        variation = float(number)
    except ValueError:
        variation = math.nan
    if not _LEAST_VARIATION <= variation <= _MOST_VARIATION:
        raise UsageError(
            f"--load {shown(text)} is not valid; write the coefficient of variation of the gaps, "
            f"{_LEAST_VARIATION:g} to {_MOST_VARIATION:g}, as in gamma:3 "
            "(1 is poisson; for even spacing write constant)"
        )
    return variation
