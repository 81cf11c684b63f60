"""The surrogate model: a prior of every candidate, corrected by the measurements of others."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tuner.model.parameter import Value
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    RATE_LIMIT,
    Candidate,
    field_of,
)
from tuner.stats.samples import Floats, Ints

_KINDS = (DYNAMIC_BATCHING, RATE_LIMIT)
"""Settings whose values are not more or less of something: no limit is not less than one."""
_SHOWN_BY_BATCHES = (DYNAMIC_BATCHING, MAX_BATCH_SIZE, PREFERRED, QUEUE_DELAY)
"""Settings that matter by the batches that they make."""


@dataclass(frozen=True)
class SurrogateSettings:
    """Of the Gaussian process; standard deviations are of natural logarithms."""

    lengths: Mapping[str, float] = field(
        default_factory=lambda: {MAX_BATCH_SIZE: 1.2, INSTANCE_COUNT: 0.6, QUEUE_DELAY: 1.5}
    )
    """Length scales in doublings: one more instance changes more than a larger batch does."""
    other_length: float = 1.2  # of any other number; settings that are none differ by 1 or not
    delay_unit: float = 500.0  # µs: below it delays hardly differ, above it doublings count
    single_sharpness: float = 4.0  # of one setting by itself, half the length scale counts
    common: float = 0.25  # of the factor that all simulated capacities are off by
    deviations: tuple[float, ...] = (0.03, 0.06, 0.12, 0.24, 0.5)
    """Of a candidate's own deviation; which one it is, the data say."""
    deviation_prior: tuple[float, ...] = (0.15, 0.4, 0.3, 0.1, 0.05)
    """Probabilities of these beforehand: simulations are mostly right within 3 to 12 %."""
    launches: tuple[float, ...] = (0.03, 0.08, 0.2)
    """By which two servers of one configuration differ: on a quiet machine, a busy one, a bad one.
    Which it is, the data say; else noise would be taken for what configurations do."""
    launch_prior: tuple[float, ...] = (0.6, 0.3, 0.1)
    idiosyncrasy: float = 0.02
    """Share of the variance of a deviation that is of settings rather than of what they do: with
    deviations of 6 %, candidates of the same batches differ by 1 %."""
    certain: float = 1e-3  # of a prior that is the truth; above zero, to divide by
    least_precision: float = 0.1  # of an observation that is one: its standard error is below 3
    least_variance: float = 1e-10  # what rounding may leave of a variance


SETTINGS = SurrogateSettings()


@dataclass(frozen=True)
class Observation:
    """A candidate's capacity as measured: ln(requests/s), and its standard error."""

    candidate: Candidate
    log: float
    error: float


def below(
    candidate: Candidate,
    mean: float,
    error: float,
    limit: float,
    settings: SurrogateSettings = SETTINGS,
) -> Observation | None:
    """What it tells of a candidate, expected at ``mean`` with a standard deviation of ``error``,
    that it lies below ``limit`` (all logarithms); None if next to nothing.

    The observation with which a normal belief has the mean and the variance that it has once it is
    cut off at the limit, softly, as servers differ (assumed density filtering; Rasmussen and
    Williams, chapter 3.6, with a cumulative Gaussian as the likelihood).
    """
    from scipy.stats import norm

    launch, variance = settings.launches[0] ** 2, error**2
    scale = math.sqrt(variance + launch)
    z = (limit - mean) / scale
    hazard = math.exp(float(norm.logpdf(z) - norm.logcdf(z)))
    shift = variance / scale * hazard
    left = variance - variance**2 / scale**2 * hazard * (z + hazard)
    precision = 1 / max(left, settings.least_variance) - 1 / variance
    if precision <= settings.least_precision:
        return None
    seen = ((mean - shift) / left - mean / variance) / precision
    noise = max(1 / precision - launch, settings.least_variance)
    return Observation(candidate, seen, math.sqrt(noise))


