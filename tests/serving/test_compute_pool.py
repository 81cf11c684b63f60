"""Turns at a model: threads, and deadlines."""

import asyncio
import threading
import time

import pytest

from tuner.serving.compute_pool import ComputePool
from tuner.serving.engine import DeadlineExceeded


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
        pool = ComputePool(2)
        try:
            return await asyncio.gather(*(pool.run(work, None) for _ in range(8)))
        finally:
            pool.close()

    found = asyncio.run(all_at_once())
    assert most == 2
    assert max(queue for _, queue, _ in found) >= 0.05  # the last ones waited for three turns
    assert all(took >= 0.02 for _, _, took in found)


def test_what_waits_beyond_its_deadline_is_never_computed() -> None:
    computed: list[int] = []

    async def late() -> None:
        pool = ComputePool(1)
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
        pool = ComputePool(1)
        try:
            with pytest.raises(ValueError, match="no"):
                await pool.run(fails, time.monotonic() + 1)
        finally:
            pool.close()

    asyncio.run(ask())
