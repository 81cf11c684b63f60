"""Triton's dynamic batcher as a discrete-event simulation, compiled with numba.

It follows Triton core's source (``dynamic_batch_scheduler.cc``, ``rate_limiter.cc``,
``instance_queue.cc``): one batcher thread forms payloads out of the scheduler queue, a FIFO of
payloads waits for instances, and the payload that is being formed may go on growing in it. Requests
are in order, so a payload is a range of them.

``run`` is the event loop; each step below it is what Triton does at one event. ``run_network`` is
that of several batchers which are joined, and takes the same steps. All of it is in this file,
since numba compiles either anew only if this very file changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit

from tuner.simulator.system import (
    Agenda,
    Durations,
    Executions,
    Instances,
    Joint,
    Payloads,
    Place,
    QueueState,
    Requests,
    Rules,
    System,
)
from tuner.stats.samples import Floats, Ints

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class ThreadTiming:
    """How Triton's batcher thread waits, in seconds."""

    look_again: float = 0.5  # default_wait_microseconds of dynamic_batch_scheduler.cc
    tick: float = 1e-6  # it waits for whole microseconds, and never for none
    rounding: float = 1e-12  # the age of a request is a difference of doubles: a delay has passed


_TIMING = ThreadTiming()
_LOOK_AGAIN, _TICK, _ROUNDING = _TIMING.look_again, _TIMING.tick, _TIMING.rounding
_IDLE, _OVERLAPPED, _EXCLUSIVE, _RELEASING = 0, 1, 2, 3  # phases of an instance
_NONE, _OPEN, _CLOSED = 0, 1, 2  # the payload being formed: there is none, it may grow, or not
_TURN, _PHASE, _REPLY, _ARRIVAL, _TIMER = 0, 1, 2, 3, 4  # what happens next in a network


def _step(function: _Function) -> _Function:
    """Compile it into its callers, with no count of references to arrays, which outlive ``run``.

    Counting would take nine tenths of the time, and no public option switches it off. A step must
    not make an array, and return one, or a view, to no function that counts.
    """
    public = {"cache": True, "nogil": True, "forceinline": True, "no_cpython_wrapper": True}
    compiled: _Function = njit(**public, _nrt=False)(function)  # type: ignore[call-overload]
    return compiled


@njit(cache=True, nogil=True)
def run(system: System, states: Any, seed: int) -> None:
    """Play the requests of a system that is new, with noise drawn by ``seed``; ``states`` holds its
    QueueState.
    """
    np.random.seed(seed)
    state = states[0]
    entered, until = system.requests.entered, system.instances.until
    while state.answered < len(entered):
        instance = _next_instance(until)
        arrival = entered[state.arrived] if state.arrived < len(entered) else np.inf
        if arrival < until[instance] and arrival <= state.timer:
            now = arrival
            woken = _enqueue(system, state, now)
        elif state.timer < until[instance]:
            now, state.timer = state.timer, np.inf
            woken = True
        else:
            now = until[instance]
            woken = _advance(system, state, now, instance)
        _dispatch(system, state, now, woken)


@_step
def _next_instance(until: Floats) -> int:
    """The instance whose phase ends first."""
    first = 0
    for instance in range(1, len(until)):
        if until[instance] < until[first]:
            first = instance
    return first


@_step
def _enqueue(system: System, state: QueueState, now: float) -> bool:
    """``Enqueue``: a request enters the scheduler queue or is refused; whether it wakes the batcher
    thread.
    """
    rules, payloads = system.rules, system.payloads
    request = state.arrived
    state.arrived += 1
    items = system.requests.items[request]
    is_full = rules.queue_size > 0 and state.queued >= rules.queue_size
    if items > rules.max_batch or is_full:
        _refuse(system, state, now, request)
        return False
    if not rules.batching:
        payloads.first[state.tail], payloads.end[state.tail] = request, request + 1
        payloads.items[state.tail] = items
        state.tail += 1
        state.waiting = state.arrived
        return False
    state.queued += 1
    state.queued_items += items
    is_complete = state.saturated or state.status == _CLOSED
    return bool(
        (is_complete or state.queued_items >= state.wake_items) and _has_slot(system, state)
    )


