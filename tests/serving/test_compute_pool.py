"""Turns at a model: threads, a bounded queue before them, and deadlines."""

import asyncio
import threading
import time

import pytest

from tuner.serving.compute_pool import ComputePool
from tuner.serving.engine import DeadlineExceeded, EngineUnavailable


def test_no_more_compute_at_a_time_than_there_are_threads() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    async def all_at_once() -> list[tuple[None, float, float]]:
        pool = ComputePool(2, 100)
        try:
            return await asyncio.gather(*(pool.run(work, None) for _ in range(8)))
        finally:
            pool.close()

    found = asyncio.run(all_at_once())
    assert most == 2
    assert max(queue for _, queue, _ in found) >= 0.05  # the last ones waited for three turns
    assert all(took >= 0.02 for _, _, took in found)


def test_more_than_may_wait_is_turned_away_at_once() -> None:
    async def crowd() -> list[object]:
        pool = ComputePool(1, 2)
        blocked = threading.Event()
        tasks = [asyncio.create_task(pool.run(blocked.wait, None)) for _ in range(5)]
        await asyncio.sleep(0.05)
        blocked.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        again = await pool.run(lambda: 1, None)
        pool.close()
        return [*found, again[0]]

    *found, again = asyncio.run(crowd())
    refused = [each for each in found if isinstance(each, EngineUnavailable)]
    assert len(refused) == 2
    assert again == 1


def test_what_waits_beyond_its_deadline_is_never_computed() -> None:
    computed: list[int] = []

    async def late() -> None:
        pool = ComputePool(1, 10)
        over = threading.Event()
        first = asyncio.create_task(pool.run(over.wait, None))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded):
            await pool.run(lambda: computed.append(1), time.monotonic() + 0.05)
        over.set()
        await first
        await pool.run(lambda: computed.append(2), None)
        pool.close()

    asyncio.run(late())
    assert computed == [2]


def test_an_error_is_the_callers_own() -> None:
    def fails() -> None:
        raise ValueError("no")

    async def ask() -> None:
        pool = ComputePool(1, 1)
        try:
            with pytest.raises(ValueError, match="no"):
                await pool.run(fails, time.monotonic() + 1)
        finally:
            pool.close()

    asyncio.run(ask())
