"""The share of late requests as a rising function of the rate, and where it crosses the budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tuner.stats.estimators import INTERVAL_WIDTH
from tuner.stats.pooling import cumulative, pooled
from tuner.stats.samples import Floats


@dataclass(frozen=True)
class FitSettings:
    """Rates are on a logarithmic scale: differences are relative."""

    rates: int = 120  # points of the grid for one server, laid anew about the belief three times
    rates_together: int = 250  # of the grid for several servers, which spans the beliefs of all
    reach: float = 3.0  # of the first grid about the guess: a factor of 20 each way
    least_reach: float = 1e-3  # of a later one: no capacity is known to better than 0.1 %
    spread: float = 0.5  # scale of the prior about the guess: off by 65 % is no surprise
    tail: float = 1e-4  # probability beyond either end of the next grid
    steepness: tuple[float, float] = (4.0, 500.0)  # from a gentle slope to a step of 1 %
    steepnesses: int = 14  # points between these: each 45 % above the one before
    drift: tuple[float, ...] = (0.004, 0.012, 0.035, 0.1)  # of the machine: quiet to bad
    drift_prior: tuple[float, ...] = (0.3, 0.3, 0.3, 0.1)  # a bad one is rare
    nodes: int = 5  # of the quadrature over the drift of one probe
    far: float = 8.0  # x or 1 / budget: further out the curve is not trusted
    cliff: float = 60.0  # steepness at which 4 % more load makes ten times as many late
    disturbed: float = 0.02  # probability that a probe says nothing
    disturbed_shares: tuple[float, float] = (0.3, 0.7)  # beta law of its late ones: few, or most


_SETTINGS = FitSettings()
_ENDS = (_SETTINGS.tail, 1 - _SETTINGS.tail)
_STEEPNESS = np.geomspace(*_SETTINGS.steepness, _SETTINGS.steepnesses)
_STEEPNESS_PRIOR = 1 / np.sqrt(_STEEPNESS)
_DRIFT = np.array(_SETTINGS.drift)
_DRIFT_PRIOR = np.array(_SETTINGS.drift_prior)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(_SETTINGS.nodes)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class ProbePoint:
    """One probe: ``late`` of ``n`` requests at ``rate`` requests/s, in effective requests."""

    rate: float
    late: float
    n: float


Points = tuple[ProbePoint, ...]


@dataclass(frozen=True)
class Fit:
    """Where the share of late requests crosses its budget.

    ``rate`` (requests/s) is the posterior median after the probes, ``low`` and ``high`` the central
    95 %. ``steepness`` is d ln(odds of being late) / d ln(rate) there: 60 means that 4 % more load
    makes ten times as many late. ``logs`` and ``below`` are the posterior itself: log rates, and
    the probability of a smaller one.
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
        """The standard error of ln(rate), as of a normal posterior with that central 95 %."""
        return math.log(self.high / self.low) / INTERVAL_WIDTH

    def chance_above(self, rate: float) -> float:
        """The posterior probability that the rate is above this one."""
        return float(1 - np.interp(math.log(rate), self.logs, self.below, left=0, right=1))

    @property
    def is_cliff(self) -> bool:
        """Whether a few percent more load make ten times as many late."""
        return self.steepness >= _SETTINGS.cliff


def fit_rate(points: Sequence[ProbePoint], budget: float, guess: float) -> Fit:
    """The rate at which a share ``budget`` is late, from the probes of one configuration.

    A Bayesian logistic regression on a grid: logit(share) = logit(budget) + b (rate / c_i - 1),
    with c_i the capacity at the time of probe i. The c_i scatter log-normally about the capacity c,
    since machines drift; c, b and the scatter are unknown, c with a broad prior about ``guess``
    requests/s. A probe far from the bound says only on which side it is, and any probe may have
    been disturbed, with a small probability, so that it says nothing. ``points`` may be empty.
    """
    return _fit_rate(tuple(points), budget, guess)


@lru_cache(maxsize=256)
def _fit_rate(points: Points, budget: float, guess: float) -> Fit:
    """A fit takes tens of milliseconds, and each is asked for several times."""
    centre, reach = math.log(guess), _SETTINGS.reach
    for _ in range(3):
        logs = np.linspace(centre - reach, centre + reach, _SETTINGS.rates)
        belief, steepness = _posterior(points, budget, logs, math.log(guess))
        below = np.cumsum(belief) - belief / 2
        first, last = np.interp(_ENDS, below, logs)
        centre, reach = (first + last) / 2, max((last - first) / 2, _SETTINGS.least_reach)
    return Fit.of(logs, below, steepness)


def lowest(fits: list[Fit]) -> Fit:
    """Where the first of several bounds breaks: the smallest of independent rates."""
    if len(fits) == 1:
        return fits[0]
    logs = np.sort(np.concatenate([fit.logs for fit in fits]))
    above = np.prod([1 - np.interp(logs, f.logs, f.below, left=0, right=1) for f in fits], axis=0)
    return Fit.of(logs, 1 - above, min(fits, key=lambda fit: fit.rate).steepness)