@_step
def _refuse(system: System, state: QueueState, now: float, request: int) -> None:
    system.requests.gone[request], system.requests.done[request] = True, now
    state.answered += 1


@_step
def _has_slot(system: System, state: QueueState) -> bool:
    """``PayloadSlotAvailable``: whether another payload may be formed before one is executed."""
    phase, waiting = system.instances.phase, state.tail - state.head
    if system.rules.queue_size == 0 and system.rules.timeout == 0:
        return bool(system.rules.rate_limited or waiting < 2 * len(phase))
    idle = 0
    for instance in range(len(phase)):
        idle += phase[instance] == _IDLE
    return bool(idle > waiting)


@_step
def _advance(system: System, state: QueueState, now: float, instance: int) -> bool:
    """The phase of an instance ends and the next begins; whether that wakes the batcher thread."""
    instances, free = system.instances, system.device_free
    phase = instances.phase[instance]
    if phase == _OVERLAPPED:
        device = instance % len(free)
        free[device] = max(now, free[device]) + instances.exclusive[instance]
        instances.phase[instance], instances.until[instance] = _EXCLUSIVE, free[device]
        return False
    if phase == _EXCLUSIVE:
        execution = system.requests.execution[instances.first[instance]]
        items = system.executions.items[execution]
        system.executions.ends[execution] = now
        _reply(system, state, now, instance)
        instances.phase[instance] = _RELEASING
        instances.until[instance] = now + system.durations.release * items
        return False
    instances.phase[instance], instances.until[instance] = _IDLE, np.inf
    instances.idle_since[instance] = now
    return system.rules.batching


@_step
def _reply(system: System, state: QueueState, now: float, instance: int) -> None:
    """The replies of an execution leave one by one, behind those of earlier ones."""
    requests = system.requests
    for request in range(system.instances.first[instance], system.instances.end[instance]):
        if not requests.gone[request]:
            state.wire_free = max(state.wire_free, now) + system.durations.reply
            requests.done[request], requests.ok[request] = state.wire_free, True
            state.answered += 1


@_step
def _dispatch(system: System, state: QueueState, now: float, woken: bool) -> None:
    """Waiting payloads go to idle instances; if woken, the batcher thread forms others, until both
    have nothing left to do.
    """
    while True:
        while state.head < state.tail:
            instance = _longest_idle(system.instances)
            if instance < 0:
                break
            _execute(system, state, now, instance)
            woken = system.rules.batching
        if not woken:
            break
        woken = _form_payload(system, state, now)


@_step
def _longest_idle(instances: Instances) -> int:
    """-1 where all are busy."""
    longest = -1
    for instance in range(len(instances.phase)):
        if instances.phase[instance] == _IDLE and (
            longest < 0 or instances.idle_since[instance] < instances.idle_since[longest]
        ):
            longest = instance
    return longest


@_step
def _execute(system: System, state: QueueState, now: float, instance: int) -> None:
    """An instance begins with the first waiting payload, and those that are merged into it."""
    requests, instances, durations = system.requests, system.instances, system.durations
    first = system.payloads.first[state.head]
    end, items = _take_payloads(system, state, now)
    for request in range(first, end):
        if not requests.gone[request]:
            requests.started[request], requests.execution[request] = now, state.executions
    while requests.gone[first]:
        first += 1
    instances.first[instance], instances.end[instance] = first, end
    system.executions.items[state.executions] = items
    state.executions += 1
    noise = durations.noise[np.random.randint(len(durations.noise))]
    seconds = max(durations.alone[items] + noise, 0.0)
    instances.exclusive[instance] = durations.exclusive * seconds
    instances.phase[instance] = _OVERLAPPED
    instances.until[instance] = now + (1 - durations.exclusive) * seconds


