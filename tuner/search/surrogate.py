"""What is expected of every candidate: a prior, corrected by what was measured of others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import norm

from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    QUEUE_DELAY,
    Candidate,
    Value,
)
from tuner.stats.samples import Floats

_REACHES = {MAX_BATCH_SIZE: 1.2, INSTANCE_COUNT: 0.6, QUEUE_DELAY: 1.5}  # in doublings
_DELAY_UNIT = 500.0  # µs: below it delays hardly differ
_REACH = 1.2  # of any other number, in doublings; of all else, 1 where two differ
_SHARPER = 4.0  # distances count more for what a setting does by itself
COMMON = 0.25
_SCATTER = (0.03, 0.06, 0.12, 0.24, 0.5)
_SCATTER_PRIOR = (0.15, 0.4, 0.3, 0.1, 0.05)
_LAUNCH = 0.03
_CERTAIN = 1e-3


@dataclass(frozen=True)
class Observation:
    """A candidate's capacity as measured: ln(requests/s), and its standard error."""

    candidate: Candidate
    log: float
    error: float


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
        common: float = COMMON,
        certain: bool = False,
    ) -> None:
        self.candidates = list(candidates)
        self._prior = prior
        self._places = {c: i for i, c in enumerate(self.candidates)}
        self._alike = _likeness(self.candidates)
        self.mean: Floats = prior
        self._common, self._certain = common, certain
        error = _CERTAIN if certain else math.hypot(common, _SCATTER[1])
        self.error: Floats = np.full(len(prior), error)

    def learn(self, observations: Sequence[Observation]) -> None:
        """Take these measurements, and no others, into account."""
        known = [s for s in observations if s.candidate in self._places]
        if not known or self._certain:
            return
        at = np.array([self._places[s.candidate] for s in known])
        noise = np.array([s.error**2 + _LAUNCH**2 for s in known])
        off = np.array([s.log for s in known]) - self._prior[at]
        weights, means, variances = [], [], []
        for scatter, chance in zip(_SCATTER, _SCATTER_PRIOR, strict=True):
            cover = self._common**2 + scatter**2 * self._alike
            within = cho_factor(cover[np.ix_(at, at)] + np.diag(noise), lower=True)
            solved = cho_solve(within, off)
            weights.append(
                math.log(chance) - 0.5 * float(off @ solved) - np.log(np.diag(within[0])).sum()
            )
            across = cover[:, at]
            means.append(self._prior + across @ solved)
            left = np.einsum("ij,ji->i", across, cho_solve(within, across.T))
            variances.append(np.maximum(np.diag(cover) - left, 1e-10))
        share = np.exp(np.array(weights) - max(weights))
        share /= share.sum()
        self.mean = np.asarray(share @ np.array(means))
        spread = (np.array(means) - self.mean) ** 2
        self.error = np.asarray(np.sqrt(share @ (np.array(variances) + spread)))

    def place(self, candidate: Candidate) -> int | None:
        """Its index; None where it is none of the candidates."""
        return self._places.get(candidate)

    def gains(self, log_best: float) -> Floats:
        """Of each, by how much of the best (exp of ``log_best``) it is expected to be better,
        where being worse counts 0: the expected improvement of the logarithm, which for small gains
        is their share.
        """
        z = (self.mean - log_best) / self.error
        return np.asarray(self.error * (z * norm.cdf(z) + norm.pdf(z)))


def _likeness(candidates: Sequence[Candidate]) -> npt.NDArray[np.float64]:
    """Correlations of the deviations, 1 of a candidate with itself; shape (n, n).

    Half of a deviation is shared by candidates that are near in all settings together, half is what
    single settings do, each by itself (Duvenaud et al., Additive Gaussian Processes, 2011).
    """
    paths = sorted({path for c in candidates for path, _ in c.settings})
    total = np.zeros((len(candidates), len(candidates)))
    single = np.zeros_like(total)
    for path in paths:
        apart = _apart(path, [c.get(path) for c in candidates])
        total += apart
        single += np.exp(-_SHARPER * apart / 2)
    return np.asarray((np.exp(-total / 2) + single / max(1, len(paths))) / 2, dtype=np.float64)


def _apart(path: str, values: list[Value | None]) -> npt.NDArray[np.float64]:
    """Squared distances in one setting, in units of its reach; shape (n, n)."""
    numbers = [_doublings(path, v) for v in values]
    if path != DYNAMIC_BATCHING and any(n is not None for n in numbers):
        reach = _REACHES.get(path, _REACH)
        column = np.array([np.nan if n is None else n / reach for n in numbers])
        apart = (column[:, None] - column[None, :]) ** 2
        lacking = np.isnan(column)
        both = lacking[:, None] & lacking[None, :]
        return np.asarray(np.where(np.isnan(apart), np.where(both, 0.0, 1.0), apart))
    kinds = {value: kind for kind, value in enumerate(dict.fromkeys(map(str, values)))}
    codes = np.array([kinds[str(value)] for value in values])
    return np.asarray(codes[:, None] != codes[None, :], dtype=np.float64)


def _doublings(path: str, value: Value | None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if path == QUEUE_DELAY:
        return math.log2(1 + value / _DELAY_UNIT)
    return math.log2(value) if value > 0 else 0.0
