"""The prior of every candidate before it is measured: all are simulated."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tuner.errors import SimulationError
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla, bound_ratio
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.model.space import SIMULATED, Candidate, Point, SearchSpace, stated
from tuner.optimizer.behaviour import SETTINGS as BEHAVIOUR
from tuner.optimizer.behaviour import SHORT_LOOK, Behaviour, classes, observe
from tuner.optimizer.forecast import Prior, log_ratio
from tuner.optimizer.surrogate import SETTINGS as SURROGATE
from tuner.optimizer.surrogate import Surrogate
from tuner.records.results import LEAST_COST, Window
from tuner.simulator.cost import CostPredictor
from tuner.simulator.footprint import fits
from tuner.simulator.predict import play, predict_capacity
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import LIMITS, Scheduling
from tuner.simulator.simulate import Simulation
from tuner.stats.samples import Bools, Ints


@dataclass(frozen=True)
class Pass:
    """One look at the best ``most`` candidates so far, with ``requests`` for each simulated rate;
    the capacity is bracketed to within the share ``precision``.
    """

    requests: int
    precision: float
    most: int


@dataclass(frozen=True)
class PriorSettings:
    most_points: int = 30_000  # of a grid that is enumerated: takes half a second
    most_candidates: int = 3000  # of one that is simulated whole: their correlations take 72 MB
    sampled: int = 1500  # candidates drawn of a larger or a continuous space
    most_steps: int = 50_000_000
    """Requests times instances of all simulations of a pass, which take seconds: each step of one
    looks at all instances. Presets come to a fraction of it."""
    passes: tuple[Pass, ...] = (
        Pass(1000, 0.05, 10_000),
        Pass(5000, 0.02, 80),
        Pass(20_000, 0.01, 25),
    )
    """Ever more requests for ever fewer candidates: a p99 of 1,000 requests rests on ten."""
    promising: float = 0.5  # share of the best capacity: below it, a short look has to do
    cost_requests: int = 10_000  # for a cost at one rate: a p99 rests on a hundred of them
    least_capacity: float = 1e-3  # requests/s, or share of the best, of what meets the SLA at none
    unknown_factor: float = 20.0  # ln(factor) where the simulation tells nothing of the level
    most_cost: float = 1e15  # where an infinite one is cut off, so that it has a logarithm


SETTINGS = PriorSettings()


@dataclass(frozen=True)
class Workload:
    """What a capacity is meant for, and within which bytes (see ``tuner.simulator.footprint``); or
    what is minimized in its place.
    """

    sla: Sla
    arrivals: Arrivals
    mix: BatchMix
    gpus: int = 1
    limits: Mapping[str, float] = field(default_factory=dict)
    objective: Objective | None = None


class SimulatedSpace:
    """All candidates of a space, or many of a vast one, as the simulator sees them.

    ``also`` are points that are among them in any case. SimulationError if the model's scheduler is
    not simulated.
    """

    def __init__(
        self,
        space: SearchSpace,
        workload: Workload,
        config_of: Callable[[Candidate], Any],
        seed: int,
        also: Iterable[Point] = (),
        settings: PriorSettings = SETTINGS,
    ) -> None:
        self._workload, self._seed, self._settings = workload, seed, settings
        wanted = {Candidate.of(stated(point)): point for point in also}
        points = space.candidates(settings.most_points)
        if points is None or len(points) > settings.most_candidates:
            points = space.sample(settings.sampled, np.random.default_rng(seed))
        if workload.mix.largest > LIMITS.items:
            raise SimulationError(f"requests of {workload.mix.largest:,} items cannot be simulated")
        schedulings = {
            candidate: Scheduling.of(config_of(candidate), workload.gpus)
            for candidate in (*points, *wanted)
        }
        self.points = self._affordable(points, schedulings) | wanted
        self._schedulings = [schedulings[candidate] for candidate in self.points]

    def _affordable(
        self, points: dict[Candidate, Point], schedulings: Mapping[Candidate, Scheduling]
    ) -> dict[Candidate, Point]:
        """As many of them, chosen at random, as can be simulated in the time that there is."""
        instances = np.array([schedulings[candidate].instances for candidate in points])
        most = self._settings.most_steps / self._settings.passes[0].requests
        order = np.random.default_rng(self._seed).permutation(len(instances))
        taken = np.zeros(len(instances), dtype=bool)
        taken[order] = np.cumsum(instances[order]) <= most
        return {
            each: points[each] for each, is_taken in zip(points, taken, strict=True) if is_taken
        }

    def simulate(self, windows: Sequence[Window]) -> Prior:
        """Every candidate, with what these windows tell of the model; SimulationError if they tell
        nothing.
        """
        profile = ModelProfile.fit(windows)
        if profile is None:
            raise SimulationError("the server's statistics do not show single executions")
        sizes = [(each.instances, each.devices, each.max_batch) for each in self._schedulings]
        fitting = np.array(fits(windows, self._workload.limits, sizes))
        if self._workload.objective is None:
            merit, predicted, numbers = self._capacities(profile)
            return Prior(self.points, merit, None, predicted, fitting, numbers, self._seed)
        merit, bound_ratio = self._costs(profile, CostPredictor(self._workload.objective, windows))
        predicted = np.ones(len(self.points), dtype=bool)
        numbers = self._numbers({})
        return Prior(self.points, merit, bound_ratio, predicted, fitting, numbers, self._seed)

    def _capacities(self, profile: ModelProfile) -> tuple[Surrogate, Bools, Ints]:
        """The surrogate of ln(capacity), whether each has one at all, and the class of each."""
        settings, workload = self._settings, self._workload
        capacities = dict.fromkeys(self._schedulings, 0.0)
        for each in settings.passes:
            guess = 0.0
            order = sorted(capacities, key=_neighbourhood)
            best = sorted(order, key=lambda s: capacities[s], reverse=True)[: each.most]
            best = best[: _affordable(best, settings.most_steps / each.requests)]
            for scheduling in best:
                guess = capacities[scheduling] or guess  # neighbours in a space do much the same
                capacities[scheduling] = predict_capacity(
                    scheduling,
                    profile.service(scheduling),
                    workload.sla,
                    workload.arrivals,
                    workload.mix,
                    each.requests,
                    each.precision,
                    self._seed,
                    guess,
                )
                guess = capacities[scheduling] or guess
        rates = np.array([capacities[scheduling] for scheduling in self._schedulings])
        least = settings.least_capacity * max(1.0, float(rates.max()))
        common = SURROGATE.common if rates.any() else settings.unknown_factor
        behaviours = {
            each: (
                capacity,
                self._observe(each, capacity, profile, settings.promising * rates.max()),
            )
            for each, capacity in capacities.items()
            if capacity > 0
        }
        batches = [
            behaviours[s][1].mean_batch if s in behaviours else 1.0 for s in self._schedulings
        ]
        merit = Surrogate(
            list(self.points),
            np.log(np.maximum(rates, least)),
            common,
            batches=np.array(batches) if behaviours else None,
        )
        return merit, rates > 0, self._numbers(classes(behaviours))

    def _observe(
        self, scheduling: Scheduling, capacity: float, profile: ModelProfile, promising: float
    ) -> Behaviour:
        service, workload = profile.service(scheduling), self._workload

        def simulated(rate: float, requests: int) -> Simulation:
            arrivals, mix = workload.arrivals, workload.mix
            return play(rate, requests, scheduling, service, arrivals, mix, self._seed)

        return observe(capacity, simulated, BEHAVIOUR if capacity >= promising else SHORT_LOOK)

    def _numbers(self, known: Mapping[Scheduling, int]) -> Ints:
        """The class of each candidate: what the simulation does not know of has to be the same."""
        numbers: dict[Any, int] = {}
        places = []
        for candidate, scheduling in zip(self.points, self._schedulings, strict=True):
            beyond = tuple(each for each in candidate.settings if each[0] not in SIMULATED)
            key = (known.get(scheduling, scheduling), beyond)
            places.append(numbers.setdefault(key, len(numbers)))
        return np.array(places)

    def _costs(self, profile: ModelProfile, costs: CostPredictor) -> tuple[Surrogate, Surrogate]:
        """What each comes to at the objective's rate, and how near to the SLA it is there."""
        objective, settings, workload = self._workload.objective, self._settings, self._workload
        assert objective is not None
        simulated: dict[Scheduling, tuple[float | None, float]] = {}
        for scheduling in set(self._schedulings):
            played = play(
                objective.rate,
                max(settings.cost_requests, objective.requests),
                scheduling,
                profile.service(scheduling),
                workload.arrivals,
                workload.mix,
                self._seed,
            )
            ratio = bound_ratio(played.samples, workload.sla) or 0.0
            simulated[scheduling] = costs.of(scheduling, played), ratio
        values = [simulated[scheduling][0] for scheduling in self._schedulings]
        ratios = np.array([simulated[scheduling][1] for scheduling in self._schedulings])
        finite = np.clip([1.0 if v is None else v for v in values], LEAST_COST, settings.most_cost)
        common = settings.unknown_factor if None in values else SURROGATE.common
        candidates = list(self.points)
        return (
            Surrogate(candidates, -np.log(finite), common, costs.is_certain),
            Surrogate(candidates, log_ratio(ratios)),
        )


def _affordable(schedulings: Sequence[Scheduling], instances: float) -> int:
    """How many of them have no more instances than so many together; one at least."""
    together = np.cumsum([scheduling.instances for scheduling in schedulings])
    return max(1, int(np.searchsorted(together, instances, side="right")))


def _neighbourhood(scheduling: Scheduling) -> tuple[object, ...]:
    """Orders schedulings so that one does much the same as the one before."""
    s = scheduling
    return (s.batching, s.instances, s.preferred if s.batching else (), s.max_batch, s.delay)
