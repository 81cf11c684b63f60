"""The share of late requests as a rising function of the rate, and where it crosses the budget."""

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import betaln

from tuner.pooling import cumulative, pooled
from tuner.samples import Floats

_RATES = 120
_GRID = 400
_STEEPNESS = np.geomspace(4.0, 500.0, 14)
_STEEPNESS_PRIOR = 1 / np.sqrt(_STEEPNESS)
_DRIFT = np.array([0.004, 0.012, 0.035, 0.1])
_DRIFT_PRIOR = np.array([0.3, 0.3, 0.3, 0.1])
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)  # type: ignore[no-untyped-call]
_FAR = 8.0
_REACH = 3.0
_SPREAD = 0.5
_SURE = 1e-4
_CLIFF = 60.0
_DISTURBED = 0.02
_DISTURBED_SHARES = (0.3, 0.7)  # of late requests: any, most likely few or almost all (a beta law)


@dataclass(frozen=True)
class Point:
    """One probe: ``late`` of ``n`` requests at ``rate`` requests/s, in effective requests."""

    rate: float
    late: float
    n: float


@dataclass(frozen=True)
class Fit:
    """Where the share of late requests crosses its budget.

    ``rate`` (requests/s) is the median of what is believed after the probes, ``low`` and ``high``
    its central 95 %. ``steepness`` is d ln(odds of being late) / d ln(rate) there: 60 means that
    4 % more load makes ten times as many late. ``logs`` and ``below`` are the belief itself: log
    rates, and the probability of a smaller one.
    """

    rate: float
    low: float
    high: float
    steepness: float
    logs: Floats = field(repr=False, compare=False)
    below: Floats = field(repr=False, compare=False)

    @classmethod
    def of(cls, logs: Floats, below: Floats, steepness: float) -> "Fit":
        low, middle, high = np.exp(np.interp((0.025, 0.5, 0.975), below, logs))
        return cls(float(middle), float(low), float(high), steepness, logs, below)

    @property
    def width(self) -> float:
        """high / low - 1."""
        return self.high / self.low - 1

    @property
    def error(self) -> float:
        """The standard error of ln(rate), as for a normal belief with that central 95 %."""
        return math.log(self.high / self.low) / 3.92

    def chance_above(self, rate: float) -> float:
        """The probability, as believed, that the rate looked for is above this one."""
        return float(1 - np.interp(math.log(rate), self.logs, self.below, left=0, right=1))

    @property
    def is_cliff(self) -> bool:
        """Whether a few per cent more load make ten times as many late."""
        return self.steepness >= _CLIFF


def fit_rate(points: list[Point], budget: float, guess: float) -> Fit:
    """The rate at which a share ``budget`` is late, from the probes of one configuration.

    A Bayesian logistic regression on a grid: logit(share) = logit(budget) + b (rate / c_i - 1),
    with c_i the capacity at the time of probe i. The c_i scatter log-normally about the capacity c,
    since machines drift; c, b and the scatter are unknown, c with a broad prior about ``guess``
    requests/s. A probe far from the bound says only on which side it is, and any probe may have
    been disturbed, with a small probability, so that it says nothing. ``points`` may be empty.
    """
    centre, reach = math.log(guess), _REACH
    for _ in range(3):
        logs = np.linspace(centre - reach, centre + reach, _RATES)
        belief, steepness = _posterior(points, budget, logs, math.log(guess))
        below = np.cumsum(belief) - belief / 2
        first, last = np.interp((_SURE, 1 - _SURE), below, logs)
        centre, reach = (first + last) / 2, max((last - first) / 2, 1e-3)
    return Fit.of(logs, below, steepness)


def lowest(fits: list[Fit]) -> Fit:
    """Where the first of several bounds breaks: the smallest of independent rates."""
    if len(fits) == 1:
        return fits[0]
    logs = np.sort(np.concatenate([fit.logs for fit in fits]))
    kept = np.prod([1 - np.interp(logs, f.logs, f.below, left=0, right=1) for f in fits], axis=0)
    return Fit.of(logs, 1 - kept, min(fits, key=lambda fit: fit.rate).steepness)


def agree(fits: list[Fit], guess: float) -> Fit:
    """What fits of several servers of one configuration say together (see ``tuner.pooling``).

    ``guess`` is the one that all were made with.
    """
    logs = np.linspace(min(f.logs[0] for f in fits), max(f.logs[-1] for f in fits), _GRID)
    aside = (logs - math.log(guess)) / _SPREAD
    prior = 1 / (1 + aside**2) ** 2  # what each fit began with
    seen = [
        np.maximum(np.gradient(np.interp(logs, f.logs, f.below, left=0, right=1)), 0) / prior
        for f in fits
    ]
    below = cumulative(np.log(prior) + pooled(seen, logs))
    return Fit.of(logs, below, float(np.median([f.steepness for f in fits])))


def _posterior(
    points: list[Point], budget: float, logs: Floats, guess: float
) -> tuple[Floats, float]:
    """The belief over log rates, and the median steepness."""
    prior = -2 * np.log1p(((logs - guess) / _SPREAD) ** 2)
    flat = np.zeros((len(logs), len(_STEEPNESS), len(_DRIFT)))
    belief = flat + prior[:, None, None] + np.log(_DRIFT_PRIOR)
    belief += np.log(_STEEPNESS_PRIOR)[:, None]
    for point in points:
        belief = belief + _likelihood(point, budget, logs)
    belief = np.exp(belief - belief.max())
    belief /= belief.sum()
    steep = np.cumsum(belief.sum(axis=(0, 2)))
    return belief.sum(axis=(1, 2)), float(np.interp(0.5, steep, _STEEPNESS))


def _likelihood(point: Point, budget: float, logs: Floats) -> Floats:
    """Log-likelihood of one probe, of shape (rates, steepness, drift)."""
    shift = _NODES * _DRIFT[:, None]
    relative = np.exp(math.log(point.rate) - logs[:, None, None] - shift) - 1
    logit = _logit(budget) + _STEEPNESS[:, None, None] * relative[:, None, :, :]
    share = point.late / point.n
    if share > min(_FAR * budget, (1 + budget) / 2):
        logit = np.minimum(logit, _logit(min(share, 1 - 1e-9)))
    elif 0 < share < budget / _FAR:
        logit = np.maximum(logit, _logit(share))
    late, good = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    weights = np.log(_WEIGHTS / _WEIGHTS.sum())
    each = point.late * late + (point.n - point.late) * good + weights
    told = np.logaddexp.reduce(each, axis=-1)
    a, b = _DISTURBED_SHARES
    untold = betaln(point.late + a, point.n - point.late + b) - betaln(a, b)
    return np.asarray(np.logaddexp(math.log1p(-_DISTURBED) + told, math.log(_DISTURBED) + untold))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
