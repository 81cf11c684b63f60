"""What of a candidate is simulated, and how: one model, or several together."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from tuner.errors import SimulationError
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla, bound_ratio
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.load.mix import Mix
from tuner.model.space import RATE_LIMIT, SIMULATED, Candidate, field_of
from tuner.records.results import Insight, Window
from tuner.simulator.cost import CostPredictor
from tuner.simulator.footprint import fits
from tuner.simulator.joint import JointProfile
from tuner.simulator.network import Network, Visit, saturation_of, simulate_network
from tuner.simulator.predict import highest_kept, is_kept, load_at, play, predict_capacity
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import LIMITS, Scheduling
from tuner.stats.samples import Bools, Floats, Ints, Samples


@dataclass(frozen=True)
class TogetherSettings:
    """How several models are simulated."""

    most_times: float = 3.0
    """Times the requests of a single model, at most."""
    share: float = 0.4
    """Of all requests: a model with less of them needs more in all, for its percentile to say
    much."""
    halvings: int = 30
    """Of the interval in which the highest rate beside held models lies."""
    least_rate: float = 1e-3
    endless_rate: float = 1e9
    """Requests/s: the ends of that interval."""
    requests: int = 8000
    precision: float = 0.01
    """Of a simulation whose result is told: a p99 rests on eighty requests."""
    points: int = 8
    """Mixes between one model alone and the other, whose limits are told."""


SETTINGS = TogetherSettings()


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


@dataclass(frozen=True)
class Seen:
    """What was simulated: the requests, and the mean batch (items) of each model, shape
    (models,).
    """

    samples: Samples
    batches: Floats


class Simulator(Protocol):
    """Simulates candidates that have the same ``key`` alike. Only after ``learn`` does it know how
    long anything takes.
    """

    def key(self, candidate: Candidate) -> Hashable:
        """What of the candidate matters in the simulation; SimulationError if that cannot be
        simulated.
        """

    def instances(self, key: Any) -> int:
        """All of them: the time of a simulation grows with them."""

    def neighbourhood(self, key: Any) -> tuple[object, ...]:
        """Orders keys so that one does much the same as the one before."""

    def learn(self, windows: Sequence[Window]) -> None:
        """SimulationError if they tell nothing."""

    def fits(self, keys: Sequence[Any]) -> Bools:
        """Which of them stay within the limits of memory, as far as is known."""

    def capacity(self, key: Any, requests: int, precision: float, guess: float) -> float:
        """As ``predict_capacity``."""

    def play(self, key: Any, rate: float, requests: int) -> Seen:
        """About so many requests at a rate (requests/s)."""

    def cost(self, key: Any, requests: int) -> tuple[float | None, float]:
        """The objective's value (None: it is not simulated), and the ratio of percentile to
        bound.
        """

    def insight(self, key: Any) -> Insight | None:
        """What follows from a simulation, beside the capacity; None of a single model."""

    @property
    def costs_are_certain(self) -> bool:
        """Whether a candidate's settings alone determine its cost."""


def is_simulated(path: str) -> bool:
    """Whether a simulation knows the effect of a setting."""
    return field_of(path) in SIMULATED


