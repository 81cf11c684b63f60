"""The forecast of every candidate from the simulation and all measurements.

What is maximized is the merit of ``Measurement``: the capacity, or 1 / cost at a given rate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from tuner.model.space import Candidate, Point
from tuner.optimizer.acquisition import SETTINGS as DRAWS
from tuner.optimizer.acquisition import Gains
from tuner.optimizer.behaviour import simplest_of_each, simplicity
from tuner.optimizer.feasibility import success_probability
from tuner.optimizer.measurement import Measurement
from tuner.optimizer.surrogate import Observation, Posterior, Surrogate, below
from tuner.records.results import State
from tuner.stats.samples import Floats, Ints


@dataclass(frozen=True)
class ForecastSettings:
    likely_share: float = 0.5
    """As long as no candidate meets the SLA, only those are proposed that succeed with at least
    this share of the likeliest one's probability: the first success matters more than its merit."""
    as_good: float = 0.01
    """Difference of two logarithms of merits that is none, as simulated capacities are known to
    1 %: then the simpler candidate is proposed."""
    as_promising: float = 0.9
    """Share of the largest expected improvement that is as much."""
    least_success: float = 1e-6
    """Least probability of meeting the SLA, so that unlikely candidates keep their order."""
    breach_ratio: float = 1.5
    """Percentile over bound that stands for a constraint that was broken with percentiles kept."""
    bound_ratio_error: float = 0.1
    """Standard error of the ratio's logarithm: a percentile at one rate scatters by 10 %."""
    farthest_ratio: float = 30.0
    """Ratios beyond this, or one over it, tell no more: the queue grew as long as it was let."""


SETTINGS = ForecastSettings()


@dataclass(frozen=True)
class Proposal:
    """A candidate, a point of the space that it stands for, and the merit expected of it."""

    candidate: Candidate
    point: Point
    expected: float


@dataclass(frozen=True)
class Prior:
    """The simulation's results for each candidate; arrays have the shape (n,).

    ``bound_ratio`` is about ln(percentile / bound) at the objective's rate, None if the capacity is
    maximized. ``predicted`` says whether a candidate meets the SLA at any rate in the simulation,
    ``fits`` whether it stays within the limits of memory. ``classes`` are numbers, the same for
    candidates that do the same.
    """

    points: Mapping[Candidate, Point]
    merit: Surrogate
    bound_ratio: Surrogate | None
    predicted: npt.NDArray[np.bool_]
    fits: npt.NDArray[np.bool_]
    classes: Ints
    seed: int

    @property
    def is_possible(self) -> bool:
        """Whether any candidate meets the SLA in the simulation."""
        return bool(self.predicted.any())


