"""A few threads that compute, and a deadline."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tuner.serving.engine import DeadlineExceeded

_T = TypeVar("_T")


class ComputePool:
    """At most ``threads`` computations at a time; any number waits for a thread.

    Used from one event loop. The queue is on the threads' side: one that is done takes the next at
    once, without a way through the event loop. Who asks keeps it short (``LoadShedding``).
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")

    async def run(self, work: Callable[[], _T], deadline: float | None) -> tuple[_T, float, float]:
        """The result, and the seconds that it waited for a thread and that it was computed.

        ``deadline`` is in seconds of ``time.monotonic``. What still waits then, or when the caller
        is cancelled, is never computed; the result of what is under way is lost. Raises
        DeadlineExceeded.
        """
        submitted = time.perf_counter()

        def timed() -> tuple[_T, float, float]:
            began = time.perf_counter()
            return work(), began - submitted, time.perf_counter() - began

        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, timed)
            if deadline is None:
                return await future
            async with asyncio.timeout(deadline - time.monotonic()):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded("the model did not finish before the deadline") from error

    def close(self) -> None:
        """Forget what waits; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
