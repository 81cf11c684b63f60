"""Which candidate to measure next: the one from which most is to be gained, as far as simulation
and all measurements so far can tell.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tuner.arrivals import Arrivals
from tuner.batches import BatchMix
from tuner.belief import Belief, Sighting
from tuner.errors import SimulationError
from tuner.failures import survival
from tuner.footprint import fits
from tuner.results import Evaluation, State, Window
from tuner.samples import Floats
from tuner.simulator.predict import predict_capacity
from tuner.simulator.profile import Profile
from tuner.simulator.scheduling import Scheduling
from tuner.sla import Sla
from tuner.space import Candidate, Point, SearchSpace, stated

_POINTS, _ALL = 30_000, 3000
_SAMPLED = 1500
_LADDER = ((1000, 0.05, 10_000), (5000, 0.02, 80), (20_000, 0.01, 25))
"""Requests, precision, and for how many of the best: a closer look at ever fewer."""
_LEAST = 1e-3
_OPEN_ERROR = 0.2
_MISSED_ERROR = 0.3
_FAR_BELOW = 2.0
_DRAWS = 2000


@dataclass(frozen=True)
class Proposal:
    """A candidate and a point of the space that it stands for, the capacity (requests/s) that is
    expected of it, and by which share of the best one's it is expected to be better.
    """

    candidate: Candidate
    point: Point
    expected: float
    gain: float


@dataclass(frozen=True)
class Workload:
    """What a capacity is meant for, and within which bytes (see ``tuner.footprint``)."""

    sla: Sla
    arrivals: Arrivals
    mix: BatchMix
    gpus: int = 1
    limits: Mapping[str, float] = field(default_factory=dict)


class Strategy:
    """Knows all candidates of a space, or many of a vast one, and what to expect of each."""

    def __init__(
        self,
        space: SearchSpace,
        workload: Workload,
        config_of: Callable[[Candidate], Any],
        seed: int,
        also: Iterable[Point] = (),
    ) -> None:
        """``also`` are points that are known in any case. SimulationError where the model's
        scheduler is not simulated.
        """
        self._workload = workload
        rng = np.random.default_rng(seed)
        every = space.candidates(_POINTS)
        if every is None or len(every) > _ALL:
            every = space.sample(_SAMPLED, rng)
        self._points = every | {Candidate.of(stated(point)): point for point in also}
        self.candidates = list(self._points)
        self._schedulings = [
            Scheduling.of(config_of(candidate), workload.gpus) for candidate in self.candidates
        ]
        self._belief: Belief | None = None
        self._fits = np.ones(len(self.candidates), dtype=bool)
        self._seed = seed

    @property
    def is_ready(self) -> bool:
        """Whether it was calibrated."""
        return self._belief is not None

    def calibrate(self, windows: Sequence[Window]) -> None:
        """Simulate every candidate with what these windows tell of the model.

        SimulationError where they tell nothing.
        """
        profile = Profile.fit(windows)
        if profile is None:
            raise SimulationError("the server's statistics tell nothing of single executions")
        sizes = [(each.instances, each.max_batch) for each in self._schedulings]
        self._fits = np.array(fits(windows, self._workload.limits, sizes))
        found = dict.fromkeys(self._schedulings, 0.0)
        for requests, precision, most in _LADDER:
            best = sorted(found, key=lambda each: found[each], reverse=True)[:most]
            found |= {each: self._predict(profile, each, requests, precision) for each in best}
        rates = np.array([found[each] for each in self._schedulings])
        least = max(_LEAST, _LEAST * float(rates.max()))
        self._belief = Belief(self.candidates, np.log(np.maximum(rates, least)))

    def _predict(
        self, profile: Profile, scheduling: Scheduling, requests: int, precision: float
    ) -> float:
        return predict_capacity(
            scheduling,
            profile.service(scheduling),
            self._workload.sla,
            self._workload.arrivals,
            self._workload.mix,
            requests,
            precision,
            self._seed,
        )

    def expected(self, candidate: Candidate) -> float:
        """Requests/s that are expected of a candidate; 0.0 where nothing is known."""
        place = None if self._belief is None else self._belief.place(candidate)
        return 0.0 if self._belief is None or place is None else math.exp(self._belief.mean[place])

    def propose(self, evaluations: Sequence[Evaluation]) -> Proposal | None:
        """The candidate that promises most, of those not measured yet; None if there is none."""
        belief = self._belief
        if belief is None:
            return None
        self.learn(evaluations)
        gains = self._gains(belief, evaluations)
        if not np.any(np.isfinite(gains)):
            return None
        first = int(np.argmax(gains))
        candidate = self.candidates[first]
        expected, gain = math.exp(belief.mean[first]), max(0.0, float(gains[first]))
        return Proposal(candidate, self._points[candidate], expected, gain)

    def missed(self, evaluations: Sequence[Evaluation], by: float) -> float | None:
        """The probability that some candidate that was not measured beats the best one that was by
        more than the share ``by``; None where nothing is known of them.
        """
        belief = self._belief
        if belief is None:
            return None
        self.learn(evaluations)
        best = _best_log(belief, evaluations)
        if best is None:
            return None
        open_ = ~self._measured(evaluations)
        alive = self._alive(evaluations)
        if not open_.any():
            return 0.0
        rng = np.random.default_rng(self._seed)
        # Neighbours go up and down together: of independent errors the largest would be too large.
        common = rng.standard_normal((_DRAWS, 1))
        own = rng.standard_normal((_DRAWS, int(open_.sum())))
        drawn = belief.mean[open_] + belief.error[open_] * (0.9 * common + 0.44 * own)
        drawn = np.where(rng.random(drawn.shape) < alive[open_], drawn, -np.inf)
        return float(np.mean(drawn.max(axis=1) > best + math.log1p(by)))

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Take what was measured into account: it is what ``expected`` and ``missed`` go by."""
        if self._belief is not None:
            self._belief.learn([s for e in evaluations if (s := _sighting(e)) is not None])

    def _gains(self, belief: Belief, evaluations: Sequence[Evaluation]) -> Floats:
        best = _best_log(belief, evaluations)
        gains = belief.gains(belief.mean.min() if best is None else best)
        alive = self._alive(evaluations)
        open_ = (alive > 0) & ~self._measured(evaluations)
        return np.where(open_, gains * alive, -np.inf)

    def _alive(self, evaluations: Sequence[Evaluation]) -> Floats:
        """The probability that each can be measured: 0 where it would not fit into memory."""
        return np.where(self._fits, survival(self.candidates, evaluations), 0.0)

    def _measured(self, evaluations: Iterable[Evaluation]) -> Any:
        done = {e.candidate for e in evaluations}
        return np.array([c in done for c in self.candidates])


def _best_log(belief: Belief, evaluations: Sequence[Evaluation]) -> float | None:
    """ln(capacity) of the best candidate that was measured, after all that was learned."""
    logs = []
    for each in evaluations:
        place = belief.place(each.candidate)
        if each.capacity is not None:
            logs.append(math.log(each.capacity) if place is None else float(belief.mean[place]))
    return max(logs, default=None)


def _sighting(evaluation: Evaluation) -> Sighting | None:
    """What an evaluation says of its candidate's capacity; None where it failed."""
    low, high = evaluation.low, evaluation.high
    if evaluation.estimate is not None:
        error = math.log(high / low) / 3.92 if low and high else _OPEN_ERROR
        return Sighting(evaluation.candidate, math.log(evaluation.estimate), error)
    rates = [p.rate for p in evaluation.probes if p.rate]
    if evaluation.state is State.INFEASIBLE and rates:
        return Sighting(evaluation.candidate, math.log(min(rates)) - _FAR_BELOW, _MISSED_ERROR)
    return None
