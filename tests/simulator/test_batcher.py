"""The rules of Triton's batcher, each on a schedule whose executions one can work out by hand."""

import math

import numpy as np
import pytest

from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, Simulation, simulate

TEN_MS = ServiceTimes(np.full(65, 0.010))
OVERLAPPED = ServiceTimes(np.full(65, 0.010), exclusive=0.0)


def played(
    ms: list[float],
    scheduling: Scheduling,
    items: list[int] | None = None,
    service: ServiceTimes = TEN_MS,
) -> Simulation:
    """Requests sent at those milliseconds."""
    sizes = None if items is None else np.array(items)
    return simulate(np.array(ms, dtype=float) / 1e3, scheduling, service, sizes)


def executions(simulation: Simulation) -> list[tuple[float, int]]:
    """The start in milliseconds and the items of each."""
    first = [int(np.argmax(simulation.execution == n)) for n in range(len(simulation.sizes))]
    starts = [round(float(simulation.started[n]) * 1e3, 2) for n in first]
    return list(zip(starts, simulation.sizes.tolist(), strict=True))


def evenly(count: int, gap: float) -> list[float]:
    return [n * gap for n in range(count)]


def test_without_dynamic_batching_an_execution_holds_one_request() -> None:
    found = played([0, 1, 2], Scheduling(False, 8, (8,)), [1, 4, 8])
    assert executions(found) == [(0, 1), (10, 4), (20, 8)]


def test_without_a_delay_what_waits_leaves_when_an_instance_is_free() -> None:
    found = played([0, 1, 2, 3, 14, 35], Scheduling(True, 8, (8,)))
    assert executions(found) == [(0, 1), (10, 3), (20, 1), (35, 1)]


def test_a_batch_that_waits_grows_up_to_the_largest() -> None:
    found = played(evenly(12, 0.5), Scheduling(True, 8, (8,)))
    assert executions(found) == [(0, 1), (10, 8), (20, 3)]


def test_idle_instances_take_requests_in_turn() -> None:
    found = played([0, 1, 2, 3, 11.5], Scheduling(True, 8, (8,), instances=3), service=OVERLAPPED)
    assert executions(found) == [(0, 1), (1, 1), (2, 1), (10, 1), (11.5, 1)]


def test_a_small_preferred_size_caps_batches() -> None:
    found = played(evenly(14, 0.5), Scheduling(True, 64, (4,)))
    assert executions(found) == [(0, 1), (10, 4), (20, 4), (30, 4), (40, 1)]


def test_the_smallest_preferred_size_closes_a_batch_though_there_is_a_larger_one() -> None:
    found = played(evenly(9, 0.5), Scheduling(True, 64, (4, 32)))
    assert executions(found) == [(0, 1), (10, 4), (20, 4)]


def test_no_more_than_two_batches_an_instance_are_formed_ahead() -> None:
    """With 4 and 1 queued the rest wait, until a place is free and 31 of them join the 1."""
    found = played([0, *evenly(40, 0.1)], Scheduling(True, 64, (4, 32)))
    assert executions(found) == [(0, 1), (10, 4), (20, 32), (30, 4)]


@pytest.mark.parametrize(
    ("preferred", "expected"),
    [((8,), [(5, 3), (35, 1)]), ((1, 8), [(0, 1), (1, 1), (2, 1), (30, 1)])],
    ids=["default", "ones preferred"],
)
def test_a_delay_is_waited_for_even_if_instances_are_idle(
    preferred: tuple[int, ...], expected: list[tuple[float, int]]
) -> None:
    waiting = Scheduling(True, 8, preferred, delay=0.005, instances=4)
    assert executions(played([0, 1, 2, 30], waiting, service=OVERLAPPED)) == expected


def test_a_preferred_size_leaves_before_the_delay_is_over() -> None:
    found = played([0, 1, 2, 3, 14, 15], Scheduling(True, 8, (4,), delay=0.05))
    assert executions(found) == [(3, 4), (64, 2)]


def test_the_largest_batch_leaves_before_the_delay_is_over() -> None:
    found = played(evenly(8, 0.5), Scheduling(True, 8, (8,), delay=0.05))
    assert executions(found) == [(3.5, 8)]


def test_once_the_delay_is_over_preferred_sizes_do_not_count() -> None:
    """At 10 ms the oldest is older than 5 ms, and 6 wait, where 4 are preferred."""
    preferred = Scheduling(True, 64, (4,), delay=0.005, queue_size=100)
    found = played([0, 0, 0, 0, 1, 2, 3, 4, 4.5, 4.8], preferred)
    assert executions(found) == [(0, 4), (10, 6)]


@pytest.mark.parametrize(
    ("delay", "expected"),
    [(0.0, [(0, 1), (10, 59)]), (0.001, [(1, 11), (11, 11), (21, 38)])],
    ids=["no delay", "1 ms"],
)
def test_a_batch_that_left_its_delay_behind_stops_growing(
    delay: float, expected: list[tuple[float, int]]
) -> None:
    """So a delay hurts: behind a busy instance nothing wakes the batcher until it is free."""
    found = played(evenly(60, 0.1), Scheduling(True, 64, (64,), delay=delay))
    assert executions(found) == expected


def test_a_preferred_size_wakes_the_batcher_that_froze() -> None:
    """By 2.1 ms 11 are queued; once 32 are behind them all join, and the last 6 are merged."""
    found = played(evenly(60, 0.1), Scheduling(True, 64, (32,), delay=0.001))
    assert executions(found) == [(1, 11), (11, 49)]


