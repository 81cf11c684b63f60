"""Which candidate to measure next: the one from which most is to be gained, as far as simulation
and all measurements so far can tell.

What is maximised is the merit of ``Evaluation``: the capacity, or 1 / cost at a given rate.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from tuner.errors import SimulationError
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla, bound_ratio
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.model.space import Candidate, Point, SearchSpace, stated
from tuner.records.results import LEAST_COST, Cause, Evaluation, State, Window
from tuner.search.failures import survival
from tuner.search.surrogate import COMMON, Observation, Surrogate
from tuner.servers.causes import cause_of
from tuner.simulator.cost import CostPredictor
from tuner.simulator.footprint import fits
from tuner.simulator.predict import play, predict_capacity
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import Scheduling
from tuner.stats.estimators import INTERVAL_WIDTH
from tuner.stats.samples import Floats

_POINTS, _ALL = 30_000, 3000
_SAMPLED = 1500
_LADDER = ((1000, 0.05, 10_000), (5000, 0.02, 80), (20_000, 0.01, 25))
"""Requests, precision, and for how many of the best: a closer look at ever fewer."""
_LEAST = 1e-3
_OPEN_ERROR = 0.2
_MISSED_ERROR = 0.3
_FAR_BELOW = 2.0
_DRAWS = 2000
_REQUESTS = 10_000
_BREACH = 1.5
_UNLIKELY = 0.5
_MOST_COST = 1e15
_UNKNOWN = 20.0
_MARGIN_ERROR = 0.1
_FARTHEST = 30.0
_LEAST_HOPE = 1e-6
_WORTHWHILE = 1.25


@dataclass(frozen=True)
class Proposal:
    """A candidate and a point of the space that it stands for, the merit that is expected of it,
    and by which share of the best one's the best of all that are left is expected to be better.
    """

    candidate: Candidate
    point: Point
    expected: float
    gain: float


@dataclass(frozen=True)
class Workload:
    """What a capacity is meant for, and within which bytes (see ``tuner.simulator.footprint``);
    or what is minimised in its place.
    """

    sla: Sla
    arrivals: Arrivals
    mix: BatchMix
    gpus: int = 1
    limits: Mapping[str, float] = field(default_factory=dict)
    objective: Objective | None = None


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
        self._surrogate: Surrogate | None = None
        self._margins: Surrogate | None = None
        self._is_possible = True
        self._failed: list[tuple[Candidate, Cause | None]] = []
        self._predicted = np.ones(len(self.candidates), dtype=bool)
        self._fits = np.ones(len(self.candidates), dtype=bool)
        self._seed = seed
        self._windows = 0

    @property
    def is_ready(self) -> bool:
        """Whether it was calibrated."""
        return self._surrogate is not None

    def calibrate(self, windows: Sequence[Window]) -> None:
        """Simulate every candidate with what these windows tell of the model; again, once there
        are clearly more of them.

        SimulationError where they tell nothing.
        """
        if len(windows) < _WORTHWHILE * self._windows:
            return
        self._windows = len(windows)
        profile = ModelProfile.fit(windows)
        if profile is None:
            raise SimulationError("the server's statistics tell nothing of single executions")
        sizes = [(each.instances, each.devices, each.max_batch) for each in self._schedulings]
        self._fits = np.array(fits(windows, self._workload.limits, sizes))
        if self._workload.objective is None:
            self._believe_in_capacities(profile)
        else:
            self._believe_in_costs(profile, CostPredictor(self._workload.objective, windows))

    def avoid(self, failed: Sequence[tuple[Candidate, str]]) -> None:
        """Take into account what failed besides evaluations, and why."""
        self._failed += [(candidate, cause_of(why)) for candidate, why in failed]

    def _believe_in_capacities(self, profile: ModelProfile) -> None:
        found = dict.fromkeys(self._schedulings, 0.0)
        for requests, precision, most in _LADDER:
            best = sorted(found, key=lambda each: found[each], reverse=True)[:most]
            found |= {each: self._predict(profile, each, requests, precision) for each in best}
        rates = np.array([found[each] for each in self._schedulings])
        self._predicted = rates > 0
        self._is_possible = bool(self._predicted.any())
        least = max(_LEAST, _LEAST * float(rates.max()))
        common = COMMON if self._is_possible else _UNKNOWN
        self._surrogate = Surrogate(self.candidates, np.log(np.maximum(rates, least)), common)

    def _believe_in_costs(self, profile: ModelProfile, costs: CostPredictor) -> None:
        """What each comes to at the objective's rate, and how near to the promise it is there."""
        objective, workload = self._workload.objective, self._workload
        assert objective is not None
        known: dict[Scheduling, tuple[float | None, float]] = {}
        for each in set(self._schedulings):
            service = profile.service(each)
            played = play(
                objective.rate,
                max(_REQUESTS, objective.requests),
                each,
                service,
                workload.arrivals,
                workload.mix,
                self._seed,
            )
            known[each] = costs.of(each, played), bound_ratio(played.samples, workload.sla) or 0.0
        values = [known[each][0] for each in self._schedulings]
        margins = np.array([known[each][1] for each in self._schedulings])
        told = [value for value in values if value is not None]
        logs = np.log(np.clip([1.0 if v is None else v for v in values], LEAST_COST, _MOST_COST))
        common = COMMON if len(told) == len(values) else _UNKNOWN
        self._surrogate = Surrogate(self.candidates, -logs, common, costs.is_certain)
        self._margins = Surrogate(self.candidates, _log_margin(margins))

    def _predict(
        self, profile: ModelProfile, scheduling: Scheduling, requests: int, precision: float
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
        """The merit that is expected of a candidate; 0.0 where nothing is known, or it keeps the
        promise at no rate in the simulation, which is not believed where no candidate keeps it
        there and one did on a server.
        """
        place = None if self._surrogate is None else self._surrogate.place(candidate)
        if self._surrogate is None or place is None:
            return 0.0
        if not self._predicted[place]:
            return 0.0
        return math.exp(self._surrogate.mean[place])

    def propose(self, evaluations: Sequence[Evaluation]) -> Proposal | None:
        """The candidate that promises most, of those not measured yet; None if there is none."""
        surrogate = self._surrogate
        if surrogate is None:
            return None
        self.learn(evaluations)
        gains = self._gains(surrogate, evaluations)
        if not np.any(np.isfinite(gains)):
            return None
        first = int(np.argmax(gains))
        candidate = self.candidates[first]
        expected, gain = math.exp(surrogate.mean[first]), max(0.0, float(gains[first]))
        best, rest = _best_log(surrogate, evaluations), self._rest(surrogate, evaluations)
        if best is not None and rest is not None:
            gain = max(gain, float(np.mean(np.maximum(rest - best, 0.0))))
        return Proposal(candidate, self._points[candidate], expected, gain)

    def missed(self, evaluations: Sequence[Evaluation], by: float) -> float | None:
        """The probability that some candidate that was not measured beats the best one that was by
        more than the share ``by``; None where nothing is known of them.
        """
        surrogate = self._surrogate
        if surrogate is None:
            return None
        self.learn(evaluations)
        best, rest = _best_log(surrogate, evaluations), self._rest(surrogate, evaluations)
        if best is None:
            return None
        return 0.0 if rest is None else float(np.mean(rest > best + math.log1p(by)))

    def hope(self, evaluations: Sequence[Evaluation]) -> float:
        """The probability that the likeliest of those that were not measured keeps the promise: of
        capacities it is only known whether any of them is above zero in the simulation.
        """
        if self._margins is None:
            return float(self._is_possible)
        self.learn(evaluations)
        return float(np.max(self._alive(evaluations)[~self._measured(evaluations)], initial=0.0))

    def _rest(self, surrogate: Surrogate, evaluations: Sequence[Evaluation]) -> Floats | None:
        """ln(merit) of the best of those that were not measured, drawn from what is believed of
        them, shape (draws,); None where there are none.
        """
        open_ = ~self._measured(evaluations)
        if not open_.any():
            return None
        alive = self._alive(evaluations)[open_]
        rng = np.random.default_rng(self._seed)
        # Neighbours go up and down together: of independent errors the largest would be too large.
        common = rng.standard_normal((_DRAWS, 1))
        own = rng.standard_normal((_DRAWS, int(open_.sum())))
        drawn = surrogate.mean[open_] + surrogate.error[open_] * (0.9 * common + 0.44 * own)
        drawn = np.where(rng.random(drawn.shape) < alive, drawn, -np.inf)
        return np.asarray(drawn.max(axis=1))

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Take what was measured into account: it is what ``expected`` and ``missed`` go by."""
        if not self._is_possible and any(each.capacity for each in evaluations):
            self._predicted[:] = True
        if self._surrogate is not None:
            told = [e for e in evaluations if e.cost is not None or self._margins is None]
            self._surrogate.learn([s for e in told if (s := _observation(e)) is not None])
        if self._margins is not None:
            self._margins.learn(
                [
                    Observation(e.candidate, float(_log_margin(_over(e))), _MARGIN_ERROR)
                    for e in evaluations
                    if e.margin is not None
                ]
            )

    def _gains(self, surrogate: Surrogate, evaluations: Sequence[Evaluation]) -> Floats:
        best = _best_log(surrogate, evaluations)
        gains = surrogate.gains(surrogate.mean.min() if best is None else best)
        alive = self._alive(evaluations)
        open_ = (alive > 0) & ~self._measured(evaluations)
        if best is None and open_.any():  # first of all, one that keeps the promise
            open_ &= alive >= _UNLIKELY * alive[open_].max()
        return np.where(open_, gains * alive, -np.inf)

    def _alive(self, evaluations: Sequence[Evaluation]) -> Floats:
        """The probability that each can be measured and, where a cost is minimised, keeps the
        promise: 0 where it would not fit into memory.
        """
        able = survival(self.candidates, evaluations, self._failed)
        alive = np.where(self._fits, able, 0.0)
        if self._margins is None:
            return alive
        keeps = norm.cdf(-self._margins.mean / self._margins.error)
        return np.asarray(alive * np.maximum(keeps, _LEAST_HOPE))

    def _measured(self, evaluations: Iterable[Evaluation]) -> Any:
        done = {e.candidate for e in evaluations}
        return np.array([c in done for c in self.candidates])


def _best_log(surrogate: Surrogate, evaluations: Sequence[Evaluation]) -> float | None:
    """ln(merit) of the best candidate that was measured, after all that was learned."""
    logs = []
    for each in evaluations:
        place = surrogate.place(each.candidate)
        if each.merit is not None:
            logs.append(math.log(each.merit) if place is None else float(surrogate.mean[place]))
    return max(logs, default=None)


def _observation(evaluation: Evaluation) -> Observation | None:
    """What an evaluation says of its candidate's merit; None where it failed."""
    cost = evaluation.cost
    if cost is not None:
        error = (
            math.log(cost.high / cost.low) / INTERVAL_WIDTH
            if cost.low and cost.high
            else _OPEN_ERROR
        )
        return Observation(evaluation.candidate, -math.log(max(cost.value, LEAST_COST)), error)
    low, high = evaluation.low, evaluation.high
    if evaluation.estimate is not None:
        error = math.log(high / low) / INTERVAL_WIDTH if low and high else _OPEN_ERROR
        return Observation(evaluation.candidate, math.log(evaluation.estimate), error)
    rates = [p.rate for p in evaluation.probes if p.rate]
    if evaluation.state is State.INFEASIBLE and rates:
        return Observation(evaluation.candidate, math.log(min(rates)) - _FAR_BELOW, _MISSED_ERROR)
    return None


def _over(evaluation: Evaluation) -> float:
    """The ratio of percentile to bound; clearly above 1 where something else was not kept."""
    over = evaluation.margin or 0.0
    return max(over, _BREACH) if evaluation.state is State.INFEASIBLE and over <= 1 else over


def _log_margin(margin: Any) -> Floats:
    """ln of percentile over bound, as far as differences tell anything."""
    return np.asarray(np.log(np.clip(margin, 1 / _FARTHEST, _FARTHEST)))