def fit_servers(
    servers: Sequence[Sequence[ProbePoint]], budget: float, guess: float
) -> tuple[Fit, list[Fit]]:
    """As ``fit_rate``, for several servers of one configuration: all together, and each.

    How steeply the share of late requests rises is the configuration's, so that all servers tell
    it; the rate at which it crosses the budget is each server's own. What they say together is
    pooled at each steepness (see ``tuner.stats.pooling``), and weighed by how likely that one is.
    """
    common, fits = _fit_servers(tuple(tuple(points) for points in servers), budget, guess)
    return common, list(fits)


@lru_cache(maxsize=64)
def _fit_servers(
    servers: tuple[Points, ...], budget: float, guess: float
) -> tuple[Fit, tuple[Fit, ...]]:
    alone = [_fit_rate(points, budget, guess) for points in servers]
    if len(alone) == 1:
        return alone[0], tuple(alone)
    low, high = min(fit.logs[0] for fit in alone), max(fit.logs[-1] for fit in alone)
    common, fits = alone[0], alone
    for _ in range(2):
        logs = np.linspace(low, high, _SETTINGS.rates_together)
        common, fits = _fit_together(servers, budget, logs, math.log(guess))
        ends = [np.interp(_ENDS, fit.below, logs) for fit in (common, *fits)]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return common, tuple(fits)


def _fit_together(
    servers: tuple[Points, ...], budget: float, logs: Floats, guess: float
) -> tuple[Fit, list[Fit]]:
    """``guess`` is a logarithm, as are ``logs``."""
    prior = _prior(logs, guess)[:, None]
    tables = [_table(points, budget, logs) for points in servers]
    by_server = [np.logaddexp.reduce(table + prior, axis=0) for table in tables]
    weights = np.log(_STEEPNESS_PRIOR) + np.sum(by_server, axis=0)
    weights -= np.logaddexp.reduce(weights)
    steepness = float(np.interp(0.5, np.cumsum(np.exp(weights)), _STEEPNESS))
    fits = [
        Fit.of(logs, cumulative(np.logaddexp.reduce(table + prior - alone + weights, axis=1)),
               steepness)
        for table, alone in zip(tables, by_server, strict=True)
    ]  # fmt: skip
    likelihoods = [np.exp(table - table.max()) for table in tables]
    together = np.stack(
        [
            pooled([likelihood[:, b] for likelihood in likelihoods], logs)
            for b in range(len(_STEEPNESS))
        ],
        axis=1,
    )
    belief = np.logaddexp.reduce(together + prior + np.log(_STEEPNESS_PRIOR), axis=1)
    return Fit.of(logs, cumulative(belief), steepness), fits


def _prior(logs: Floats, guess: float) -> Floats:
    """Log-density of the rate before any probe, up to a constant."""
    return np.asarray(-2 * np.log1p(((logs - guess) / _SETTINGS.spread) ** 2))


def _posterior(points: Points, budget: float, logs: Floats, guess: float) -> tuple[Floats, float]:
    """The posterior over log rates, and the median steepness."""
    belief = _table(points, budget, logs) + _prior(logs, guess)[:, None]
    belief = np.exp(belief + np.log(_STEEPNESS_PRIOR) - belief.max())
    belief /= belief.sum()
    steep = np.cumsum(belief.sum(axis=0))
    return belief.sum(axis=1), float(np.interp(0.5, steep, _STEEPNESS))


def _table(points: Points, budget: float, logs: Floats) -> Floats:
    """Log-likelihood of one server's probes, of shape (rates, steepness), over all drifts."""
    total = np.zeros((len(logs), len(_STEEPNESS), len(_DRIFT))) + np.log(_DRIFT_PRIOR)
    for point in points:
        total += _likelihood(point, budget, logs)
    return np.asarray(np.logaddexp.reduce(total, axis=2))


def _likelihood(point: ProbePoint, budget: float, logs: Floats) -> Floats:
    """Log-likelihood of one probe, of shape (rates, steepness, drift)."""
    from scipy.special import betaln  # slow to import: a first server is launched meanwhile

    shift = _NODES * _DRIFT[:, None]
    relative = np.exp(math.log(point.rate) - logs[:, None, None] - shift) - 1
    logit = _logit(budget) + _STEEPNESS[:, None, None] * relative[:, None, :, :]
    share = point.late / point.n
    if share > min(_SETTINGS.far * budget, (1 + budget) / 2):
        logit = np.minimum(logit, _logit(min(share, 1 - 1e-9)))
    elif 0 < share < budget / _SETTINGS.far:
        logit = np.maximum(logit, _logit(share))
    late, good = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    weights = np.log(_WEIGHTS / _WEIGHTS.sum())
    by_node = point.late * late + (point.n - point.late) * good + weights
    undisturbed = np.logaddexp.reduce(by_node, axis=-1)
    a, b = _SETTINGS.disturbed_shares
    any_share = betaln(point.late + a, point.n - point.late + b) - betaln(a, b)
    disturbed = _SETTINGS.disturbed
    return np.asarray(
        np.logaddexp(math.log1p(-disturbed) + undisturbed, math.log(disturbed) + any_share)
    )


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