@dataclass(frozen=True)
class _Component:
    """The Gaussian process with one size of deviations and noise: its ``weight``, its mean,
    and what the observations explain, as ``explained.T @ explained``, of shape (observations, n).
    """

    weight: float
    deviation: float
    mean: Floats
    explained: Floats


@dataclass(frozen=True)
class Posterior:
    """Mean and standard deviation of a logarithm for each candidate; shapes (n,)."""

    mean: Floats
    error: Floats
    components: tuple[_Component, ...] = field(repr=False, compare=False)
    correlations: Floats = field(repr=False, compare=False)
    common: float = field(repr=False, compare=False)

    def draw(self, at: Ints, count: int, seed: int) -> Floats:
        """``count`` draws of the logarithms of the candidates ``at`` these places, shape (k,),
        together: what is true of one is likely of its neighbors. Shape (count, k).
        """
        rng = np.random.default_rng(seed)
        if not self.components:
            return np.tile(self.mean[at], (count, 1))
        weights = [component.weight for component in self.components]
        chosen = rng.choice(len(weights), count, p=weights)
        drawn = rng.standard_normal((count, len(at)))
        for number, component in enumerate(self.components):
            own = chosen == number
            if own.any():
                explained = component.explained[:, at]
                covariance = self.common**2 - explained.T @ explained
                covariance += component.deviation**2 * self.correlations[np.ix_(at, at)]
                values, vectors = np.linalg.eigh(covariance)
                root = vectors * np.sqrt(np.maximum(values, 0.0))  # rounding leaves some below
                drawn[own] = component.mean[at] + drawn[own] @ root.T
        return drawn


