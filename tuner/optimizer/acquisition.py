"""The expected improvement of each candidate, and of all."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuner.optimizer.surrogate import Posterior
from tuner.stats.samples import Floats, Ints


@dataclass(frozen=True)
class DrawSettings:
    """Of the draws from what is believed of the candidates that are left."""

    draws: int = 2000
    """A probability of 5 % comes out within half a percent."""
    most: int = 300
    """Candidates that are drawn together, the most promising ones: the rest has no chance."""
    usual_until: float = 0.01
    """Share to be gained below which a search ends, unless another is given."""
    resolution: float = 0.03
    """Share by which two configurations have to differ for a confirmation to tell them apart, as
    servers of one configuration differ by as much: what is less is no gain."""


SETTINGS = DrawSettings()


class Gains:
    """The improvement of the candidates ``left``, of n, over the best of the ``measured`` ones,
    whichever of these that is: it takes no further trial to find out, as a confirmation does.

    What is better than none of these is still to be better than ``level``, a logarithm, -inf for
    none. ``success`` is the probability that each can be measured at all, shape (n,).
    """

    def __init__(
        self,
        posterior: Posterior,
        left: Ints,
        success: Floats,
        measured: Ints,
        level: float,
        seed: int,
        settings: DrawSettings = SETTINGS,
    ) -> None:
        promise = posterior.mean[left] + 2 * posterior.error[left]
        self.places = left[np.argsort(-promise, kind="stable")[: settings.most]]
        self._success = success[self.places]
        self._settings = settings
        best = measured[np.argsort(-posterior.mean[measured], kind="stable")[: settings.most]]
        drawn = posterior.draw(np.append(self.places, best), settings.draws, seed)
        known = drawn[:, len(self.places) :].max(axis=1, keepdims=True, initial=level)
        self._better = drawn[:, : len(self.places)] - known
        rng = np.random.default_rng([seed, 1])
        succeeds = rng.random(self._better.shape) < self._success
        self._best = np.where(succeeds, self._better, -np.inf).max(axis=1, initial=-np.inf)

    @cached_property
    def expected(self) -> Floats:
        """The expected improvement of each of ``places``, where being worse counts 0, times the
        probability of success; shape (k,).

        It is that of the logarithm (Mockus, On Bayesian methods for seeking the extremum, 1975),
        which for small gains is their share.
        """
        return np.asarray(np.maximum(self._better, 0.0).mean(axis=0) * self._success)

    def of_all(self, until: float) -> float:
        """The share by which the best of all remaining candidates is expected to be better;
        differences that no confirmation can resolve count 0. Who goes on ``until`` less is to be
        gained than is usual has finer differences count.
        """
        resolution = self._settings.resolution * min(1.0, until / self._settings.usual_until)
        told_apart = self._best > np.log1p(resolution)
        return float(np.mean(np.where(told_apart, self._best, 0.0)))

    def probability_above(self, share: float) -> float:
        """The probability that one of them is better by more than this share."""
        return float(np.mean(self._best > np.log1p(share)))
