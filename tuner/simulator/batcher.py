"""Triton's dynamic batcher as a discrete-event simulation, compiled with numba.

It follows Triton core's source (``dynamic_batch_scheduler.cc``, ``rate_limiter.cc``,
``instance_queue.cc``): one batcher thread forms payloads out of the scheduler queue, a FIFO of
payloads waits for instances, and the payload that is being formed may go on growing in it. Requests
are in order, so a payload is a range of them.
"""

from typing import Any

import numpy as np
from numba import njit

from tuner.stats.samples import Bools, Floats

_IDLE, _OVERLAPPED, _EXCLUSIVE, _RELEASING = 0, 1, 2, 3
_UNQUEUED, _WAITING, _TAKEN = 0, 1, 2
_PATIENCE = 0.5  # seconds after which the batcher looks again, whatever happened
_TICK = 1e-6


@njit(cache=True, nogil=True)
def _choose(
    now: float,
    entered: Floats,
    items: Any,
    gone: Bools,
    first: int,
    last: int,
    held: int,
    max_batch: int,
    preferred: Any,
    delay: float,
) -> tuple[int, int, bool, int, float]:
    """``GetDynamicBatch``: which of the requests [first, last) join a payload of ``held`` items.

    The end of the range to add, its items, whether the payload is saturated, the next preferred
    size to wake for (-1: unchanged), and the seconds to wait (0: add now).
    """
    top = preferred[-1]
    marked, marked_items, is_marked = first, 0, False
    saturated, full = False, False
    at, pending, count, oldest = first, 0, 0, -1
    while at < last:
        if gone[at]:
            at += 1
            continue
        size = items[at]
        if held > 0 or count > 0:
            if held + pending + size > top and marked_items == 0:
                marked, marked_items, is_marked = at, pending, True
                saturated = True
            if held + pending + size > max_batch:
                full = True
                break
        if oldest < 0:
            oldest = at
        pending += size
        count += 1
        at += 1
        for each in preferred:
            if each == pending + held:
                marked, marked_items, is_marked = at, pending, True
    age = now - entered[oldest] if oldest >= 0 else 0.0
    exceeded = delay > 0 and age >= delay - 1e-12
    if is_marked and marked_items != 0 and not exceeded:
        return marked, marked_items, saturated or delay == 0, -1, 0.0
    if count == 0:
        return at, 0, saturated, -1, 0.0
    if full or held + pending >= top:
        return at, pending, True, -1, 0.0
    if exceeded or delay == 0:
        return at, pending, saturated, -1, 0.0
    following = preferred[0]
    for each in preferred:
        if each > pending + held:
            following = each
            break
    if not saturated and held != 0:
        ready = False
        for each in preferred:
            ready = ready or each == held
        if not ready:
            return at, pending, saturated, following - held, 0.0
    return first, 0, saturated, following - held, max(delay - age, _TICK)


@njit(cache=True, nogil=True)
def _has_slot(prefetch: bool, payloads: int, phase: Any) -> bool:
    """``PayloadSlotAvailable``, with so many payloads waiting for instances in these phases."""
    if prefetch:
        return bool(payloads < 2 * len(phase))
    idle = 0
    for each in phase:
        idle += each == _IDLE
    return bool(idle > payloads)