class Surrogate:
    """A Gaussian process over the logarithm of what is looked for, such as the capacity, of
    ``candidates``.

    Its mean function is ``prior`` (logarithms, shape (n,)), off by a common factor and by a
    deviation that neighbors share; how large it is, is learned (Rasmussen and Williams, Gaussian
    Processes for Machine Learning, 2006, chapters 2 and 5). ``common`` is the standard deviation of
    the factor's logarithm, large where nothing is known of it. A ``certain`` prior is the truth.
    ``batches`` are the mean sizes of the batches in simulation, shape (n,) or, of several models,
    (n, models): neighbors are then those that do much the same, whatever they are set to.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        prior: Floats,
        common: float = SETTINGS.common,
        certain: bool = False,
        batches: Floats | None = None,
        settings: SurrogateSettings = SETTINGS,
    ) -> None:
        self._prior = prior
        self._index = {candidate: i for i, candidate in enumerate(candidates)}
        self._correlations = _correlations(candidates, batches, settings)
        self._common, self._certain, self._settings = common, certain, settings

    def index(self, candidate: Candidate) -> int | None:
        """None if it is none of the candidates."""
        return self._index.get(candidate)

    def posterior(self, observations: Sequence[Observation]) -> Posterior:
        """What is expected after these measurements."""
        from scipy.linalg import cholesky, solve_triangular  # slow to import

        s = self._settings
        if self._certain:
            error = np.full(len(self._prior), s.certain)
            return Posterior(self._prior, error, (), self._correlations, 0.0)
        known = [each for each in observations if each.candidate in self._index]
        at = np.array([self._index[each.candidate] for each in known], dtype=int)
        errors = np.array([each.error for each in known])
        residuals = np.array([each.log for each in known]) - self._prior[at]
        log_weights, components, variances = [], [], []
        hypotheses = itertools.product(
            zip(s.deviations, s.deviation_prior, strict=True),
            zip(s.launches, s.launch_prior, strict=True),
        )
        for (deviation, likely), (launch, frequent) in hypotheses:
            probability = likely * frequent
            across = self._common**2 + deviation**2 * self._correlations[at]
            root = cholesky(across[:, at] + np.diag(errors**2 + launch**2), lower=True)
            explained = solve_triangular(root, across, lower=True)
            whitened = solve_triangular(root, residuals, lower=True)
            log_weights.append(
                math.log(probability)
                - 0.5 * float(whitened @ whitened)
                - float(np.log(np.diag(root)).sum())
            )
            mean = self._prior + explained.T @ whitened
            components.append(_Component(0.0, deviation, mean, explained))
            left = self._common**2 + deviation**2 - (explained**2).sum(axis=0)
            variances.append(np.maximum(left, s.least_variance))
        weights = np.exp(np.array(log_weights) - max(log_weights))
        weights /= weights.sum()
        means = np.array([component.mean for component in components])
        mean = np.asarray(weights @ means)
        error = np.sqrt(weights @ (np.array(variances) + (means - mean) ** 2))
        weighed = tuple(
            replace(each, weight=float(weight))
            for each, weight in zip(components, weights, strict=True)
        )
        return Posterior(mean, np.asarray(error), weighed, self._correlations, self._common)


def _correlations(
    candidates: Sequence[Candidate], batches: Floats | None, settings: SurrogateSettings
) -> Floats:
    """Correlations of the deviations, 1 of a candidate with itself; shape (n, n).

    Where their batches are known, almost all of a deviation is that of what candidates do, and very
    little that of what they are set to.
    """
    settled = [dict(candidate.settings) for candidate in candidates]
    set_to, alike = (_Additive(len(candidates), settings) for _ in range(2))
    for column in () if batches is None else batches.reshape(len(candidates), -1).T:
        doublings = np.log2(column) / settings.lengths[MAX_BATCH_SIZE]
        alike.add(np.asarray((doublings[:, None] - doublings[None, :]) ** 2, dtype=np.float64))
    for path in sorted({path for each in settled for path in each}):
        distances = _squared_distances(path, [each.get(path) for each in settled], settings)
        set_to.add(distances)
        if field_of(path) not in _SHOWN_BY_BATCHES:
            alike.add(distances)
    if batches is None:
        return set_to.correlations()
    share = settings.idiosyncrasy
    return np.asarray((1 - share) * alike.correlations() + share * set_to.correlations())


class _Additive:
    """Half of a deviation is shared by candidates that are near in all respects together, half is
    what single ones do, each by itself (Duvenaud et al., Additive Gaussian Processes, 2011).

    Distances are added up one by one: thousands of candidates in tens of settings would not fit
    into memory side by side.
    """

    def __init__(self, count: int, settings: SurrogateSettings) -> None:
        self._total, self._single = np.zeros((count, count)), np.zeros((count, count))
        self._sharpness = settings.single_sharpness
        self._added = 0

    def add(self, distances: Floats) -> None:
        """Squared ones in one respect, of shape (count, count)."""
        self._total += distances
        self._single += np.exp(-self._sharpness * distances / 2)
        self._added += 1

    def correlations(self) -> Floats:
        """Of shape (count, count)."""
        return np.asarray((np.exp(-self._total / 2) + self._single / max(1, self._added)) / 2)


def _squared_distances(
    path: str, values: list[Value | None], settings: SurrogateSettings
) -> Floats:
    """In one setting, in units of its length scale; shape (n, n)."""
    numbers = [_doublings(path, value, settings.delay_unit) for value in values]
    path = field_of(path)
    if path not in _KINDS and any(n is not None for n in numbers):
        length = settings.lengths.get(path, settings.other_length)
        column = np.array([np.nan if n is None else n / length for n in numbers])
        distances = (column[:, None] - column[None, :]) ** 2
        lacking = np.isnan(column)
        both = lacking[:, None] & lacking[None, :]
        return np.asarray(np.where(np.isnan(distances), np.where(both, 0.0, 1.0), distances))
    kinds = {value: kind for kind, value in enumerate(dict.fromkeys(map(str, values)))}
    codes = np.array([kinds[str(value)] for value in values])
    return np.asarray(codes[:, None] != codes[None, :], dtype=np.float64)


def _doublings(path: str, value: Value | None, delay_unit: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if path == QUEUE_DELAY:
        return math.log2(1 + value / delay_unit)
    return math.log2(value) if value > 0 else 0.0
