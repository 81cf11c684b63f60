"""Simulates models that are joined: pipelines (Triton's ensembles), mixes, shared devices."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.load.batches import BatchMix
from tuner.simulator.predict import demands
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, pass_one_by_one
from tuner.simulator.system import (
    Agenda,
    Durations,
    Entries,
    Joint,
    Routes,
    Rules,
    System,
    Whole,
    new_places,
    new_states,
)
from tuner.stats.samples import Floats, Ints, Samples

_LEAST_SECONDS = 1e-9  # of a request: one that takes no time is no limit
_COUNTS = {
    "entry": "entries",
    "size": "sizes",
    "known": "known",
    "noise": "noises",
    "instance": "instances",
}


@dataclass(frozen=True)
class Node:
    """A model. Nodes of the same number ``device`` share that device: the exclusive parts of their
    executions queue for it, first come, first served. With several ``devices`` of a scheduling the
    number stands for a group of so many, the most that any of its nodes has, and instance i of each
    node is on the device i modulo that many.
    """

    scheduling: Scheduling
    service: ServiceTimes
    device: int = 0


@dataclass(frozen=True)
class Visit:
    """A step of an application: its requests go to a node once the visits ``after`` are done, which
    are visits of the same application that stand before it; at once if there are none.
    """

    node: int
    after: tuple[int, ...] = ()
    application: int = 0


@dataclass(frozen=True)
class Network:
    """Nodes, and how requests go through them; ``node`` and ``after`` of visits are positions here.

    ``limit`` is the count of one resource that every execution needs one of, as Triton's rate
    limiter has it, until its instance is idle again; 0: the rate limiter is off.
    """

    nodes: tuple[Node, ...]
    visits: tuple[Visit, ...]
    limit: int = 0

    def __post_init__(self) -> None:
        """ValueError if it makes no sense."""
        for number, visit in enumerate(self.visits):
            if not 0 <= visit.node < len(self.nodes):
                raise ValueError(f"visit {number} is to node {visit.node}, which does not exist")
            for other in visit.after:
                if not 0 <= other < number or (self.visits[other].application != visit.application):
                    raise ValueError(
                        f"visit {number} is after {other}, which is no earlier visit of the same "
                        "application"
                    )
        found = {visit.application for visit in self.visits}
        if not found or found != set(range(self.applications)):
            raise ValueError("applications must be numbered from 0 on and have visits")
        for node in self.nodes:
            if len(node.service.seconds) <= node.scheduling.max_batch:
                raise ValueError(
                    f"the service time of a batch of {node.scheduling.max_batch} is unknown"
                )

    @cached_property
    def applications(self) -> int:
        return 1 + max((visit.application for visit in self.visits), default=-1)

    @cached_property
    def devices(self) -> dict[int, int]:
        """How many devices each number stands for."""
        found: dict[int, int] = {}
        for node in self.nodes:
            found[node.device] = max(node.scheduling.devices, found.get(node.device, 1))
        return found

    def fronts(self, cost: str) -> Floats:
        """``accept`` or ``network`` of each application: the most of the nodes that its requests
        come to first; shape (applications,).
        """
        found = np.zeros(self.applications)
        for visit in self.visits:
            if not visit.after:
                seconds = getattr(self.nodes[visit.node].service, cost)
                found[visit.application] = max(found[visit.application], seconds)
        return found


@dataclass(frozen=True)
class NodePlayed:
    """What was played at a node: the mean seconds ``queue`` that a request waits for its execution,
    the items ``sizes`` and the ``starts`` and ``ends`` (NaN: all was answered before) of each
    execution, in the order of starts, and the share ``utilization`` of instance time spent
    executing, from the first arrival in the network to the last reply.

    ``request``, ``visit``, ``entered``, ``started`` (NaN: never), ``done`` (NaN: all was answered
    before) and ``execution`` (-1: none) are of each request's visit, in the order in which they
    came in: the request's position in ``Played.samples``, that of the visit in the network,
    seconds, and the position in ``sizes``.
    """

    queue: float
    sizes: Ints
    utilization: float
    starts: Floats
    ends: Floats
    request: Ints
    visit: Ints
    entered: Floats
    started: Floats
    done: Floats
    execution: Ints

    @property
    def batches(self) -> dict[int, int]:
        """Executions by batch size."""
        sizes, counts = np.unique(self.sizes, return_counts=True)
        return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class Played:
    """``samples`` of the whole requests as a load generator returns them, and what was played at
    each node.
    """

    samples: Samples
    nodes: tuple[NodePlayed, ...]


def simulate_network(
    times: Floats,
    network: Network,
    kinds: Ints | None = None,
    items: Ints | None = None,
    seed: int = 0,
    outstanding: int = 0,
) -> Played:
    """Play requests sent at ``times`` (ascending, seconds), each of the application ``kinds``
    (default 0) and of ``items`` (default 1), which all its visits have.

    With so many ``outstanding``, it is a closed loop: the times of only so many count, and each
    other request is sent once one before it is answered.

    A request that a node refuses has failed as a whole: it is answered then, and none of its other
    visits begins; what of it is queued elsewhere is executed in vain. (Triton executes that as
    well, and answers after it.)

    The front end is passed at the edge of the network alone: requests of all applications go
    through ``accept`` one after the other, and ``network`` is on their way once. Within a pipeline
    each node still sends its replies one after the other, each of which takes its ``reply``.
    """
    from tuner.simulator.batcher import run_network  # numba: see simulate

    count, n = len(times), len(network.nodes)
    kinds = np.zeros(count, np.int64) if kinds is None else np.asarray(kinds, np.int64)
    items = np.ones(count, np.int64) if items is None else np.asarray(items, np.int64)
    if count and not 0 <= kinds.min() <= kinds.max() < network.applications:
        raise ValueError(f"kinds must be from 0 to {network.applications - 1}")
    fronts = network.fronts("network")
    if outstanding:  # one follows another, whichever way it takes
        fronts = np.full_like(fronts, fronts.max())
    away = fronts[kinds] / 2
    order = np.argsort(times + away, kind="stable")
    accept = network.fronts("accept")
    each = accept[kinds[order]] if np.ptp(accept) > 0 else float(accept[0])
    arrival = pass_one_by_one((times + away)[order], each)
    routes, visits = _routes(network)
    gap = 0.0
    if outstanding:
        gap = float(fronts.max())
        arrival = np.where(np.arange(count) < outstanding, arrival, np.inf)
    whole = _whole(routes, arrival, kinds[order], items[order])
    places = _places(network, np.bincount(routes.node[_visits(routes, kinds)], minlength=n))
    joint, states = _joint(network, places, routes, whole), new_states(n)
    run_network(joint, states, places, network.limit, outstanding, gap, seed)
    if outstanding:
        times = whole.arrival - away
    done, ok = np.empty(count), np.empty(count, np.bool_)
    done[order], ok[order] = whole.done, ~whole.failed
    samples = Samples(times, times.copy(), done + away, ok)
    span = float(whole.done.max() - arrival[0]) if count else 0.0
    nodes = (_played(joint, states[k], places[k], span, order, visits) for k in range(n))
    return Played(samples, tuple(nodes))


def _routes(network: Network) -> tuple[Routes, Ints]:
    """Visits sorted by application, and their positions in the network."""
    applications = np.array([visit.application for visit in network.visits], np.int64)
    visits = np.argsort(applications, kind="stable")
    position = np.argsort(visits)
    followers: list[list[int]] = [[] for _ in visits]
    for number, visit in enumerate(network.visits):
        for other in set(visit.after):
            followers[position[other]].append(int(position[number]))
    sorted_visits = [network.visits[number] for number in visits]
    return (
        Routes(
            first=np.searchsorted(applications[visits], np.arange(network.applications + 1)),
            node=np.array([visit.node for visit in sorted_visits], np.int64),
            awaited=np.array([len(set(visit.after)) for visit in sorted_visits], np.int64),
            next=np.cumsum([0, *map(len, followers)]),
            followers=np.array([v for each in followers for v in sorted(each)], np.int64),
        ),
        visits,
    )


def _visits(routes: Routes, kinds: Ints) -> Ints:
    """Of requests of these applications, one after the other."""
    counts = np.diff(routes.first)[kinds]
    ends = np.cumsum(counts)
    begins = np.repeat(routes.first[kinds] - (ends - counts), counts)
    return np.asarray(np.arange(len(begins)) + begins)


def _whole(routes: Routes, arrival: Floats, kinds: Ints, items: Ints) -> Whole:
    counts, n = np.diff(routes.first)[kinds], len(arrival)
    return Whole(
        arrival,
        kinds,
        items,
        left=counts,
        done=np.full(n, np.nan),
        failed=np.zeros(n, np.bool_),
        first=np.cumsum(counts) - counts,
        awaited=routes.awaited[_visits(routes, kinds)],
    )


def _places(network: Network, entries: Ints) -> npt.NDArray[np.void]:
    """Of nodes that so many requests enter at most, shape (nodes,)."""
    places, nodes = new_places(len(network.nodes)), network.nodes
    for name in ("batching", "max_batch", "delay", "instances", "queue_size", "timeout"):
        places[name] = [getattr(node.scheduling, name) for node in nodes]
    for name in ("exclusive", "release", "reply"):
        places[name] = [getattr(node.service, name) for node in nodes]
    places["rate_limited"] = network.limit > 0
    places["entries"] = entries
    places["sizes"] = [len(node.scheduling.preferred) for node in nodes]
    places["known"] = [len(node.service.seconds) for node in nodes]
    places["noises"] = [len(node.service.noise) for node in nodes]
    for name in ("entry", "size", "known", "noise", "instance"):
        counts = places[_COUNTS[name]]
        places[f"first_{name}"] = np.cumsum(counts) - counts
    first: dict[int, int] = {}
    total = 0
    for device, count in network.devices.items():
        first[device], total = total, total + count
    places["devices"] = [network.devices[node.device] for node in nodes]
    places["first_device"] = [first[node.device] for node in nodes]
    return places


def _joint(network: Network, places: npt.NDArray[np.void], routes: Routes, whole: Whole) -> Joint:
    """The arrays of all nodes, in which ``places`` are."""
    nodes, total = network.nodes, int(places["entries"].sum())
    preferred = [np.array(node.scheduling.preferred, np.int64) for node in nodes]
    rules = Rules(
        batching=True,
        max_batch=0,
        preferred=np.concatenate(preferred),
        delay=0.0,
        instances=int(places["instances"].sum()),
        devices=sum(network.devices.values()),
        queue_size=0,
        timeout=0.0,
    )
    durations = Durations(
        alone=np.concatenate([node.service.seconds for node in nodes]).astype(float),
        exclusive=0.0,
        noise=np.concatenate([node.service.noise for node in nodes]).astype(float),
        release=0.0,
        reply=0.0,
    )
    none, moment = np.zeros(total, np.int64), np.zeros(max(len(routes.node), 2), np.int64)
    joint = System.new(np.full(total, np.nan), none, rules, durations)
    joint.executions.ends[:] = np.nan
    return Joint(
        joint,
        routes,
        whole,
        Entries(whole=none.copy(), visit=none.copy(), replies=none.copy()),
        Agenda(moment, moment.copy()),
        served=np.zeros(rules.instances, np.int64),
    )


def _played(
    joint: Joint, state: Any, place: Any, span: float, order: Ints, visits: Ints
) -> NodePlayed:
    """What was played at one node; ``order`` and ``visits`` are the positions of whole requests and
    of visits outside.
    """
    requests, n = joint.all.requests, int(place["first_entry"])
    own = slice(n, n + int(state["arrived"]))
    executed = slice(n, n + int(state["executions"]))
    entered, started, execution = (
        requests.entered[own],
        requests.started[own],
        requests.execution[own],
    )
    sizes, ends = joint.all.executions.items[executed], joint.all.executions.ends[executed]
    ran = execution >= 0
    starts = np.empty(len(sizes))
    starts[execution[ran]] = started[ran]
    last = float(joint.whole.done.max()) if len(joint.whole.done) else 0.0
    busy = np.minimum(np.where(np.isnan(ends), last, ends), last) - starts
    return NodePlayed(
        queue=float(np.mean((started - entered)[ran])) if ran.any() else 0.0,
        sizes=sizes,
        utilization=float(busy.sum()) / (span * int(place["instances"])) if span > 0 else 0.0,
        starts=starts,
        ends=ends,
        request=order[joint.entries.whole[own]],
        visit=visits[joint.entries.visit[own]],
        entered=entered,
        started=started,
        done=requests.done[own],
        execution=execution,
    )


def saturation_of(network: Network, shares: Floats, mix: BatchMix | None = None) -> float:
    """The throughput (requests/s, of all applications) that no load exceeds, by the utilization
    law: that of the busiest of instances, devices, rate limiter and front end.

    Each of them has batches of the size that suits it best, so where a device or the rate limiter
    is shared what can be reached may be less.
    """
    visits = np.zeros(len(network.nodes))  # of a request
    for visit in network.visits:
        visits[visit.node] += shares[visit.application]
    times = [float(network.fronts("accept") @ shares), _LEAST_SECONDS]
    shared = dict.fromkeys(network.devices, 0.0)
    limited = 0.0
    for count, node in zip(visits, network.nodes, strict=True):
        occupied, exclusive = demands(node.scheduling, node.service, mix)
        devices = network.devices[node.device]
        busiest = np.maximum(occupied / node.scheduling.instances, exclusive / devices)
        times += [float(count * np.min(busiest)), count * node.service.reply]
        shared[node.device] += float(count * np.min(exclusive))
        limited += float(count * np.min(occupied))
    times += [seconds / network.devices[device] for device, seconds in shared.items()]
    if network.limit:
        times.append(limited / network.limit)
    return 1 / max(times)
