"""Triton's dynamic batcher once more, written plainly: lists of objects, and no thought of speed.

``tuner.simulator`` has to come to the very same numbers.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes

NOT_AGAIN_FOR = 0.5  # seconds after which the batcher's thread wakes by itself
MICROSECOND = 1e-6


@dataclass
class Request:
    number: int
    entered: float
    items: int
    started: float = math.nan
    done: float = math.nan
    ok: bool = False
    execution: int = -1


@dataclass
class Payload:
    requests: list[Request] = field(default_factory=list)
    may_grow: bool = True

    @property
    def items(self) -> int:
        return sum(request.items for request in self.requests)


@dataclass
class Instance:
    number: int
    phase: str = "idle"
    until: float = math.inf
    idle_since: float = 0.0
    on_device: float = 0.0
    execution: int = -1
    batch: Payload = field(default_factory=Payload)


class Reference:
    """A server that is played by ``play``; then ``requests``, ``sizes`` and ``ends`` tell of it."""

    def __init__(self, scheduling: Scheduling, service: ServiceTimes, seed: int) -> None:
        self.scheduling, self.service = scheduling, service
        self.random = np.random.RandomState(seed)
        self.requests: list[Request] = []
        self.sizes: list[int] = []
        self.ends: dict[int, float] = {}
        self.queue: list[Request] = []
        self.payloads: list[Payload] = []  # those that wait for an instance
        self.forming: Payload | None = None
        self.is_saturated = False
        self.wake_items = 0
        self.timer = math.inf
        self.wire_free = 0.0
        self.is_rate_limited = False
        self.instances = [Instance(number) for number in range(scheduling.instances)]
        self.device_free = [0.0] * scheduling.devices

    def play(self, entered: list[float], items: list[int]) -> None:
        self.requests = [
            Request(number, *pair) for number, pair in enumerate(zip(entered, items, strict=True))
        ]
        coming = list(self.requests)
        while any(math.isnan(request.done) for request in self.requests):
            # At the same moment instances come first, then requests, then the timer.
            events = [(i.until, 0, i.number) for i in self.instances] + [(self.timer, 2, 0)]
            if coming:
                events.append((coming[0].entered, 1, 0))
            now, kind, number = min(events)
            if kind == 0:
                wakes = self.advance(now, self.instances[number])
            elif kind == 1:
                wakes = self.enter(now, coming.pop(0))
            else:
                self.timer, wakes = math.inf, True
            wakes = self.dispatch(now) or wakes
            while wakes:
                wakes = self.turn(now)
                wakes = self.dispatch(now) or wakes

    def enter(self, now: float, request: Request) -> bool:
        limit = self.scheduling.queue_size
        if request.items > self.scheduling.max_batch or 0 < limit <= len(self.queue):
            request.done = now
            return False
        if not self.scheduling.batching:
            self.payloads.append(Payload([request]))
            return False
        self.queue.append(request)
        closed = self.forming is not None and not self.forming.may_grow
        due = sum(waiting.items for waiting in self.queue) >= self.wake_items
        return self.has_slot() and (self.is_saturated or closed or due)

    def has_slot(self) -> bool:
        if self.scheduling.queue_size or self.scheduling.timeout:
            idle = [i for i in self.instances if i.phase == "idle"]
            return len(idle) > len(self.payloads)
        return self.is_rate_limited or len(self.payloads) < 2 * len(self.instances)

    def advance(self, now: float, instance: Instance) -> bool:
        if instance.phase == "beside others":
            device = instance.number % len(self.device_free)
            self.device_free[device] = max(now, self.device_free[device]) + instance.on_device
            instance.phase, instance.until = "on the device", self.device_free[device]
            return False
        if instance.phase == "on the device":
            for request in instance.batch.requests:
                self.wire_free = max(self.wire_free, now) + self.service.reply
                request.done, request.ok = self.wire_free, True
            self.ends[instance.execution] = now
            instance.phase = "releasing"
            instance.until = now + self.service.release * instance.batch.items
            return False
        instance.phase, instance.until, instance.idle_since = "idle", math.inf, now
        return self.scheduling.batching

    def dispatch(self, now: float) -> bool:
        """Whether an execution began, which wakes the batcher."""
        began = False
        while self.payloads and any(i.phase == "idle" for i in self.instances):
            idle = [i for i in self.instances if i.phase == "idle"]
            self.execute(now, min(idle, key=lambda i: i.idle_since))
            began = self.scheduling.batching
        return began

    def execute(self, now: float, instance: Instance) -> None:
        batch = Payload(list(self.take().requests))
        merges = self.scheduling.delay > 0 and self.scheduling.max_batch > 1
        while merges and not self.is_rate_limited and self.payloads:
            following = self.payloads[0]
            if now - following.requests[0].entered <= self.scheduling.delay:
                break
            following.may_grow = False
            if batch.items + following.items > self.scheduling.max_batch:
                break
            batch.requests += self.take().requests
        instance.batch, instance.execution = batch, len(self.sizes)
        for request in batch.requests:
            request.started, request.execution = now, instance.execution
        self.sizes.append(batch.items)
        noise = self.service.noise[self.random.randint(len(self.service.noise))]
        seconds = max(float(self.service.seconds[batch.items] + noise), 0.0)
        exclusive = self.service.exclusive
        instance.on_device = exclusive * seconds
        instance.phase, instance.until = "beside others", now + (1 - exclusive) * seconds

    def take(self) -> Payload:
        self.payloads[0].may_grow = False
        return self.payloads.pop(0)

    def turn(self, now: float) -> bool:
        """Of the batcher's thread; False where it goes to sleep."""
        if self.is_saturated or (self.forming is not None and not self.forming.may_grow):
            self.is_saturated, self.forming, self.wake_items = False, None, 0
        slot = self.has_slot()
        if self.scheduling.timeout > 0:
            for request in self.queue:
                if now - request.entered > self.scheduling.timeout:
                    request.done = now
            self.queue = [request for request in self.queue if math.isnan(request.done)]
        if not self.queue or not slot:
            return self.sleep(now + NOT_AGAIN_FOR)
        joining, saturated, wait = self.choose(now, self.forming.items if self.forming else 0)
        self.is_saturated |= saturated
        if wait > 0:
            return self.sleep(now + wait)
        if joining:
            if self.forming is None:
                self.forming = Payload()
                self.payloads.append(self.forming)
            self.forming.requests += joining
            self.queue = self.queue[len(joining) :]
        return True

    def sleep(self, until: float) -> bool:
        self.timer = until
        if self.scheduling.timeout > 0 and self.queue:
            expiry = self.queue[0].entered + self.scheduling.timeout + MICROSECOND
            self.timer = min(until, expiry)
        return False

    def choose(self, now: float, held: int) -> tuple[list[Request], bool, float]:
        """The requests that join what is held, whether it takes no more then, and the seconds to
        wait instead.
        """
        preferred, delay = self.scheduling.preferred, self.scheduling.delay
        fitting: list[Request] = []
        best: list[Request] = []
        saturated = full = False
        total = held
        for request in self.queue:
            larger = total + request.items
            if larger > preferred[-1] and not best and total > 0:
                best, saturated = list(fitting), True
            if larger > self.scheduling.max_batch and total > 0:
                full = True
                break
            fitting.append(request)
            total = larger
            if total in preferred:
                best = list(fitting)
        age = now - fitting[0].entered if fitting else 0.0
        overdue = 0 < delay <= age + 1e-12
        if best and not overdue:
            return best, saturated or delay == 0, 0.0
        if not fitting or overdue or full or total >= preferred[-1] or delay == 0:
            grown = bool(fitting) and (full or total >= preferred[-1])
            return fitting, saturated or grown, 0.0
        self.wake_items = min((s for s in preferred if s > total), default=preferred[0]) - held
        if not saturated and held and held not in preferred:
            return fitting, saturated, 0.0
        return [], saturated, max(delay - age, MICROSECOND)
