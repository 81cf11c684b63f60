"""Service time against batch size: a monotone fit of what servers counted, with its error."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tuner.simulator.robust import solve
from tuner.stats.samples import Floats

_SCATTER = 0.03  # of windows about the curve, beyond the scatter of single executions
_SINGLE = 0.15
_STIFF = 0.3
_VAGUE = 1.0  # where nothing was seen, a stretch may be as high as what was
_KNOTS = tuple(sorted({round(2 ** (k / 2)) for k in range(41)}))


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
        which were not seen lie on a line between their neighbours. A size that is larger than all
        that was seen lies on the last slope. ValueError without observations.
        """
        seen = [o for o in observations if o.count > 0 and math.isfinite(o.seconds)]
        if not seen:
            raise ValueError("no executions were observed")
        sizes = np.array([o.size for o in seen], dtype=float)
        seconds = np.array([max(o.seconds, 1e-9) for o in seen])
        counts = np.array([o.count for o in seen], dtype=float)
        weights = 1 / (seconds * np.sqrt(_SCATTER**2 + _SINGLE**2 / counts))
        knots = _knots(sizes)
        design = _ramps(sizes, knots) * weights[:, None]
        rough = _roughness(knots) * _STIFF / float(np.median(seconds) * _SCATTER)
        heights, trust = solve(design, seconds * weights, rough)
        at_knots = _ramps(knots, knots)
        vague = np.eye(len(knots)) / (_VAGUE * float(np.median(seconds))) ** 2
        trusted = design.T @ (design * trust[:, None])
        inverse = np.linalg.inv(trusted + rough.T @ rough + vague)
        degrees = max(1.0, float(trust.sum()) - np.count_nonzero(heights))
        off = design @ heights - seconds * weights
        excess = max(1.0, float(np.sum(trust * off**2)) / degrees)
        spread = np.einsum("ij,jk,ik->i", at_knots, inverse, at_knots)
        errors = np.sqrt(excess * np.maximum(spread, 0.0))
        return cls(
            tuple(int(k) for k in knots),
            tuple(float(v) for v in at_knots @ heights),
            tuple(float(v) for v in errors),
        )

    def table(self, largest: int) -> Floats:
        """Seconds by size, shape (largest + 1,); index 0 stands for nothing to do."""
        at = np.arange(largest + 1, dtype=float)
        values = np.interp(at, self.sizes, self.seconds)
        if largest > self.sizes[-1] and len(self.sizes) > 1:
            beyond = at > self.sizes[-1]
            values[beyond] = self.seconds[-1] + self.slope * (at[beyond] - self.sizes[-1])
        values[0] = 0.0
        return values

    @property
    def slope(self) -> float:
        """Seconds per item at the upper end: over the last doubling of the size."""
        last = self.sizes[-1]
        half = float(np.interp(last / 2, self.sizes, self.seconds))
        return (self.seconds[-1] - half) / max(1.0, last / 2) if last > 1 else self.seconds[-1]


def _knots(sizes: Floats) -> Floats:
    inside = [k for k in _KNOTS if k < sizes.max()]
    return np.array([*inside, sizes.max()] if inside else [sizes.max()], dtype=float)


def _ramps(sizes: Floats, knots: Floats) -> Floats:
    """The basis at ``sizes``: a constant, and for each stretch between knots how far it is done."""
    columns = [np.ones_like(sizes)]
    for low, high in pairwise(knots):
        columns.append(np.clip((sizes - low) / (high - low), 0, 1))
    return np.column_stack(columns)


def _roughness(knots: Floats) -> Floats:
    """Rows that give the change of slope at each inner knot, times the span of its neighbours."""
    rows = np.zeros((max(0, len(knots) - 2), len(knots)))
    for row, (low, middle, high) in enumerate(zip(knots[:-2], knots[1:-1], knots[2:], strict=True)):
        span = (high - low) / 2
        rows[row, row + 1] = -span / (middle - low)
        rows[row, row + 2] = span / (high - middle)
    return rows
