"""The prior of every candidate before it is measured: all are simulated."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.model.space import Candidate, Point, SearchSpace, model_of, stated
from tuner.optimizer.behaviour import SETTINGS as BEHAVIOUR
from tuner.optimizer.behaviour import SHORT_LOOK, Behaviour, classes, observe
from tuner.optimizer.forecast import Prior, log_ratio
from tuner.optimizer.simulators import Seen, Simulator, is_simulated
from tuner.optimizer.surrogate import SETTINGS as SURROGATE
from tuner.optimizer.surrogate import Surrogate
from tuner.records.results import LEAST_COST, Insight, Window
from tuner.stats.samples import Bools, Floats, Ints


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
    sampled_together: int = 400  # the same of several models: a start for their neighbors
    most_steps: int = 50_000_000
    """Requests times instances of all simulations of a pass, which take seconds: each step of one
    looks at all instances. Presets come to a fraction of it."""
    passes: tuple[Pass, ...] = (
        Pass(1000, 0.05, 10_000),
        Pass(5000, 0.02, 80),
        Pass(20_000, 0.01, 25),
    )
    """Ever more requests for ever fewer candidates: a p99 of 1,000 requests rests on ten."""
    climbs: int = 6
    """Rounds in which the neighbors of the best of a sample are simulated, too."""
    climbers: int = 6
    """Whose neighbors these are."""
    most_values: int = 64
    """Of a parameter whose neighbors are looked for: of a finer one they hardly differ."""
    promising: float = 0.5  # share of the best capacity: below it, a short look has to do
    cost_requests: int = 10_000  # for a cost at one rate: a p99 rests on a hundred of them
    least_capacity: float = 1e-3  # requests/s, or share of the best, of what meets the SLA at none
    unknown_factor: float = 20.0  # ln(factor) where the simulation tells nothing of the level
    most_cost: float = 1e15  # where an infinite one is cut off, so that it has a logarithm


SETTINGS = PriorSettings()


class SimulatedSpace:
    """All candidates of a space, or many of a vast one, as the simulator sees them.

    ``also`` are points that are among them in any case. SimulationError if a model's scheduler is
    not simulated.
    """

    def __init__(
        self,
        space: SearchSpace,
        simulator: Simulator,
        seed: int,
        also: Iterable[Point] = (),
        settings: PriorSettings = SETTINGS,
        minimizes: bool = False,
    ) -> None:
        self._space, self._simulator = space, simulator
        self._seed, self._settings, self._minimizes = seed, settings, minimizes
        wanted = {Candidate.of(stated(point)): point for point in also}
        points = space.candidates(settings.most_points)
        several = any(map(model_of, space.parameters))
        self._is_whole = points is not None and len(points) <= (
            settings.sampled if several else settings.most_candidates
        )
        if points is None or not self._is_whole:
            count = settings.sampled_together if several else settings.sampled
            points = space.sample(count, np.random.default_rng(seed))
        keys = {candidate: simulator.key(candidate) for candidate in (*points, *wanted)}
        self.points = self._affordable(points, keys) | wanted
        self._keys: list[Hashable] = [keys[candidate] for candidate in self.points]

    def _affordable(
        self, points: dict[Candidate, Point], keys: Mapping[Candidate, Hashable]
    ) -> dict[Candidate, Point]:
        """As many of them, chosen at random, as can be simulated in the time that there is."""
        instances = np.array([self._simulator.instances(keys[candidate]) for candidate in points])
        most = self._settings.most_steps / self._settings.passes[0].requests
        order = np.random.default_rng(self._seed).permutation(len(instances))
        taken = np.zeros(len(instances), dtype=bool)
        taken[order] = np.cumsum(instances[order]) <= most
        return {
            each: points[each] for each, is_taken in zip(points, taken, strict=True) if is_taken
        }

    def simulate(self, windows: Sequence[Window]) -> Prior:
        """Every candidate, with what these windows tell of the models; SimulationError if they tell
        nothing.
        """
        self._simulator.learn(windows)
        if not self._minimizes:
            merit, predicted, numbers = self._capacities()
            fitting = self._simulator.fits(self._keys)
            return Prior(self.points, merit, None, predicted, fitting, numbers, self._seed)
        fitting = self._simulator.fits(self._keys)
        merit, bound_ratio = self._costs()
        predicted = np.ones(len(self.points), dtype=bool)
        numbers = self._numbers({})
        return Prior(self.points, merit, bound_ratio, predicted, fitting, numbers, self._seed)

    def insight(self, candidate: Candidate) -> Insight | None:
        """As ``Simulator.insight``, once there are windows."""
        return self._simulator.insight(self._simulator.key(candidate))

    def _capacities(self) -> tuple[Surrogate, Bools, Ints]:
        """The surrogate of ln(capacity), whether each has one at all, and the class of each."""
        settings = self._settings
        capacities: dict[Hashable, float] = dict.fromkeys(self._keys, 0.0)
        for number, each in enumerate(settings.passes):
            order = sorted(capacities, key=self._simulator.neighbourhood)
            best = sorted(order, key=lambda key: capacities[key], reverse=True)[: each.most]
            instances = [self._simulator.instances(key) for key in best]
            best = best[: _affordable(instances, settings.most_steps / each.requests)]
            self._measure(best, each, capacities)
            if number == 0 and not self._is_whole:
                self._climb(each, capacities)
        rates = np.array([capacities[key] for key in self._keys])
        least = settings.least_capacity * max(1.0, float(rates.max()))
        common = SURROGATE.common if rates.any() else settings.unknown_factor
        promising = settings.promising * float(rates.max())
        behaviours = {
            key: (capacity, self._observe(key, capacity, promising))
            for key, capacity in capacities.items()
            if capacity > 0
        }
        merit = Surrogate(
            list(self.points),
            np.log(np.maximum(rates, least)),
            common,
            batches=self._batches(behaviours),
        )
        return merit, rates > 0, self._numbers(classes(behaviours))

    def _measure(
        self, keys: Iterable[Hashable], how: Pass, capacities: dict[Hashable, float]
    ) -> None:
        guess = 0.0
        for key in keys:
            guess = capacities[key] or guess  # neighbours in a space do much the same
            capacities[key] = self._simulator.capacity(key, how.requests, how.precision, guess)
            guess = capacities[key] or guess

    def _climb(self, how: Pass, capacities: dict[Hashable, float]) -> None:
        """Add the neighbors of the best, as long as there are new ones: of a space that was only
        sampled, the best is likely to lie beside what was drawn.
        """
        for _ in range(self._settings.climbs):
            places = sorted(
                range(len(self._keys)), key=lambda i: capacities[self._keys[i]], reverse=True
            )
            candidates = list(self.points)
            best: dict[Hashable, Candidate] = {}
            for place in places:
                best.setdefault(self._keys[place], candidates[place])
                if len(best) == self._settings.climbers:
                    break
            new: dict[Candidate, Point] = {}
            for candidate in best.values():
                for point in neighbours(self._space, self.points[candidate]):
                    new.setdefault(Candidate.of(stated(point)), point)
            new = {each: point for each, point in new.items() if each not in self.points}
            if not new:
                return
            keys = {each: self._simulator.key(each) for each in new}
            self.points = self.points | new
            self._keys += keys.values()
            unknown = dict.fromkeys(key for key in keys.values() if key not in capacities)
            capacities |= dict.fromkeys(unknown, 0.0)
            self._measure(sorted(unknown, key=self._simulator.neighbourhood), how, capacities)

    def _batches(self, known: Mapping[Hashable, tuple[float, Behaviour]]) -> Floats | None:
        """The mean batches of each, shape (n, models); None if nothing is known."""
        if not known:
            return None
        models = len(next(iter(known.values()))[1].batches)
        alone = np.ones(models)
        return np.array([known[key][1].batches if key in known else alone for key in self._keys])

    def _observe(self, key: Hashable, capacity: float, promising: float) -> Behaviour:
        def simulated(rate: float, requests: int) -> Seen:
            return self._simulator.play(key, rate, requests)

        return observe(capacity, simulated, BEHAVIOUR if capacity >= promising else SHORT_LOOK)

    def _numbers(self, known: Mapping[Hashable, int]) -> Ints:
        """The class of each candidate: what the simulation does not know of has to be the same."""
        numbers: dict[Any, int] = {}
        places = []
        for candidate, key in zip(self.points, self._keys, strict=True):
            beyond = tuple(each for each in candidate.settings if not is_simulated(each[0]))
            whole = (known.get(key, key), beyond)
            places.append(numbers.setdefault(whole, len(numbers)))
        return np.array(places)

    def _costs(self) -> tuple[Surrogate, Surrogate]:
        """What each comes to at the objective's rate, and how near to the SLA it is there."""
        settings = self._settings
        simulated = {
            key: self._simulator.cost(key, settings.cost_requests) for key in set(self._keys)
        }
        values = [simulated[key][0] for key in self._keys]
        ratios = np.array([simulated[key][1] for key in self._keys])
        finite = np.clip([1.0 if v is None else v for v in values], LEAST_COST, settings.most_cost)
        common = settings.unknown_factor if None in values else SURROGATE.common
        candidates = list(self.points)
        return (
            Surrogate(candidates, -np.log(finite), common, self._simulator.costs_are_certain),
            Surrogate(candidates, log_ratio(ratios)),
        )


def neighbours(space: SearchSpace, point: Point) -> Iterable[Point]:
    """Points that differ in one parameter: a number by one step of its list, anything else in any
    way.
    """
    for path, parameter in space.parameters.items():
        if parameter.size is None or parameter.size > SETTINGS.most_values:
            continue
        values = parameter.points()
        own = point.get(path)
        numbers = sorted(v for v in values if isinstance(v, int | float))
        if isinstance(own, int | float) and not isinstance(own, bool):
            at = numbers.index(own)
            steps: Iterable[Any] = numbers[max(0, at - 1) : at] + numbers[at + 1 : at + 2]
        else:
            steps = (value for value in values if value != own)
        for value in steps:
            yield {**point, path: value}


def _affordable(instances: Sequence[int], most: float) -> int:
    """How many of them have no more instances than so many together; one at least."""
    return max(1, int(np.searchsorted(np.cumsum(instances), most, side="right")))
