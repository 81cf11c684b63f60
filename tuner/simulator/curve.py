"""Service time against batch size: a monotone fit of what servers counted, with its error."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tuner.simulator.robust import solve
from tuner.stats.samples import Floats


@dataclass(frozen=True)
class CurveSettings:
    """Shares of a service time, unless said otherwise."""

    scatter: float = 0.03  # of windows about the curve, beyond that of single executions
    single: float = 0.15  # scatter of single executions; the mean of n has 1/sqrt(n) of it
    stiffness: float = 0.3  # weight of changes of slope, against that of the scatter
    vague: float = 1.0  # of the median: how high a stretch may be in which nothing was seen
    knots_per_doubling: int = 2  # sizes at which the slope may change: 1, 2, 3, 4, 6, 8, 11, ...
    doublings: int = 20  # sizes up to a million items
    least_seconds: float = 1e-9  # of an execution: keeps weights finite


_SETTINGS = CurveSettings()


@dataclass(frozen=True)
class Timing:
    """``count`` executions of ``size`` items that took ``seconds`` in the mean."""

    size: int
    seconds: float
    count: int


@dataclass(frozen=True)
class ServiceCurve:
    """Seconds that an execution takes alone at each of ``sizes`` (ascending), linear in between,
    and the standard errors of them.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    errors: tuple[float, ...]

    @classmethod
    def fit(cls, observations: Iterable[Timing]) -> "ServiceCurve":
        """The rising curve nearest to the observations (``tuner.simulator.robust``).

        It is a sum of ramps between knots, each of a height of at least 0, so it may have flat
        stretches, steps and bends either way; changes of its slope cost a little, so that sizes
        which were not seen lie on a line between their neighbors. A size that is larger than all
        that was seen lies on the last slope. ValueError without observations.
        """
        timings = [o for o in observations if o.count > 0 and math.isfinite(o.seconds)]
        if not timings:
            raise ValueError("no executions were observed")
        sizes = np.array([o.size for o in timings], dtype=float)
        seconds = np.array([max(o.seconds, _SETTINGS.least_seconds) for o in timings])
        typical = float(np.median(seconds))
        seconds = seconds / typical  # else rounding, and with it the fit, depends on the unit
        counts = np.array([o.count for o in timings], dtype=float)
        weights = 1 / (seconds * np.sqrt(_SETTINGS.scatter**2 + _SETTINGS.single**2 / counts))
        knots = _knots(sizes)
        design = _ramps(sizes, knots) * weights[:, None]
        rough = _roughness(knots) * _SETTINGS.stiffness / _SETTINGS.scatter
        heights, trust = solve(design, seconds * weights, rough)
        at_knots = _ramps(knots, knots)
        spread = _spread(design, trust, rough, at_knots)
        excess = _excess(design @ heights - seconds * weights, trust, np.count_nonzero(heights))
        errors = np.sqrt(excess * np.maximum(spread, 0.0))
        return cls(
            tuple(int(k) for k in knots),
            tuple(float(v) for v in typical * (at_knots @ heights)),
            tuple(float(v) for v in typical * errors),
        )

    def at(self, sizes: Floats) -> Floats:
        """Seconds of an execution of each of these sizes, in items; of the same shape."""
        values = np.interp(sizes, self.sizes, self.seconds)
        if len(self.sizes) > 1:
            beyond = sizes > self.sizes[-1]
            values[beyond] = self.seconds[-1] + self.slope * (sizes[beyond] - self.sizes[-1])
        return np.asarray(values)

    def table(self, largest: int) -> Floats:
        """Seconds by size, shape (largest + 1,); index 0 stands for nothing to do."""
        values = self.at(np.arange(largest + 1, dtype=float))
        values[0] = 0.0
        return values

    @property
    def slope(self) -> float:
        """Seconds per item at the upper end: over the last doubling of the size."""
        last = self.sizes[-1]
        half = float(np.interp(last / 2, self.sizes, self.seconds))
        return (self.seconds[-1] - half) / max(1.0, last / 2) if last > 1 else self.seconds[-1]


def _spread(design: Floats, trust: Floats, rough: Floats, at_knots: Floats) -> Floats:
    """Variance of the curve at each knot, if rows of ``design`` had errors of 1: the diagonal of
    A (D' T D + R' R + V)^-1 A', with V the prior that keeps it finite where nothing was seen.
    """
    vague = np.eye(len(at_knots)) / _SETTINGS.vague**2
    trusted = design.T @ (design * trust[:, None])
    inverse = np.linalg.inv(trusted + rough.T @ rough + vague)
    return np.asarray(np.einsum("ij,jk,ik->i", at_knots, inverse, at_knots))


def _excess(residuals: Floats, trust: Floats, ramps: int) -> float:
    """By how much the variance of the residuals exceeds 1 (reduced chi-square); at least 1."""
    degrees = max(1.0, float(trust.sum()) - ramps)
    return max(1.0, float(np.sum(trust * residuals**2)) / degrees)


def _knots(sizes: Floats) -> Floats:
    step = _SETTINGS.knots_per_doubling
    powers = {round(2 ** (k / step)) for k in range(step * _SETTINGS.doublings + 1)}
    inside = sorted(k for k in powers if k < sizes.max())
    return np.array([*inside, sizes.max()] if inside else [sizes.max()], dtype=float)


def _ramps(sizes: Floats, knots: Floats) -> Floats:
    """The basis at ``sizes``: a constant, and for each stretch between knots how far it is done."""
    columns = [np.ones_like(sizes)]
    for low, high in pairwise(knots):
        columns.append(np.clip((sizes - low) / (high - low), 0, 1))
    return np.column_stack(columns)


def _roughness(knots: Floats) -> Floats:
    """Rows that give the change of slope at each inner knot, times the span of its neighbors."""
    rows = np.zeros((max(0, len(knots) - 2), len(knots)))
    for row, (low, middle, high) in enumerate(zip(knots[:-2], knots[1:-1], knots[2:], strict=True)):
        span = (high - low) / 2
        rows[row, row + 1] = -span / (middle - low)
        rows[row, row + 2] = span / (high - middle)
    return rows
