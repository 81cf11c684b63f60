"""The share of late requests as a rising function of the rate, and where it crosses the budget."""

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import betaln

from tuner.stats.estimators import INTERVAL_WIDTH
from tuner.stats.pooling import cumulative, pooled
from tuner.stats.samples import Floats

_RATES = 120
_GRID = 250
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
class ProbePoint:
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
        return math.log(self.high / self.low) / INTERVAL_WIDTH

    def chance_above(self, rate: float) -> float:
        """The probability, as believed, that the rate looked for is above this one."""
        return float(1 - np.interp(math.log(rate), self.logs, self.below, left=0, right=1))

    @property
    def is_cliff(self) -> bool:
        """Whether a few per cent more load make ten times as many late."""
        return self.steepness >= _CLIFF


def fit_rate(points: list[ProbePoint], budget: float, guess: float) -> Fit:
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


def fit_rounds(
    rounds: list[list[ProbePoint]], budget: float, guess: float
) -> tuple[Fit, list[Fit]]:
    """As ``fit_rate``, for several servers of one configuration: all together, and each.

    How steeply the share of late requests rises is the configuration's, so that all servers tell
    it; the rate at which it crosses the budget is each server's own. What they say together is
    pooled at each steepness (see ``tuner.stats.pooling``), and weighed by how likely that one is.
    """
    alone = [fit_rate(points, budget, guess) for points in rounds]
    if len(alone) == 1:
        return alone[0], alone
    low, high = min(fit.logs[0] for fit in alone), max(fit.logs[-1] for fit in alone)
    common, each = alone[0], alone
    for _ in range(2):
        logs = np.linspace(low, high, _GRID)
        common, each = _fit_together(rounds, budget, logs, math.log(guess))
        ends = [np.interp((_SURE, 1 - _SURE), fit.below, logs) for fit in (common, *each)]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return common, each


def _fit_together(
    rounds: list[list[ProbePoint]], budget: float, logs: Floats, guess: float
) -> tuple[Fit, list[Fit]]:
    """``guess`` is a logarithm, as are ``logs``."""
    prior = _prior(logs, guess)[:, None]
    tables = [_table(points, budget, logs) for points in rounds]
    told = [np.logaddexp.reduce(table + prior, axis=0) for table in tables]
    weights = np.log(_STEEPNESS_PRIOR) + np.sum(told, axis=0)
    weights -= np.logaddexp.reduce(weights)
    steepness = float(np.interp(0.5, np.cumsum(np.exp(weights)), _STEEPNESS))
    each = [
        Fit.of(logs, cumulative(np.logaddexp.reduce(table + prior - alone + weights, axis=1)),
               steepness)
        for table, alone in zip(tables, told, strict=True)
    ]  # fmt: skip
    seen = [np.exp(table - table.max()) for table in tables]
    together = np.stack(
        [pooled([likelihood[:, b] for likelihood in seen], logs) for b in range(len(_STEEPNESS))],
        axis=1,
    )
    belief = np.logaddexp.reduce(together + prior + np.log(_STEEPNESS_PRIOR), axis=1)
    return Fit.of(logs, cumulative(belief), steepness), each


def _prior(logs: Floats, guess: float) -> Floats:
    """Log-density of the rate before any probe, up to a constant."""
    return np.asarray(-2 * np.log1p(((logs - guess) / _SPREAD) ** 2))


def _posterior(
    points: list[ProbePoint], budget: float, logs: Floats, guess: float
) -> tuple[Floats, float]:
    """The belief over log rates, and the median steepness."""
    belief = _table(points, budget, logs) + _prior(logs, guess)[:, None]
    belief = np.exp(belief + np.log(_STEEPNESS_PRIOR) - belief.max())
    belief /= belief.sum()
    steep = np.cumsum(belief.sum(axis=0))
    return belief.sum(axis=1), float(np.interp(0.5, steep, _STEEPNESS))


def _table(points: list[ProbePoint], budget: float, logs: Floats) -> Floats:
    """Log-likelihood of one server's probes, of shape (rates, steepness), over all drifts."""
    total = np.zeros((len(logs), len(_STEEPNESS), len(_DRIFT))) + np.log(_DRIFT_PRIOR)
    for point in points:
        total += _likelihood(point, budget, logs)
    return np.asarray(np.logaddexp.reduce(total, axis=2))


def _likelihood(point: ProbePoint, budget: float, logs: Floats) -> Floats:
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
