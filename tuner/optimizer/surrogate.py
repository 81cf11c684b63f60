"""What is expected of every candidate: a prior, corrected by what was measured of others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    QUEUE_DELAY,
    Candidate,
    Value,
)
from tuner.stats.samples import Floats


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
    launch: float = 0.03  # by which two servers of one configuration differ
    certain: float = 1e-3  # of a prior that is the truth; above zero, to divide by
    least_variance: float = 1e-10  # what rounding may leave of a variance


SETTINGS = SurrogateSettings()


@dataclass(frozen=True)
class Observation:
    """A candidate's capacity as measured: ln(requests/s), and its standard error."""

    candidate: Candidate
    log: float
    error: float


@dataclass(frozen=True)
class Posterior:
    """Mean and standard deviation of a logarithm for each candidate; shapes (n,)."""

    mean: Floats
    error: Floats


class Surrogate:
    """A Gaussian process over the logarithm of what is looked for, such as the capacity, of
    ``candidates``.

    Its mean function is ``prior`` (logarithms, shape (n,)), off by a common factor and by a
    deviation that neighbours share; how large it is, is learned (Rasmussen and Williams, Gaussian
    Processes for Machine Learning, 2006, chapters 2 and 5). ``common`` is the standard deviation of
    the factor's logarithm, large where nothing is known of it. A ``certain`` prior is the truth.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        prior: Floats,
        common: float = SETTINGS.common,
        certain: bool = False,
        settings: SurrogateSettings = SETTINGS,
    ) -> None:
        self._prior = prior
        self._index = {candidate: i for i, candidate in enumerate(candidates)}
        self._correlations = _correlations(candidates, settings)
        self._common, self._certain, self._settings = common, certain, settings

    def index(self, candidate: Candidate) -> int | None:
        """None where it is none of the candidates."""
        return self._index.get(candidate)

    def posterior(self, observations: Sequence[Observation]) -> Posterior:
        """What is expected after these measurements."""
        s = self._settings
        known = [each for each in observations if each.candidate in self._index]
        if not known or self._certain:
            error = s.certain if self._certain else math.hypot(self._common, s.deviations[1])
            return Posterior(self._prior, np.full(len(self._prior), error))
        at = np.array([self._index[each.candidate] for each in known])
        noise = np.diag([each.error**2 + s.launch**2 for each in known])
        residuals = np.array([each.log for each in known]) - self._prior[at]
        log_weights, means, variances = [], [], []
        for deviation, probability in zip(s.deviations, s.deviation_prior, strict=True):
            across = self._common**2 + deviation**2 * self._correlations[:, at]
            factor = cho_factor(across[at] + noise, lower=True)
            solved = cho_solve(factor, residuals)
            misfit, log_root = float(residuals @ solved), np.log(np.diag(factor[0])).sum()
            log_weights.append(math.log(probability) - 0.5 * misfit - log_root)
            means.append(self._prior + across @ solved)
            explained = np.einsum("ij,ji->i", across, cho_solve(factor, across.T))
            variance = self._common**2 + deviation**2  # a candidate is like itself
            variances.append(np.maximum(variance - explained, s.least_variance))
        weights = np.exp(np.array(log_weights) - max(log_weights))
        weights /= weights.sum()
        mean = np.asarray(weights @ np.array(means))
        spread = (np.array(means) - mean) ** 2
        return Posterior(mean, np.asarray(np.sqrt(weights @ (np.array(variances) + spread))))


def _correlations(
    candidates: Sequence[Candidate], settings: SurrogateSettings
) -> npt.NDArray[np.float64]:
    """Correlations of the deviations, 1 of a candidate with itself; shape (n, n).

    Half of a deviation is shared by candidates that are near in all settings together, half is what
    single settings do, each by itself (Duvenaud et al., Additive Gaussian Processes, 2011).
    """
    paths = sorted({path for c in candidates for path, _ in c.settings})
    total = np.zeros((len(candidates), len(candidates)))
    single = np.zeros_like(total)
    for path in paths:
        distances = _squared_distances(path, [c.get(path) for c in candidates], settings)
        total += distances
        single += np.exp(-settings.single_sharpness * distances / 2)
    return np.asarray((np.exp(-total / 2) + single / max(1, len(paths))) / 2, dtype=np.float64)


def _squared_distances(
    path: str, values: list[Value | None], settings: SurrogateSettings
) -> npt.NDArray[np.float64]:
    """In one setting, in units of its length scale; shape (n, n)."""
    numbers = [_doublings(path, value, settings.delay_unit) for value in values]
    if path != DYNAMIC_BATCHING and any(n is not None for n in numbers):
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