@dataclass(frozen=True)
class Forecast:
    """A prior after these measurements; what follows is computed when it is asked for.

    ``failures`` failed besides measurements, in the calibration.
    """

    prior: Prior
    measurements: tuple[Measurement, ...] = ()
    failures: tuple[Measurement, ...] = ()

    def given(self, measurements: Sequence[Measurement]) -> "Forecast":
        """The same prior after other measurements."""
        return replace(self, measurements=tuple(measurements))

    @cached_property
    def candidates(self) -> list[Candidate]:
        return list(self.prior.points)

    @cached_property
    def merit(self) -> Posterior:
        """ln(merit) of each candidate. What is only known to lie below a value comes last, one by
        one: what it tells depends on what is expected by then.
        """
        seen = [
            Observation(m.candidate, m.log_merit, m.error)
            for m in self.measurements
            if m.log_merit is not None
        ]
        posterior = self.prior.merit.posterior(seen)
        for each in self.measurements:
            place = self.prior.merit.index(each.candidate)
            if each.log_below is None or place is None:
                continue
            mean, error = float(posterior.mean[place]), float(posterior.error[place])
            observation = below(each.candidate, mean, error, each.log_below)
            if observation is not None:
                seen.append(observation)
                posterior = self.prior.merit.posterior(seen)
        return posterior

    @cached_property
    def success(self) -> Floats:
        """The probability that each can be measured and, where a cost is minimized, meets the SLA
        at its rate; 0 if it would not fit into memory. Shape (n,).
        """
        able = success_probability(self.candidates, [*self.measurements, *self.failures])
        success = np.where(self.prior.fits, able, 0.0)
        if self.prior.bound_ratio is None:
            return success
        ratio = self.prior.bound_ratio.posterior(
            [
                Observation(m.candidate, float(log_ratio(_over(m))), SETTINGS.bound_ratio_error)
                for m in self.measurements
                if m.bound_ratio is not None
            ]
        )
        meets = ndtr(-ratio.mean / ratio.error)
        return np.asarray(success * np.maximum(meets, SETTINGS.least_success))

    @cached_property
    def unmeasured(self) -> npt.NDArray[np.bool_]:
        """The simplest of each class of which none was measured; shape (n,). What failed tells
        nothing of what others of its class do.
        """
        classes, failed = self.prior.classes, np.zeros(len(self.candidates), dtype=bool)
        measured = []
        for each in self.measurements:
            place = self.prior.merit.index(each.candidate)
            if place is not None and each.state is State.FAILED:
                failed[place] = True
            elif place is not None:
                measured.append(int(classes[place]))
        left = ~failed & ~np.isin(classes, measured)
        return simplest_of_each(self.candidates, classes, left)

    @cached_property
    def _leader(self) -> tuple[int | None, float] | None:
        """Place and ln(merit) of the best candidate that was measured, after all that was learned;
        no place where it is not simulated, None if nothing meets the SLA.
        """
        meeting: list[tuple[int | None, float]] = []
        for each in self.measurements:
            at = self.prior.merit.index(each.candidate)
            if each.merit is not None:
                log = math.log(each.merit) if at is None else float(self.merit.mean[at])
                meeting.append((at, log))
        return max(meeting, key=lambda each: each[1], default=None)

    def expected(self, candidate: Candidate) -> float:
        """The expected merit of a candidate; 0.0 if nothing is known, or it meets the SLA at no
        rate in the simulation, which is not believed where no candidate meets it there and one did
        on a server.
        """
        at = self.prior.merit.index(candidate)
        refuted = not self.prior.is_possible and any(m.merit for m in self.measurements)
        if at is None or not (self.prior.predicted[at] or refuted):
            return 0.0
        return math.exp(self.merit.mean[at])

    def propose(self, among: npt.NDArray[np.bool_] | None = None) -> Proposal | None:
        """The unmeasured candidate with the largest expected improvement; the simplest of several
        that are as good. None if there is none. ``among`` restricts the choice; shape (n,).
        """
        gains = self._gains
        if gains is None:
            return None
        expected = gains.expected
        if among is not None:
            expected = np.where(among[gains.places], expected, -np.inf)
        if not np.any(np.isfinite(expected)):
            return None
        first = int(gains.places[int(np.argmax(expected))])
        near = self.merit.mean[gains.places] > self.merit.mean[first] - SETTINGS.as_good
        as_good = gains.places[near & (expected >= SETTINGS.as_promising * expected.max())]
        chosen = min(map(int, as_good), key=lambda place: simplicity(self.candidates[place]))
        candidate = self.candidates[chosen]
        point = self.prior.points[candidate]
        return Proposal(candidate, point, math.exp(self.merit.mean[chosen]))

    def gain(self, until: float) -> float:
        """By which share of the best one's merit the best of all that are left is expected to be
        better (``Gains.of_all``); 0.0 if none is left.
        """
        return 0.0 if self._gains is None else self._gains.of_all(until)

    def missed(self, by: float) -> float | None:
        """The probability that some candidate that was not measured beats the best one that was by
        more than the share ``by``; None if nothing meets the SLA.
        """
        if self._leader is None:
            return None
        return 0.0 if self._gains is None else self._gains.probability_above(by)

    def equals(self, candidate: Candidate, by: float) -> tuple[list[Candidate], list[Candidate]]:
        """Candidates that behave alike in the simulation, and the others expected within the share
        ``by``, on either side.
        """
        place = self.prior.merit.index(candidate)
        if place is None:
            return [], []
        same = self.prior.classes == self.prior.classes[place]
        near = np.abs(self.merit.mean - self.merit.mean[place]) <= math.log1p(by)
        same[place] = near[place] = False
        alike = [self.candidates[i] for i in np.flatnonzero(same)]
        return alike, [self.candidates[i] for i in np.flatnonzero(near & ~same)]

    def chance_above(self, one: Candidate, other: Candidate, by: float) -> float | None:
        """The probability that one candidate is better than the other by more than the share
        ``by``; None if either is not simulated.
        """
        places = [self.prior.merit.index(each) for each in (one, other)]
        if None in places:
            return None
        drawn = self.merit.draw(np.array(places, dtype=int), DRAWS.draws, self.prior.seed)
        return float(np.mean(drawn[:, 0] - drawn[:, 1] > math.log1p(by)))

    def feasibility(self) -> float:
        """The probability that the likeliest of those that were not measured meets the SLA: of
        capacities it is only known whether any of them is above zero in the simulation.
        """
        if self.prior.bound_ratio is None:
            return float(self.prior.is_possible)
        return float(np.max(self.success[self.unmeasured], initial=0.0))

    @cached_property
    def _gains(self) -> Gains | None:
        """Of those that are left; None if none is possible."""
        possible = (self.success > 0) & self.unmeasured
        if self._leader is None and possible.any():  # first of all, one that meets the SLA
            possible &= self.success >= SETTINGS.likely_share * self.success[possible].max()
        left = np.flatnonzero(possible)
        if not len(left):
            return None
        if self._leader is None:
            nothing, level = np.array([], dtype=int), float(self.merit.mean.min())
            return Gains(self.merit, left, self.success, nothing, level, self.prior.seed)
        place, log = self._leader
        level = log if place is None else -math.inf
        return Gains(self.merit, left, self.success, self._comparable, level, self.prior.seed)

    @cached_property
    def _comparable(self) -> Ints:
        """Places of those that were measured and may turn out to be the best: for an eliminated
        one, it is not known by how much.
        """
        places = (
            self.prior.merit.index(each.candidate)
            for each in self.measurements
            if each.merit is not None or each.state is State.BEATEN
        )
        return np.array(sorted({place for place in places if place is not None}), dtype=int)


def log_ratio(bound_ratio: Any) -> Floats:
    """ln of percentile over bound, as far as differences tell anything."""
    farthest = SETTINGS.farthest_ratio
    return np.asarray(np.log(np.clip(bound_ratio, 1 / farthest, farthest)))


def _over(measurement: Measurement) -> float:
    """The ratio of percentile to bound; clearly above 1 where something else was not met."""
    over = measurement.bound_ratio or 0.0
    missed_otherwise = measurement.state is State.INFEASIBLE and over <= 1
    return max(over, SETTINGS.breach_ratio) if missed_otherwise else over