class OneModel:
    """One model, whose key is how its scheduler works. ``config_of`` gives a candidate's
    ModelConfig. SimulationError if requests are too large.
    """

    def __init__(
        self, workload: Workload, config_of: Callable[[Candidate], Any], seed: int
    ) -> None:
        _check_items(workload)
        self._workload, self._config_of, self._seed = workload, config_of, seed
        self._profile: ModelProfile | None = None
        self._windows: Sequence[Window] = ()
        self._costs: CostPredictor | None = None

    def key(self, candidate: Candidate) -> Scheduling:
        return Scheduling.of(self._config_of(candidate), self._workload.gpus)

    def instances(self, key: Scheduling) -> int:
        return key.instances

    def neighbourhood(self, key: Scheduling) -> tuple[object, ...]:
        preferred = key.preferred if key.batching else ()
        return key.batching, key.instances, preferred, key.max_batch, key.delay

    def learn(self, windows: Sequence[Window]) -> None:
        self._profile, self._windows = ModelProfile.fit(windows), windows
        if self._profile is None:
            raise SimulationError("the server's statistics do not show single executions")
        objective = self._workload.objective
        self._costs = None if objective is None else CostPredictor(objective, windows)

    def fits(self, keys: Sequence[Scheduling]) -> Bools:
        sizes = [(each.instances, each.devices, each.max_batch) for each in keys]
        return np.array(fits(self._windows, self._workload.limits, sizes))

    def capacity(self, key: Scheduling, requests: int, precision: float, guess: float) -> float:
        workload = self._workload
        assert self._profile is not None
        return predict_capacity(
            key,
            self._profile.service(key),
            workload.sla,
            workload.arrivals,
            workload.mix,
            requests,
            precision,
            self._seed,
            guess,
        )

    def play(self, key: Scheduling, rate: float, requests: int) -> Seen:
        workload = self._workload
        assert self._profile is not None
        service = self._profile.service(key)
        played = play(rate, requests, key, service, workload.arrivals, workload.mix, self._seed)
        return Seen(played.samples, np.array([_mean_batch(played.sizes)]))

    def cost(self, key: Scheduling, requests: int) -> tuple[float | None, float]:
        workload, objective = self._workload, self._workload.objective
        assert objective is not None
        assert self._profile is not None
        assert self._costs is not None
        played = play(
            objective.rate,
            max(requests, objective.requests),
            key,
            self._profile.service(key),
            workload.arrivals,
            workload.mix,
            self._seed,
        )
        ratio = bound_ratio(played.samples, workload.sla) or 0.0
        return self._costs.of(key, played), ratio

    def insight(self, key: Scheduling) -> Insight | None:
        return None

    @property
    def costs_are_certain(self) -> bool:
        return self._costs is not None and self._costs.is_certain


@dataclass(frozen=True)
class Schedulings:
    """How each model's scheduler works, and how many executions run at once (0: any number)."""

    models: tuple[Scheduling, ...]
    limit: int = 0


