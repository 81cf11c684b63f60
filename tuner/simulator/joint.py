"""The profiles of several models of a server, and how they hold each other up."""

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

    steps: tuple[float, ...] = (0.25, 0.12, 0.06, 0.03)
    """By which shares of a device are varied, coarse to fine."""
    requests: int = 3000
    """Of a simulation that is held against such a window."""
    longest: float = 3.0
    """By which executions may take longer beside others than the simulation of a shared device
    says, or 1/longest: more is a stall of the machine."""


_SETTINGS = JointSettings()


@dataclass(frozen=True)
class JointProfile:
    """``profiles`` of each model by itself, by name. Where they queue for one device, ``exclusive``
    is the share of each one's executions that needs it alone; None: they share nothing.
    ``stretch`` is by how much longer executions take beside the others than that explains.
    """

    profiles: Mapping[str, ModelProfile]
    exclusive: Mapping[str, float] | None = None
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
        seen: dict[int, dict[str, Window]] = {}
        for window in windows:
            if window.together is not None:
                seen.setdefault(window.together, {})[window.model] = window
        whole = [
            _Scene(tuple(by_model[model] for model in models), visits, shares)
            for by_model in seen.values()
            if set(by_model) == set(models)
        ]
        if not whole:
            return apart
        alone = [
            _Scene((window,), (Visit(0),), np.ones(1))
            for window in windows
            if window.together is None and window.instances_of_a_device > 1
        ]
        sharing = _sharing(apart, [*whole, *alone])
        found = min(apart, sharing, key=lambda each: _miss(each, whole))
        factors = np.exp(_agreed(np.array([_excess(found, scene) for scene in whole])))
        low, high = 1 / _SETTINGS.longest, _SETTINGS.longest
        stretch = dict(zip(models, np.clip(factors, low, high).tolist(), strict=True))
        return replace(found, stretch=stretch)

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
        if self.exclusive is None:
            return Node(scheduling, service, number)
        return Node(scheduling, replace(service, exclusive=self.exclusive[model]), 0)


@dataclass(frozen=True)
class _Scene:
    """A closed loop in which some models were asked at once, and what was seen of each; ``shares``
    are those of the applications of ``visits``.
    """

    windows: tuple[Window, ...]
    visits: tuple[Visit, ...]
    shares: Floats


def _sharing(apart: JointProfile, scenes: Sequence[_Scene]) -> JointProfile:
    """The models on one device, with those shares of it that explain the scenes best. They are
    varied one by one, in ever smaller steps (Hooke and Jeeves, 1961), up to what the model's own
    instances leave possible by the utilization law.
    """
    most = {
        name: min((1 / effective for _, effective in profile.parallel), default=1.0)
        for name, profile in apart.profiles.items()
    }
    best = replace(apart, exclusive={name: min(1.0, most[name]) for name in most})
    least = _miss(best, scenes)
    for step in _SETTINGS.steps:
        for name in most:
            for aside in (-step, step):
                known = best.exclusive or {}
                share = min(max(known[name] + aside, 0.0), most[name], 1.0)
                tried = replace(best, exclusive={**known, name: share})
                if share != known[name] and (found := _miss(tried, scenes)) < least:
                    best, least = tried, found
    return best


def _miss(profile: JointProfile, scenes: Sequence[_Scene]) -> float:
    return float(sum(np.sum(_excess(profile, scene) ** 2) for scene in scenes))


def _agreed(excess: Floats) -> Floats:
    """What every window shows of each model: 0 where one shows more and another less. In closed
    loops models may fall into step, and then wait longer, or less, than at random arrivals. From
    shape (windows, models) to (models,).
    """
    lowest, highest = excess.min(axis=0), excess.max(axis=0)
    return np.asarray(np.maximum(lowest, 0.0) + np.minimum(highest, 0.0))


def _excess(profile: JointProfile, scene: _Scene) -> Floats:
    """ln of how much longer executions took than in a simulation of the same closed loop; shape
    (models of the scene,).
    """
    profiles = {window.model: profile.profiles[window.model] for window in scene.windows}
    here = replace(profile, profiles=profiles)
    network = here.network(tuple(map(_scheduling, scene.windows)), scene.visits)
    count = _SETTINGS.requests
    kinds = np.random.default_rng(0).choice(len(scene.shares), count, p=scene.shares)
    outstanding = scene.windows[0].concurrency
    played = simulate_network(np.zeros(count), network, kinds, outstanding=outstanding)
    seen = [_stretch(window.server, profiles[window.model]) for window in scene.windows]
    simulated = [_stretch_played(played, n, own) for n, own in enumerate(profiles.values())]
    return np.asarray(np.log(seen) - np.log(simulated))


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