@_step
def _take_payloads(system: System, state: QueueState, now: float) -> tuple[int, int]:
    """``DequeuePayload``: the first one that waits, and those behind it that are older than the
    delay and fit; the end of their requests, and their items.
    """
    rules, requests, payloads = system.rules, system.requests, system.payloads
    end, items = payloads.end[state.head], payloads.items[state.head]
    _close(state, state.head)
    state.head += 1
    if rules.rate_limited:
        return end, items
    while rules.delay > 0 and rules.max_batch > 1 and state.head < state.tail:
        oldest = payloads.first[state.head]
        while requests.gone[oldest]:
            oldest += 1
        if now - requests.entered[oldest] <= rules.delay:
            break
        _close(state, state.head)  # Triton marks it as executing also where it does not fit
        if items + payloads.items[state.head] > rules.max_batch:
            break
        end, items = payloads.end[state.head], items + payloads.items[state.head]
        state.head += 1
    return end, items


@_step
def _close(state: QueueState, payload: int) -> None:
    """The payload takes no more requests, if it is the one that is being formed."""
    if state.current == payload and state.status == _OPEN:
        state.status = _CLOSED


@_step
def _form_payload(system: System, state: QueueState, now: float) -> bool:
    """``BatcherThread``: one turn of its loop; False if it goes to sleep."""
    requests, rules = system.requests, system.rules
    if state.saturated or state.status == _CLOSED:
        state.saturated, state.status, state.wake_items = False, _NONE, 0
    if state.waiting == state.arrived:
        state.timer = now + _LOOK_AGAIN
        return False
    has_slot = _has_slot(system, state)
    if rules.timeout > 0:
        _refuse_expired(system, state, now)
    while state.waiting < state.arrived and requests.gone[state.waiting]:
        state.waiting += 1
    if state.waiting == state.arrived or not has_slot:
        _sleep(system, state, now + _LOOK_AGAIN)
        return False
    held = system.payloads.items[state.current] if state.status == _OPEN else 0
    choice = _choose(requests, rules, state, now, held)
    state.saturated = state.saturated or choice.saturated
    if choice.wake_items >= 0:
        state.wake_items = choice.wake_items
    if choice.wait > 0:
        _sleep(system, state, now + choice.wait)
        return False
    if choice.items > 0:
        _grow(system, state, choice.end, choice.items)
    return True


@_step
def _refuse_expired(system: System, state: QueueState, now: float) -> None:
    requests = system.requests
    for request in range(state.waiting, state.arrived):
        waited = now - requests.entered[request]
        if not requests.gone[request] and waited > system.rules.timeout:
            _refuse(system, state, now, request)
            state.queued -= 1
            state.queued_items -= requests.items[request]


@_step
def _sleep(system: System, state: QueueState, until: float) -> None:
    """Until a request wakes the batcher thread, or the oldest one expires, but no longer."""
    state.timer = until
    if system.rules.timeout > 0 and state.waiting < state.arrived:
        expiry = system.requests.entered[state.waiting] + system.rules.timeout + _TICK
        state.timer = min(until, expiry)


@_step
def _grow(system: System, state: QueueState, end: int, items: int) -> None:
    """Requests [waiting, end) join the payload that is being formed, or begin one."""
    payloads = system.payloads
    if state.status == _NONE:
        state.current, state.status = state.tail, _OPEN
        payloads.first[state.tail], payloads.items[state.tail] = state.waiting, 0
        state.tail += 1
    for request in range(state.waiting, end):
        state.queued -= not system.requests.gone[request]
    state.queued_items -= items
    payloads.end[state.current] = end
    payloads.items[state.current] += items
    state.waiting = end


class _Choice(NamedTuple):
    """Requests up to ``end``, of so many ``items``, join the payload, which may be ``saturated``
    then; or none does for ``wait`` seconds, or until ``wake_items`` are queued (-1: as before).
    """

    end: int
    items: int
    saturated: bool
    wake_items: int
    wait: float


