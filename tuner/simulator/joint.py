"""The profiles of several models of a server, and how they hold each other up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.model.space import MAX_BATCH_SIZE
from tuner.records.results import ServerTimes, Window
from tuner.simulator.network import Network, Node, Played, Visit, simulate_network
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import Scheduling
from tuner.stats.samples import Floats


@dataclass(frozen=True)
class JointSettings:
    """How the windows in which all models are asked are read."""

    free: float = 0.93
    """Of its instances, from which on a model's own do not hold each other up: it shares nothing.
    """
    requests: int = 3000
    """Of a simulation that is held against such a window."""
    longest: float = 3.0
    """By which executions may take longer beside others than the simulation of a shared device
    says, or 1/longest: more is a stall of the machine."""


_SETTINGS = JointSettings()


@dataclass(frozen=True)
class JointProfile:
    """``profiles`` of each model by itself, by name; ``shares_device`` says whether they queue for
    one device; ``stretch`` is by how much longer executions take beside the others than that
    explains.
    """

    profiles: Mapping[str, ModelProfile]
    shares_device: bool = False
    stretch: Mapping[str, float] | None = None

    @classmethod
    def fit(
        cls,
        windows: Sequence[Window],
        models: Sequence[str],
        visits: tuple[Visit, ...],
        shares: Floats,
    ) -> "JointProfile | None":
        """From windows of each model alone and of all together; ``visits`` are those of the load,
        ``shares`` (shape (applications,)) its applications'. None if one model's windows tell
        nothing.
        """
        profiles = {}
        for model in models:
            own = [w for w in windows if w.model == model and w.together is None]
            profile = ModelProfile.fit(own)
            if profile is None:
                return None
            profiles[model] = profile
        apart = cls(profiles)
        seen: dict[int, list[Window]] = {}
        for window in windows:
            if window.together is not None:
                seen.setdefault(window.together, []).append(window)
        whole = [each for each in seen.values() if {w.model for w in each} == set(models)]
        if not whole:
            return apart
        candidates = [apart, replace(apart, shares_device=True)]
        compared = [_excess(each, whole, models, visits, shares) for each in candidates]
        best = min(range(len(candidates)), key=lambda i: float(np.sum(compared[i] ** 2)))
        factors = np.exp(np.mean(compared[best], axis=0))
        low, high = 1 / _SETTINGS.longest, _SETTINGS.longest
        stretch = dict(zip(models, np.clip(factors, low, high).tolist(), strict=True))
        return replace(candidates[best], stretch=stretch)

    def network(
        self, schedulings: Sequence[Scheduling], visits: tuple[Visit, ...], limit: int = 0
    ) -> Network:
        """Of the models in their order, each scheduled so."""
        nodes = (
            self._node(number, model, scheduling)
            for number, (model, scheduling) in enumerate(
                zip(self.profiles, schedulings, strict=True)
            )
        )
        return Network(tuple(nodes), visits, limit)

    def _node(self, number: int, model: str, scheduling: Scheduling) -> Node:
        profile = self.profiles[model]
        service = profile.service(scheduling)
        stretch = (self.stretch or {}).get(model, 1.0)
        service = replace(service, seconds=service.seconds * stretch)
        if not self.shares_device:
            return Node(scheduling, service, number)
        if scheduling.instances <= scheduling.devices:
            service = replace(service, exclusive=exclusive_share(profile))
        return Node(scheduling, service, 0)


def exclusive_share(profile: ModelProfile) -> float:
    """The share of an execution for which a model needs its device alone, as far as its own
    instances show; 1.0 if it never had several.
    """
    if not profile.parallel:
        return 1.0
    count, effective = max(profile.parallel)
    return 0.0 if effective > _SETTINGS.free * count else 1 / effective


def _excess(
    profile: JointProfile,
    windows: Sequence[Sequence[Window]],
    models: Sequence[str],
    visits: tuple[Visit, ...],
    shares: Floats,
) -> Floats:
    """ln of how much longer executions took in the windows than in simulations of the same closed
    loops; shape (windows, models).
    """
    rows = []
    for together in windows:
        by_model = {window.model: window for window in together}
        found = [by_model[model] for model in models]
        network = profile.network(tuple(map(_scheduling, found)), visits)
        count = _SETTINGS.requests
        kinds = np.random.default_rng(0).choice(len(shares), count, p=shares)
        played = simulate_network(np.zeros(count), network, kinds, outstanding=found[0].concurrency)
        rows.append(
            [
                math.log(_stretch(window.server, profile.profiles[window.model]))
                - math.log(_stretch_played(played, number, profile.profiles[window.model]))
                for number, window in enumerate(found)
            ]
        )
    return np.array(rows)


def _stretch(server: ServerTimes, profile: ModelProfile) -> float:
    """How many times as long executions took as alone."""
    sizes = np.array(list(server.batches), dtype=float)
    counts = np.array(list(server.batches.values()), dtype=float)
    seconds = np.array([server.batch_seconds[size] for size in server.batches])
    return float((counts @ seconds) / (counts @ profile.curve.at(sizes)))


def _stretch_played(played: Played, number: int, profile: ModelProfile) -> float:
    node = played.nodes[number]
    took = node.ends - node.starts
    known = ~np.isnan(took)
    if not known.any():
        return 1.0
    alone = profile.curve.at(node.sizes[known].astype(float))
    return float(took[known].sum() / alone.sum())


def _scheduling(window: Window) -> Scheduling:
    """As the calibration sets it: greedy batches, as large as the space has them; where it does not
    vary them, as large as they came.
    """
    stated = window.settings.get(MAX_BATCH_SIZE)
    largest = stated if isinstance(stated, int) else max(window.server.batches, default=1)
    return Scheduling(
        largest > 1,
        largest,
        (largest,),
        instances=window.instances,
        devices=window.devices,
    )
