"""A Poisson process whose rate follows steps and ramps, again and again."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuner.errors import UnitError, UsageError
from tuner.stats.samples import Floats
from tuner.text import shown
from tuner.units import parse_duration

_RATE = r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_STRETCH = re.compile(rf"({_RATE})(?:-({_RATE}))? ?x ?(.+)")


@dataclass(frozen=True)
class ProfileLimits:
    """Of what a text may say, so that sums and ratios are far from overflowing."""

    stretches: int = 1000
    """Its text is kept in the record of every probe."""
    rates: tuple[float, float] = (1e-9, 1e9)
    """Relative ones that are not zero."""


_LIMITS = ProfileLimits()


@dataclass(frozen=True, slots=True)
class Stretch:
    """``seconds`` in which the rate goes in a straight line from ``first`` to ``last``."""

    first: float
    last: float
    seconds: float

    @property
    def area(self) -> float:
        return (self.first + self.last) / 2 * self.seconds


@dataclass(frozen=True)
class RateProfile:
    """A rate over one period, at least one stretch of it above zero."""

    stretches: tuple[Stretch, ...]

    @cached_property
    def seconds(self) -> float:
        return float(sum(s.seconds for s in self.stretches))

    @cached_property
    def _columns(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Per stretch with any requests: start, length, first rate, slope; and the share of a
        period's requests before each and at the end.
        """
        starts = np.cumsum([0.0, *(s.seconds for s in self.stretches)])[:-1]
        busy = [i for i, s in enumerate(self.stretches) if s.area > 0]
        area = sum(self.stretches[i].area for i in busy)
        seconds = np.array([self.stretches[i].seconds for i in busy])
        first = np.array([self.stretches[i].first for i in busy]) / area
        last = np.array([self.stretches[i].last for i in busy]) / area
        shares = np.cumsum([0.0, *((first + last) / 2 * seconds)])
        return starts[busy], seconds, first, (last - first) / seconds, shares / shares[-1]

    def cumulative(self, seconds: float) -> float:
        """Periods' worth of requests from the start of a period until so many seconds later."""
        starts, lengths, first, slopes, _ = self._columns
        periods, rest = divmod(seconds, self.seconds)
        inside = np.clip(rest - starts, 0.0, lengths)
        return float(periods + np.sum(inside * (first + slopes * inside / 2)))

    def inverse(self, amounts: Floats) -> Floats:
        """The seconds at which ``cumulative`` reaches these amounts."""
        starts, lengths, first, slopes, shares = self._columns
        periods = np.floor(amounts)
        rest = amounts - periods
        where = np.clip(np.searchsorted(shares, rest, side="right") - 1, 0, len(starts) - 1)
        more, rate = np.maximum(rest - shares[where], 0.0), first[where]
        # The root of rate*t + slope*t²/2 = more, in the form that needs no division by the slope.
        below = rate + np.sqrt(np.maximum(rate**2 + 2 * slopes[where] * more, 0.0))
        inside = np.divide(2 * more, below, out=np.zeros_like(more), where=below > 0)
        inside = np.minimum(inside, lengths[where])
        return np.asarray(periods * self.seconds + starts[where] + inside)

    def times(
        self, rate: float, duration: float, period: float, rng: np.random.Generator
    ) -> Floats:
        """Send times in [0, duration) where a period lasts ``period`` seconds, from a random phase.

        The points of a Poisson process of rate 1 go through the inverse of the cumulative rate
        (Çinlar, Introduction to Stochastic Processes, 1975, chapter 4); those of an interval
        are as many as a Poisson number says, and uniform in it.
        """
        stretched = self.seconds / period
        phase = rng.random() * self.seconds
        low, high = (self.cumulative(phase + t * stretched) for t in (0.0, duration))
        count = rng.poisson(max(0.0, high - low) * rate * period)
        amounts = np.sort(rng.uniform(low, high, count))
        return np.sort((self.inverse(amounts) - phase) / stretched)


@dataclass(frozen=True)
class Piecewise:
    """Relative rates over stretches of stated length; the mean over a period is the rate asked for.

    It starts at a random phase: from the beginning of a period, all probes that are no whole number
    of periods long would have too much of its first stretches.
    """

    profile: RateProfile
    own_rate: float | None = None
    sha256: str | None = None

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        return self.profile.times(rate, duration, self.profile.seconds, rng)

    def least_seconds(self, rate: float) -> float:
        return self.profile.seconds


def parse_profile(text: str, stretches: str) -> Piecewise:
    """The process out of ``1x5s,3x1s``, or with a ramp ``1-3x10s``."""
    parsed = []
    parts = stretches.split(",")
    if len(parts) > _LIMITS.stretches:
        raise UsageError(
            f"--load {shown(text)}: at most {_LIMITS.stretches:,} steps are supported; use "
            "trace:FILE for more"
        )
    for part in parts:
        match = _STRETCH.fullmatch(" ".join(part.split()))
        if match is None:
            raise UsageError(
                f"--load {shown(text)}: the step {shown(part)} is not valid; write RATExDURATION "
                "with a relative rate, as in piecewise:1x5s,3x1s, or a ramp, as in "
                "piecewise:1-3x10s"
            )
        try:
            seconds = parse_duration(match[3])
        except UnitError as error:
            raise UsageError(f"--load {shown(text)}: {error}") from error
        first = _relative_rate(match[1], text)
        last = _relative_rate(match[2], text) if match[2] else first
        parsed.append(Stretch(first, last, seconds))
    if not any(stretch.area > 0 for stretch in parsed):
        raise UsageError(f"--load {shown(text)}: all rates are zero; set at least one above zero")
    return Piecewise(RateProfile(tuple(parsed)))


def _relative_rate(number: str, text: str) -> float:
    rate = float(number)
    least, most = _LIMITS.rates
    if rate and not least <= rate <= most:
        raise UsageError(
            f"--load {shown(text)}: the relative rate {shown(number)} must be zero, or from "
            f"{least:g} to {most:g}"
        )
    return rate