@_step
def _choose(requests: Requests, rules: Rules, state: QueueState, now: float, held: int) -> _Choice:
    """``GetDynamicBatch``: which requests of the queue join a payload that holds ``held`` items."""
    preferred, delay = rules.preferred, rules.delay
    queue = _scan(requests, rules, state.waiting, state.arrived, held)
    age = now - requests.entered[queue.oldest] if queue.oldest >= 0 else 0.0
    is_overdue = delay > 0 and age >= delay - _ROUNDING
    saturated, total = queue.saturated, held + queue.items
    if queue.preferred_items != 0 and not is_overdue:
        saturated = saturated or delay == 0
        return _Choice(queue.preferred_end, queue.preferred_items, saturated, -1, 0.0)
    if queue.oldest < 0:
        return _Choice(queue.end, 0, saturated, -1, 0.0)
    if queue.is_full or total >= preferred[-1]:
        return _Choice(queue.end, queue.items, True, -1, 0.0)
    if is_overdue or delay == 0:
        return _Choice(queue.end, queue.items, saturated, -1, 0.0)
    wake_items = _next_preferred(preferred, total) - held
    if not saturated and held != 0 and held not in preferred:
        return _Choice(queue.end, queue.items, saturated, wake_items, 0.0)
    return _Choice(state.waiting, 0, saturated, wake_items, max(delay - age, _TICK))


class _Scan(NamedTuple):
    """Requests up to ``end``, of so many ``items``, fit; those up to ``preferred_end`` make the
    largest preferred size (``preferred_items`` 0: none). ``oldest`` is the first (-1: none);
    ``is_full`` says that the next does not fit, ``saturated`` that no more should come.
    """

    end: int
    items: int
    oldest: int
    preferred_end: int
    preferred_items: int
    saturated: bool
    is_full: bool


@_step
def _scan(requests: Requests, rules: Rules, first: int, last: int, held: int) -> _Scan:
    """The requests [first, last) in order, beside ``held`` items."""
    items, oldest, preferred_end, preferred_items = 0, -1, first, 0
    saturated, is_full = False, False
    request = first
    while request < last:
        if requests.gone[request]:
            request += 1
            continue
        total = held + items + requests.items[request]
        if held > 0 or oldest >= 0:
            if total > rules.preferred[-1] and preferred_items == 0:
                preferred_end, preferred_items, saturated = request, items, True
            if total > rules.max_batch:
                is_full = True
                break
        if oldest < 0:
            oldest = request
        items += requests.items[request]
        request += 1
        if total in rules.preferred:
            preferred_end, preferred_items = request, items
    return _Scan(request, items, oldest, preferred_end, preferred_items, saturated, is_full)


@_step
def _next_preferred(preferred: Ints, items: int) -> Any:
    """The smallest preferred size above; the smallest of all where there is none."""
    for position in range(len(preferred)):
        if preferred[position] > items:
            return preferred[position]
    return preferred[0]


@njit(cache=True, nogil=True)
def run_network(
    joint: Joint, states: Any, places: Any, limit: int, outstanding: int, gap: float, seed: int
) -> None:
    """Play the requests of a network that is new; ``states`` and ``places`` hold the QueueState and
    the Place of each node. At most ``limit`` executions run at once (0: any number). In a closed
    loop so many requests are ``outstanding`` (0: an open loop), and each is followed by the next
    one after ``gap`` seconds.
    """
    np.random.seed(seed)
    _play_network(joint, states, places, limit, outstanding, gap)


