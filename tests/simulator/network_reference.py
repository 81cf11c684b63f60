"""Networks of batchers once more, written plainly, as ``tests.simulator.reference`` is.

``tuner.simulator.network`` has to come to the very same numbers.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from tests.simulator.reference import Instance, Reference, Request
from tuner.simulator.network import Network


@dataclass
class Whole:
    number: int
    arrival: float
    application: int
    items: int
    visits_done: set[int] = field(default_factory=set)
    visits_begun: set[int] = field(default_factory=set)
    done: float = math.nan
    ok: bool = False

    @property
    def is_answered(self) -> bool:
        return not math.isnan(self.done)


class PlainNode(Reference):
    """Whose requests come one by one; ``stands_for`` tells the whole request and visit of each."""

    served: list[int]  # executions that each instance has ended
    stands_for: list[tuple[Whole, int]]
    replies: list[Request]  # on their way

    def free_instance(self) -> Instance | None:
        """The one that would begin with the next payload."""
        idle = [instance for instance in self.instances if instance.phase == "idle"]
        if not idle or not self.payloads:
            return None
        if self.is_rate_limited:
            return min(idle, key=lambda instance: self.served[instance.number])
        return min(idle, key=lambda instance: instance.idle_since)


class PlainNetwork:
    """A network that is played by ``play``; then ``requests`` and ``nodes`` tell of it."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        self.requests: list[Whole] = []
        self.running = 0
        random = np.random.RandomState(seed)
        devices: dict[int, list[float]] = {}
        for node in network.nodes:
            shared = devices.setdefault(node.device, [])
            shared += [0.0] * (node.scheduling.devices - len(shared))
        self.nodes = []
        for node in network.nodes:
            plain = PlainNode(node.scheduling, node.service, seed)
            plain.random, plain.device_free = random, devices[node.device]
            plain.is_rate_limited = network.limit > 0
            plain.stands_for, plain.replies = [], []
            plain.served = [0] * node.scheduling.instances
            self.nodes.append(plain)

    def play(self, times: list[float], kinds: list[int], items: list[int]) -> None:
        rows = zip(times, kinds, items, strict=True)
        self.requests = [Whole(number, *row) for number, row in enumerate(rows)]
        coming = list(self.requests)
        while not all(request.is_answered for request in self.requests):
            # At the same moment instances come first, then replies, requests and timers.
            events: list[tuple[float, int, int, int]] = []
            for number, node in enumerate(self.nodes):
                events += [(i.until, 0, number, i.number) for i in node.instances]
                events += [(request.done, 1, number, 0) for request in node.replies[:1]]
                events.append((node.timer, 3, number, 0))
            if coming:
                events.append((coming[0].arrival, 2, 0, 0))
            now, kind, number, instance = min(events)
            node = self.nodes[number]
            if kind == 0:
                self.advance(now, node, node.instances[instance])
            elif kind == 1:
                self.hear(now, *node.stands_for[node.replies.pop(0).number])
            elif kind == 2:
                self.begin(now, coming.pop(0))
            else:
                node.timer = math.inf
                self.work(now, [node])

    def begin(self, now: float, request: Whole) -> None:
        """All visits that may."""
        ready = [
            number
            for number, visit in enumerate(self.network.visits)
            if visit.application == request.application
            and number not in request.visits_begun
            and request.visits_done.issuperset(visit.after)
        ]
        for number in ready:
            request.visits_begun.add(number)
        for number in ready:
            if not request.is_answered:
                self.enter(now, request, number)

    def enter(self, now: float, request: Whole, visit: int) -> None:
        node = self.nodes[self.network.visits[visit].node]
        own = Request(len(node.requests), now, request.items)
        node.requests.append(own)
        node.stands_for.append((request, visit))
        self.work(now, [node] if node.enter(now, own) else [])

    def advance(self, now: float, node: PlainNode, instance: Instance) -> None:
        phase = instance.phase
        wakes = node.advance(now, instance)
        if phase == "on the device":
            node.replies += instance.batch.requests
        if phase == "releasing":
            self.running -= 1
            node.served[instance.number] += 1
        self.work(now, [node] if wakes else [])

    def hear(self, now: float, request: Whole, visit: int) -> None:
        request.visits_done.add(visit)
        if request.is_answered:
            return
        own = [
            number
            for number, each in enumerate(self.network.visits)
            if each.application == request.application
        ]
        if request.visits_done.issuperset(own):
            request.done, request.ok = now, True
        else:
            self.begin(now, request)

    def work(self, now: float, woken: list[PlainNode]) -> None:
        """Payloads go to instances as far as the limit lets them; then batcher threads take their
        turns, that of whoever went first.
        """
        while True:
            while (node := self.first_in_line()) is not None:
                node.execute(now, node.free_instance())
                self.running += 1
                if node.scheduling.batching:
                    woken = [node, *(other for other in woken if other is not node)]
            if not woken:
                break
            if not woken[0].turn(now):
                woken = woken[1:]
        self.fail(now)

    def first_in_line(self) -> PlainNode | None:
        if 0 < self.network.limit <= self.running:
            return None
        waiting = [
            (node.served[instance.number] if self.network.limit else 0, number)
            for number, node in enumerate(self.nodes)
            if (instance := node.free_instance()) is not None
        ]
        return self.nodes[min(waiting)[1]] if waiting else None

    def fail(self, now: float) -> None:
        for node in self.nodes:
            for own, (request, _) in zip(node.requests, node.stands_for, strict=True):
                if own.done == now and not own.ok and not request.is_answered:
                    request.done = now