class Together:
    """Several models: the steps of a pipeline, or models that are asked side by side. Their key is
    how each one's scheduler works.
    """

    def __init__(
        self,
        workload: Workload,
        configs_of: Callable[[Candidate], Mapping[str, Any]],
        models: Sequence[str],
        visits: tuple[Visit, ...],
        mix: Mix | None,
        seed: int,
    ) -> None:
        """``configs_of`` gives a candidate's ModelConfigs by model; ``visits`` go to the positions
        of ``models``, and their applications are the models of the ``mix`` (None: one).
        """
        _check_items(workload)
        if workload.objective is not None:
            raise SimulationError("costs of several models together are not simulated")
        self._workload, self._configs_of = workload, configs_of
        self._models, self._visits, self._mix, self._seed = tuple(models), visits, mix, seed
        self._profile: JointProfile | None = None

    def key(self, candidate: Candidate) -> Schedulings:
        configs = self._configs_of(candidate)
        limit = candidate.get(RATE_LIMIT)
        return Schedulings(
            tuple(Scheduling.of(configs[name], self._workload.gpus) for name in self._models),
            limit if isinstance(limit, int) else 0,
        )

    def instances(self, key: Schedulings) -> int:
        return sum(each.instances for each in key.models)

    def neighbourhood(self, key: Schedulings) -> tuple[object, ...]:
        each = (
            (s.batching, s.instances, s.preferred if s.batching else (), s.max_batch, s.delay)
            for s in key.models
        )
        return key.limit, *each

    def learn(self, windows: Sequence[Window]) -> None:
        self._profile = JointProfile.fit(
            windows, self._models, self._visits, self._shares(self._mix, 1.0)
        )
        if self._profile is None:
            raise SimulationError("the servers' statistics do not show single executions")

    def fits(self, keys: Sequence[Schedulings]) -> Bools:
        return np.ones(len(keys), dtype=bool)

    def capacity(self, key: Schedulings, requests: int, precision: float, guess: float) -> float:
        return self._capacity(self._network(key), self._mix, requests, precision, guess)

    def _capacity(
        self, network: Network, mix: Mix | None, requests: int, precision: float, guess: float = 0.0
    ) -> float:
        """Also of another mix of the same models."""
        least = 1.0 if mix is None else min(mix.shares.values())
        requests = round(requests * min(SETTINGS.most_times, max(1.0, SETTINGS.share / least)))

        def keeps_sla(rate: float) -> bool:
            return is_kept(self._played(network, mix, rate, requests)[0], self._workload.sla)

        return highest_kept(keeps_sla, self._most(network, mix), precision, guess)

    def _most(self, network: Network, mix: Mix | None) -> float:
        """The largest rate of the mix of which all together come to no more than the saturation."""
        items, held = self._workload.mix, 0.0 if mix is None else mix.total(0.0)
        if not held:
            return saturation_of(network, self._shares(mix, 1.0), items)
        low, high = (
            SETTINGS.least_rate,
            saturation_of(network, self._shares(mix, SETTINGS.endless_rate), items),
        )
        for _ in range(SETTINGS.halvings):
            middle = (low + high) / 2
            most = saturation_of(network, self._shares(mix, middle), items)
            low, high = (middle, high) if middle + held <= most else (low, middle)
        return low

    def play(self, key: Schedulings, rate: float, requests: int) -> Seen:
        samples, batches = self._played(self._network(key), self._mix, rate, requests)
        return Seen(samples, batches)

    def insight(self, key: Schedulings) -> Insight:
        """What follows from a simulation of these settings, beside their capacity."""
        network = self._network(key)
        base = self._capacity(network, self._mix, SETTINGS.requests, SETTINGS.precision)
        more = {}
        for number, model in enumerate(self._models):
            added = list(key.models)
            added[number] = replace(added[number], instances=added[number].instances + 1)
            other = self._network(replace(key, models=tuple(added)))
            capacity = self._capacity(other, self._mix, SETTINGS.requests, SETTINGS.precision, base)
            more[model] = capacity / base if base else 1.0
        if self._mix is None:
            return Insight(one_more=more)
        alone = {
            m: self._capacity(network, Mix.equal((m,)), SETTINGS.requests, SETTINGS.precision)
            for m in self._mix.models
        }
        return Insight(one_more=more, alone=alone, frontier=self._frontier(network))

    def _frontier(self, network: Network) -> tuple[dict[str, float], ...]:
        """Of two models, the rates that are served together, from one alone to the other."""
        assert self._mix is not None
        if len(self._mix.models) != 2:
            return ()
        one, other = self._mix.models
        points = []
        for number in range(SETTINGS.points + 1):
            weights = ((one, number / SETTINGS.points), (other, 1 - number / SETTINGS.points))
            mix = Mix(tuple((model, weight) for model, weight in weights if weight))
            capacity = self._capacity(network, mix, SETTINGS.requests, SETTINGS.precision)
            points.append({one: 0.0, other: 0.0} | mix.rates(capacity))
        return tuple(points)

    def cost(self, key: Schedulings, requests: int) -> tuple[float | None, float]:
        raise SimulationError("costs of several models together are not simulated")

    @property
    def costs_are_certain(self) -> bool:
        return False

    def _network(self, key: Schedulings) -> Network:
        assert self._profile is not None
        return self._profile.network(key.models, self._visits, key.limit)

    def _shares(self, mix: Mix | None, rate: float) -> Floats:
        """Of each application at a rate of the mix; shape (applications,)."""
        if mix is None or self._mix is None:
            return np.ones(1)
        rates = mix.rates(rate)
        found = np.array([rates.get(model, 0.0) for model in self._mix.models])
        return np.asarray(found / found.sum())

    def _played(
        self, network: Network, mix: Mix | None, rate: float, requests: int
    ) -> tuple[Samples, Floats]:
        workload = self._workload
        total = rate if mix is None else mix.total(rate)
        times, items = load_at(total, requests, workload.arrivals, workload.mix, self._seed)
        kinds = None
        if self._mix is not None:
            kinds = _kinds(tuple(self._shares(mix, rate).tolist()), len(times), self._seed)
        played = simulate_network(times, network, kinds, items, self._seed)
        samples = played.samples
        if self._mix is not None:
            samples = replace(samples, kind=kinds, models=self._mix.models)
        return samples, np.array([_mean_batch(node.sizes) for node in played.nodes])


@lru_cache(maxsize=64)
def _kinds(shares: tuple[float, ...], count: int, seed: int) -> Ints:
    """The same draw whatever the rate, as arrivals are."""
    drawn = np.random.default_rng([seed, 1]).random(count)
    return np.searchsorted(np.cumsum(shares)[:-1], drawn, side="right").astype(np.int64)


def _mean_batch(sizes: Any) -> float:
    return float(np.mean(sizes)) if len(sizes) else 1.0


def _check_items(workload: Workload) -> None:
    if workload.mix.largest > LIMITS.items:
        raise SimulationError(f"requests of {workload.mix.largest:,} items cannot be simulated")