@_step
def _play_network(
    joint: Joint, states: Any, places: Any, limit: int, outstanding: int, gap: float
) -> None:
    """The event loop. At the same moment phases of instances end first, then replies arrive, then
    requests, then timers run out; of each, those of the first node come first.

    Every step stands here once, since numba copies it to wherever it is called.
    """
    whole, entries, agenda = joint.whole, joint.entries, joint.agenda
    slots = limit if limit > 0 else len(joint.served)  # executions that may begin
    now, arrived, answered, first, last = 0.0, 0, 0, 0, 0
    issued = outstanding if outstanding > 0 else len(whole.arrival)
    while answered < len(whole.arrival):
        while issued < min(answered + outstanding, len(whole.arrival)):
            whole.arrival[issued] = now + gap
            issued += 1
        request, visit, woken, kind = -1, -1, False, _TURN
        if first < last:
            request, visit = agenda.whole[first], agenda.visit[first]
            first += 1
            if request >= 0 and whole.failed[request]:
                continue
            node = joint.routes.node[visit] if request >= 0 else visit // 2
            woken = request < 0 and visit % 2 == 1
        else:
            arrival = whole.arrival[arrived] if arrived < len(whole.arrival) else np.inf
            kind, node, now = _next_event(states, places, arrival)
            first, last = 0, 0
            if kind == _ARRIVAL:
                last = _arrive(joint, arrived)
                arrived += 1
                continue
            if kind == _REPLY:
                last = _hear(joint, places[node], now)
                answered += last < 0
                last = max(last, 0)
                continue
        place, state = places[node], states[node]
        system = _part(joint.all, place)
        waiting, known, gives_way = state.waiting, state.answered, False
        if request >= 0:
            entry = place.first_entry + state.arrived
            entries.whole[entry], entries.visit[entry] = request, visit
            joint.all.requests.entered[entry] = now
            joint.all.requests.items[entry] = whole.items[request]
            woken = _enqueue(system, state, now)
        elif kind == _TIMER:
            state.timer, woken = np.inf, True
        elif kind == _PHASE:
            instance = place.next_instance
            phase = system.instances.phase[instance]
            woken = _advance(system, state, now, instance)
            known = state.answered
            if phase == _EXCLUSIVE:
                _send(joint, system, place, instance)
            elif phase == _RELEASING:
                joint.served[place.first_instance + instance] += 1
                slots += 1
                if limit > 0 and slots == 1:
                    winner = _first_in_line(joint, states, places)
                    gives_way = winner >= 0 and winner != node
                    if gives_way:
                        last = _note(agenda, 0, -1, 2 * winner)
                        last = _note(agenda, last, -1, 2 * node + woken)
        if not gives_way:
            served = joint.served[place.first_instance :][: place.instances]
            slots -= _take_turn(system, state, now, woken, served, slots, limit > 0)
        place.next_instance = _next_instance(system.instances.until)
        place.until = system.instances.until[place.next_instance]
        if state.answered > known:
            answered += _fail(joint, system, place, now, waiting, state.arrived)


@_step
def _next_event(states: Any, places: Any, arrival: float) -> tuple[int, int, float]:
    """What happens next, at which node, and when."""
    kind, at, now = _PHASE, 0, np.inf
    for node in range(len(places)):
        if places[node].until < now:
            at, now = node, places[node].until
    for node in range(len(places)):
        if places[node].reply_at < now:
            kind, at, now = _REPLY, node, places[node].reply_at
    if arrival < now:
        kind, now = _ARRIVAL, arrival
    for node in range(len(places)):
        if states[node].timer < now:
            kind, at, now = _TIMER, node, states[node].timer
    return kind, at, now


@_step
def _part(all: System, place: Place) -> System:
    """The node of this place, in views of the arrays of all."""
    n, m = place.first_entry, place.first_entry + place.entries
    i, j = place.first_instance, place.first_instance + place.instances
    preferred = all.rules.preferred[place.first_size : place.first_size + place.sizes]
    alone = all.durations.alone[place.first_known : place.first_known + place.known]
    noise = all.durations.noise[place.first_noise : place.first_noise + place.noises]
    requests, payloads, instances = all.requests, all.payloads, all.instances
    return System(
        Rules(
            place.batching,
            place.max_batch,
            preferred,
            place.delay,
            place.instances,
            place.devices,
            place.queue_size,
            place.timeout,
            place.rate_limited,
        ),
        Durations(alone, place.exclusive, noise, place.release, place.reply),
        Requests(
            requests.entered[n:m],
            requests.items[n:m],
            requests.gone[n:m],
            requests.started[n:m],
            requests.done[n:m],
            requests.ok[n:m],
            requests.execution[n:m],
        ),
        Payloads(payloads.first[n:m], payloads.end[n:m], payloads.items[n:m]),
        Instances(
            instances.phase[i:j],
            instances.until[i:j],
            instances.first[i:j],
            instances.end[i:j],
            instances.exclusive[i:j],
            instances.idle_since[i:j],
        ),
        all.device_free[place.first_device : place.first_device + place.devices],
        Executions(all.executions.items[n:m], all.executions.ends[n:m]),
    )