@njit(cache=True, nogil=True)
def run(
    entered: Floats,
    items: Any,
    batching: bool,
    max_batch: int,
    preferred: Any,
    delay: float,
    instances: int,
    devices: int,
    queue_size: int,
    timeout: float,
    seconds: Floats,
    exclusive: float,
    noise: Floats,
    release: float,
    reply: float,
    seed: int,
) -> tuple[Floats, Floats, Bools, Any, Any, Floats]:
    """Play requests that enter the scheduler at ``entered`` (ascending, seconds).

    ``items`` are their sizes, ``preferred`` ascending and not empty. ``seconds[b]`` is what an
    execution of b items takes alone, the share ``exclusive`` of it on a device of which there are
    ``devices``, first come, first served; ``noise`` are equally likely seconds on top of it.
    After an execution its instance is not free for ``release`` seconds per item; replies leave one
    after the other, ``reply`` seconds each. ``queue_size`` 0 and ``timeout`` 0 mean no limit.

    Of each request the start of its execution and its reply (NaN where refused), whether it was
    answered, and its execution; of each execution, its items and its end.
    """
    n = len(entered)
    np.random.seed(seed)
    started, done = np.full(n, np.nan), np.full(n, np.nan)
    ok, gone = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    execution = np.full(n, -1, np.int64)
    sizes, ends = np.zeros(n, np.int64), np.zeros(n)
    executions = 0
    # payloads: ranges of requests, numbered in the order of their queue
    begin, end = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    held = np.zeros(n + 1, np.int64)
    head, tail = 0, 0
    current, state, saturated = 0, _UNQUEUED, False
    following = 0
    phase, at = np.zeros(instances, np.int64), np.full(instances, np.inf)
    run_begin, run_end = np.zeros(instances, np.int64), np.zeros(instances, np.int64)
    rest, idle_since = np.zeros(instances), np.zeros(instances)
    free, wire = np.zeros(devices), 0.0
    prefetch = queue_size == 0 and timeout == 0
    waiting, arrived, queued, queued_items = 0, 0, 0, 0  # the scheduler queue: [waiting, arrived)
    timer = np.inf
    answered = 0
    while answered < n:
        instance = 0
        for each in range(1, instances):
            if at[each] < at[instance]:
                instance = each
        soonest = at[instance]
        notified = False
        if arrived < n and entered[arrived] < soonest and entered[arrived] <= timer:
            now = entered[arrived]
            each, arrived = arrived, arrived + 1
            if items[each] > max_batch or (queue_size > 0 and queued >= queue_size):
                gone[each], done[each] = True, now
                answered += 1
                continue
            if not batching:
                begin[tail], end[tail], held[tail] = each, each + 1, items[each]
                tail += 1
                waiting = arrived
            else:
                queued += 1
                queued_items += items[each]
                slot = _has_slot(prefetch, tail - head, phase)
                stale = state == _TAKEN
                notified = slot and (saturated or stale or queued_items >= following)
        elif timer < soonest:
            now, timer = timer, np.inf
            notified = True
        else:
            now = soonest
            if phase[instance] == _OVERLAPPED:
                device = instance % devices
                free[device] = max(now, free[device]) + rest[instance]
                phase[instance], at[instance] = _EXCLUSIVE, free[device]
                continue
            if phase[instance] == _EXCLUSIVE:
                for each in range(run_begin[instance], run_end[instance]):
                    if gone[each]:
                        continue
                    wire = max(wire, now) + reply
                    done[each], ok[each] = wire, True
                    answered += 1
                ends[execution[run_begin[instance]]] = now
                total = sizes[execution[run_begin[instance]]]
                phase[instance], at[instance] = _RELEASING, now + release * total
                continue
            phase[instance], at[instance] = _IDLE, np.inf
            idle_since[instance] = now
            notified = batching
        while True:
            # waiting payloads to idle instances
            while head < tail:
                instance = -1
                for each in range(instances):
                    if phase[each] == _IDLE and (
                        instance < 0 or idle_since[each] < idle_since[instance]
                    ):
                        instance = each
                if instance < 0:
                    break
                taken = head
                head += 1
                last, total = end[taken], held[taken]
                if current == taken and state == _WAITING:
                    state = _TAKEN
                while delay > 0 and max_batch > 1 and head < tail:
                    oldest = begin[head]
                    while gone[oldest]:
                        oldest += 1
                    if now - entered[oldest] <= delay:
                        break
                    if current == head and state == _WAITING:
                        state = _TAKEN  # marked as executing, also where it does not fit
                    if total + held[head] > max_batch:
                        break
                    last, total = end[head], total + held[head]
                    head += 1
                for each in range(begin[taken], last):
                    if not gone[each]:
                        started[each], execution[each] = now, executions
                run_begin[instance], run_end[instance] = begin[taken], last
                while gone[run_begin[instance]]:
                    run_begin[instance] += 1
                sizes[executions] = total
                executions += 1
                needed = max(seconds[total] + noise[np.random.randint(len(noise))], 0.0)
                rest[instance] = exclusive * needed
                phase[instance], at[instance] = _OVERLAPPED, now + (1 - exclusive) * needed
                notified = batching
            if not notified:
                break
            notified = False
            # one turn of the batcher's thread
            if saturated or state == _TAKEN:
                saturated, state, following = False, _UNQUEUED, 0
            if waiting == arrived:
                timer = now + _PATIENCE
                break
            slot = _has_slot(prefetch, tail - head, phase)
            if timeout > 0:
                for each in range(waiting, arrived):
                    if not gone[each] and now - entered[each] > timeout:
                        gone[each], done[each] = True, now
                        answered += 1
                        queued -= 1
                        queued_items -= items[each]
            while waiting < arrived and gone[waiting]:
                waiting += 1
            if waiting == arrived or not slot:
                timer = now + _PATIENCE
                if timeout > 0 and waiting < arrived:
                    timer = min(timer, entered[waiting] + timeout + _TICK)
                break
            holds = held[current] if state == _WAITING else 0
            stop, added, full, next_size, wait = _choose(
                now, entered, items, gone, waiting, arrived, holds, max_batch, preferred, delay
            )
            saturated = saturated or full
            if next_size >= 0:
                following = next_size
            if wait > 0:
                timer = now + wait
                if timeout > 0:
                    timer = min(timer, entered[waiting] + timeout + _TICK)
                break
            if added > 0:
                if state == _UNQUEUED:
                    current = tail
                    begin[tail], held[tail] = waiting, 0
                    state = _WAITING
                    tail += 1
                for each in range(waiting, stop):
                    queued -= not gone[each]
                queued_items -= added
                end[current] = stop
                held[current] += added
                waiting = stop
            notified = True
    return started, done, ok, execution, sizes[:executions], ends[:executions]