def test_a_queued_batch_of_a_preferred_size_grows_by_what_comes_next() -> None:
    found = played([0, 0.5, 1, 1.5, 2, 10], Scheduling(True, 8, (2,), delay=0.02))
    assert executions(found) == [(0.5, 2), (10.5, 3), (30, 1)]


@pytest.mark.parametrize(
    ("largest", "delay", "expected"),
    [
        (8, 0.001, [(0.5, 2), (10.5, 5)]),
        (4, 0.001, [(0.5, 2), (10.5, 3), (20.5, 2)]),
        (8, 0.009, [(0.5, 2), (10.5, 3), (20.5, 2)]),
    ],
    ids=["they fit and are old", "they do not fit", "the second is young"],
)
def test_an_instance_merges_queued_batches_that_are_older_than_the_delay(
    largest: int, delay: float, expected: list[tuple[float, int]]
) -> None:
    """Behind the first execution 3 are queued from 2 ms on, and 2 from 3 ms on."""
    found = played(evenly(7, 0.5), Scheduling(True, largest, (2,), delay=delay))
    assert executions(found) == expected


def test_a_queued_batch_that_did_not_fit_stops_growing() -> None:
    """The 2 that were left at 10.5 ms count as executing, so that those of 20 ms are another."""
    preferred = Scheduling(True, 4, (2,), delay=0.001)
    found = played([*evenly(7, 0.5), 20.2, 20.3], preferred)
    assert executions(found) == [(0.5, 2), (10.5, 3), (20.5, 2), (30.5, 2)]


def test_a_queued_batch_of_no_preferred_size_grows_without_a_delay() -> None:
    """6 are queued at 4 ms; at 9 ms 9 more wake the batcher for 8, and join though they are young.

    Were they to wait for their delay, they would miss the execution of 10 ms.
    """
    preferred = Scheduling(True, 32, (8, 32), delay=0.003)
    found = played([0, 1, 2, 8, 8.5, 9], preferred, [8, 3, 3, 3, 3, 3])
    assert executions(found) == [(0, 8), (10, 15)]


def test_a_client_batch_stays_whole_and_blocks_those_behind_it() -> None:
    found = played([0, 1, 2, 3, 4], Scheduling(True, 8, (8,)), [1, 5, 4, 1, 1])
    assert executions(found) == [(0, 1), (10, 5), (20, 6)]
    assert found.execution.tolist() == [0, 1, 2, 2, 2]


def test_client_batches_fill_a_preferred_size_as_well() -> None:
    found = played([0, 1, 2, 3], Scheduling(True, 8, (4,), delay=0.05), [1, 3, 2, 2])
    assert executions(found) == [(1, 4), (11, 4)]


@pytest.mark.parametrize("batching", [True, False], ids=["batching", "no batching"])
def test_a_client_batch_above_the_largest_is_refused_at_once(batching: bool) -> None:
    found = played([0, 1, 2], Scheduling(batching, 8, (8,)), [1, 9, 2])
    assert found.samples.ok.tolist() == [True, False, True]
    assert found.samples.done[1] == pytest.approx(0.001)
    assert math.isinf(found.samples.latency[1])
    assert executions(found) == [(0, 1), (10, 2)]


def test_a_full_queue_refuses() -> None:
    found = played([0, 1, 2, 3, 4, 5, 11, 12], Scheduling(True, 2, (2,), queue_size=3))
    assert found.samples.ok.tolist() == [True] * 4 + [False] * 2 + [True] * 2
    assert executions(found) == [(0, 1), (10, 2), (20, 2), (30, 1)]


def test_requests_that_waited_too_long_are_refused() -> None:
    found = played([0, 1, 2, 6, 7, 8], Scheduling(True, 2, (2,), timeout=0.005))
    assert found.samples.ok.tolist() == [True, False, False, True, True, False]
    assert executions(found) == [(0, 1), (10, 2)]


def test_refused_requests_take_no_place_in_a_batch() -> None:
    found = played([0, 1, 6, 7, 8], Scheduling(True, 3, (3,), timeout=0.005))
    assert executions(found) == [(0, 1), (10, 3)]
    assert found.execution.tolist() == [0, -1, 1, 1, 1]


def test_an_instance_is_not_free_while_it_releases_its_batch() -> None:
    releasing = ServiceTimes(np.full(9, 0.010), release=0.001)
    found = played([0, 1, 2, 3], Scheduling(True, 8, (8,)), service=releasing)
    assert executions(found) == [(0, 1), (11, 3)]
    assert found.ends * 1e3 == pytest.approx([10, 21])


def test_replies_leave_one_by_one_and_the_network_takes_its_time() -> None:
    service = ServiceTimes(np.full(9, 0.010), accept=0.0005, reply=0.001, network=0.004)
    found = played([0, 0, 0], Scheduling(True, 8, (3,), delay=0.1), service=service)
    assert executions(found) == [(3.5, 3)]
    assert found.samples.done * 1e3 == pytest.approx([16.5, 17.5, 18.5])


def test_the_exclusive_part_is_spent_one_instance_at_a_time() -> None:
    service = ServiceTimes(np.full(2, 0.010), exclusive=0.6)
    found = played([0, 0, 0], Scheduling(False, 1, (1,), instances=2), service=service)
    assert executions(found) == [(0, 1), (0, 1), (10, 1)]
    assert found.ends * 1e3 == pytest.approx([10, 16, 22])


def test_instances_of_two_devices_do_not_wait_for_each_other() -> None:
    two = Scheduling(False, 1, (1,), instances=2, devices=2)
    assert played([0, 0], two).ends * 1e3 == pytest.approx([10, 10])


def test_a_service_without_the_largest_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="the service time of a batch of 128"):
        played([0], Scheduling(True, 128, (128,)))