@_step
def _arrive(joint: Joint, request: int) -> int:
    """A request comes in, and its first visits begin; how many."""
    routes, whole = joint.routes, joint.whole
    kind, last = whole.kind[request], 0
    for visit in range(routes.first[kind], routes.first[kind + 1]):
        if routes.awaited[visit] == 0:
            last = _note(joint.agenda, last, request, visit)
    return last


@_step
def _note(agenda: Agenda, last: int, request: int, visit: int) -> int:
    agenda.whole[last], agenda.visit[last] = request, visit
    return last + 1


@_step
def _send(joint: Joint, system: System, place: Place, instance: int) -> None:
    """The replies of an execution go on their way, one behind the other."""
    replies = joint.entries.replies
    for entry in range(system.instances.first[instance], system.instances.end[instance]):
        if not system.requests.gone[entry]:
            replies[place.first_entry + place.replied] = entry
            place.replied += 1
    place.reply_at = (
        system.requests.done[replies[place.first_entry + place.told]]
        if (place.told < place.replied)
        else np.inf
    )


@_step
def _hear(joint: Joint, place: Place, now: float) -> int:
    """A reply arrives, so that a visit is done and others may begin: how many, or -1 if it was the
    last one and the whole request is answered.
    """
    entries, routes, whole, n = joint.entries, joint.routes, joint.whole, place.first_entry
    entry = n + entries.replies[n + place.told]
    request, visit = entries.whole[entry], entries.visit[entry]
    place.told += 1
    place.reply_at = np.inf
    if place.told < place.replied:
        place.reply_at = joint.all.requests.done[n + entries.replies[n + place.told]]
    if whole.failed[request]:
        return 0
    whole.left[request] -= 1
    if whole.left[request] == 0:
        whole.done[request] = now
        return -1
    last = 0
    offset = whole.first[request] - routes.first[whole.kind[request]]
    for position in range(routes.next[visit], routes.next[visit + 1]):
        follower = routes.followers[position]
        whole.awaited[offset + follower] -= 1
        if whole.awaited[offset + follower] == 0:
            last = _note(joint.agenda, last, request, follower)
    return last


@_step
def _fail(joint: Joint, system: System, place: Place, now: float, begin: int, end: int) -> int:
    """Requests of [begin, end) were refused: those fail as a whole; how many did not before."""
    count = 0
    for entry in range(begin, end):
        request = joint.entries.whole[place.first_entry + entry]
        if system.requests.gone[entry] and not joint.whole.failed[request]:
            joint.whole.failed[request], joint.whole.done[request] = True, now
            count += 1
    return count


@_step
def _take_turn(
    system: System,
    state: QueueState,
    now: float,
    woken: bool,
    served: Ints,
    slots: int,
    is_limited: bool,
) -> int:
    """``_dispatch``, but no more than ``slots`` executions begin; how many did."""
    begun = 0
    while True:
        while state.head < state.tail and begun < slots:
            if is_limited:
                instance = _least_served(system.instances.phase, served)
            else:
                instance = _longest_idle(system.instances)
            if instance < 0:
                break
            _execute(system, state, now, instance)
            begun += 1
            woken = system.rules.batching
        if not woken:
            return begun
        woken = _form_payload(system, state, now)


@_step
def _least_served(phase: Ints, served: Ints) -> int:
    """The idle instance that Triton's rate limiter takes first, -1 where all are busy."""
    least = -1
    for instance in range(len(phase)):
        if phase[instance] == _IDLE and (least < 0 or served[instance] < served[least]):
            least = instance
    return least


@_step
def _first_in_line(joint: Joint, states: Any, places: Any) -> int:
    """The node with a payload and an idle instance that Triton's rate limiter lets go first, as the
    instance has the fewest executions behind it; -1: none has both.
    """
    winner, fewest = -1, 0
    for node in range(len(places)):
        first = places[node].first_instance
        phase = joint.all.instances.phase[first : first + places[node].instances]
        served = joint.served[first : first + places[node].instances]
        instance = _least_served(phase, served)
        waits = instance >= 0 and states[node].head < states[node].tail
        if waits and (winner < 0 or served[instance] < fewest):
            winner, fewest = node, served[instance]
    return winner
