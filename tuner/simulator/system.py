"""What the simulated server is made of, in types that numba takes."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tuner.stats.samples import Bools, Floats, Ints


class Rules(NamedTuple):
    """The configuration, as ``tuner.simulator.scheduling.Scheduling`` has it: sizes in items, times
    in seconds, 0 for no limit. ``preferred`` ascends and is not empty, shape (sizes,).
    ``rate_limited``: payloads wait in Triton's rate limiter, where there is room for any number and
    none are merged, and not for instances.
    """

    batching: bool
    max_batch: int
    preferred: Ints
    delay: float
    instances: int
    devices: int
    queue_size: int
    timeout: float
    rate_limited: bool = False


class Durations(NamedTuple):
    """Seconds, as ``tuner.simulator.simulate.ServiceTimes`` has them: ``alone[b]`` of an execution
    of b items, the share ``exclusive`` of it on a device, first come, first served, and ``noise``,
    equally likely, on top; then ``release`` per item and ``reply`` per request.
    """

    alone: Floats
    exclusive: float
    noise: Floats
    release: float
    reply: float


class Requests(NamedTuple):
    """Of each request, shape (n,): when it enters the scheduler (ascending) and its items; whether
    it is ``gone``, since it was refused; the start of its execution (NaN: none); its reply or
    refusal; whether it was answered; and the number of its execution (-1: none).
    """

    entered: Floats
    items: Ints
    gone: Bools
    started: Floats
    done: Floats
    ok: Bools
    execution: Ints


class Payloads(NamedTuple):
    """Ranges of requests [first, end), and their items, in the order of their queue; shape (n,)."""

    first: Ints
    end: Ints
    items: Ints


class Instances(NamedTuple):
    """Of each instance, shape (instances,): its phase, when that ends, the requests [first, end)
    that it executes, the seconds it still needs on its device, and since when it has been idle.
    """

    phase: Ints
    until: Floats
    first: Ints
    end: Ints
    exclusive: Floats
    idle_since: Floats


class Executions(NamedTuple):
    """Items and end of each, in the order of their starts; shape (n,), of which as many count as
    were executed.
    """

    items: Ints
    ends: Floats


class System(NamedTuple):
    """A server, its load and all that comes of it; ``device_free`` is when each device is free,
    shape (devices,).
    """

    rules: Rules
    durations: Durations
    requests: Requests
    payloads: Payloads
    instances: Instances
    device_free: Floats
    executions: Executions

    @classmethod
    def new(cls, entered: Floats, items: Ints, rules: Rules, durations: Durations) -> "System":
        """Idle, before the first request."""
        n, count = len(entered), rules.instances
        requests = Requests(
            entered,
            items,
            gone=np.zeros(n, np.bool_),
            started=np.full(n, np.nan),
            done=np.full(n, np.nan),
            ok=np.zeros(n, np.bool_),
            execution=np.full(n, -1, np.int64),
        )
        instances = Instances(
            phase=np.zeros(count, np.int64),
            until=np.full(count, np.inf),
            first=np.zeros(count, np.int64),
            end=np.zeros(count, np.int64),
            exclusive=np.zeros(count),
            idle_since=np.zeros(count),
        )
        payloads = Payloads(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64))
        executions = Executions(np.zeros(n, np.int64), np.zeros(n))
        free = np.zeros(rules.devices)
        return cls(rules, durations, requests, payloads, instances, free, executions)


class QueueState:
    """The numbers that steps change: a record of them, which numba passes by reference."""

    arrived: int  # requests that have entered the scheduler
    waiting: int  # the scheduler queue holds the requests [waiting, arrived)
    queued: int  # those of them that are not refused
    queued_items: int
    head: int  # payloads [head, tail) wait for instances
    tail: int
    current: int  # the payload that is being formed, unless ``status`` is _NONE
    status: int
    wake_items: int  # queued items for which the batcher thread is woken
    executions: int
    answered: int  # requests with a reply or a refusal
    timer: float  # when the batcher thread wakes by itself
    wire_free: float  # when the last reply has left
    saturated: bool  # the payload that is being formed takes no more


_STATE = np.dtype(list(QueueState.__annotations__.items()), align=True)


def new_states(nodes: int = 1) -> npt.NDArray[np.void]:
    """The QueueState of each new system: records, shape (nodes,)."""
    states = np.zeros(nodes, _STATE)
    states["timer"] = np.inf
    return states


class Place:
    """Where the arrays of one of several nodes begin in those of all, how many are its own, its
    numbers, and what comes next there: a record, as QueueState is.
    """

    batching: bool
    max_batch: int
    delay: float
    instances: int
    devices: int
    queue_size: int
    timeout: float
    rate_limited: bool
    exclusive: float
    release: float
    reply: float
    entries: int  # how many requests enter at most
    sizes: int  # preferred ones
    known: int  # sizes whose duration is known, from 0 on
    noises: int
    first_entry: int
    first_size: int
    first_known: int
    first_noise: int
    first_instance: int
    first_device: int
    next_instance: int  # whose phase ends first, at ``until``
    until: float
    told: int  # replies [told, replied) are on their way, and the first is there at ``reply_at``
    replied: int
    reply_at: float


_PLACE = np.dtype(list(Place.__annotations__.items()), align=True)


def new_places(nodes: int) -> npt.NDArray[np.void]:
    """Empty ones, where nothing is to come."""
    places = np.zeros(nodes, _PLACE)
    places["until"] = places["reply_at"] = np.inf
    return places


class Routes(NamedTuple):
    """The visits of application a are [first[a], first[a + 1]); of each, shape (visits,): its node,
    how many others it awaits, and those that await it, followers[next[v]:next[v + 1]].
    """

    first: Ints
    node: Ints
    awaited: Ints
    next: Ints
    followers: Ints


class Whole(NamedTuple):
    """Of each request, shape (n,), in the order of ``arrival``: its application and items, its
    visits that are not done, when it was answered, whether one of its visits was refused, and where
    the counts of what each of its visits still awaits begin in ``awaited``.
    """

    arrival: Floats
    kind: Ints
    items: Ints
    left: Ints
    done: Floats
    failed: Bools
    first: Ints
    awaited: Ints


class Entries(NamedTuple):
    """Of each request of each node: the whole request and the visit that it stands for; and the
    node's requests in the order of their replies. Shape (entries of all nodes,).
    """

    whole: Ints
    visit: Ints
    replies: Ints


class Agenda(NamedTuple):
    """What is to be done at this very moment: visit ``visit`` of request ``whole`` begins; or, if
    that is -1, a node gets its turn: 2 * number, and 1 more if its batcher thread is woken.
    """

    whole: Ints
    visit: Ints


class Joint(NamedTuple):
    """Nodes that are joined: ``all`` holds the arrays of all of them, one behind the other, and
    ``served`` how many executions each instance has ended.
    """

    all: System
    routes: Routes
    whole: Whole
    entries: Entries
    agenda: Agenda
    served: Ints
