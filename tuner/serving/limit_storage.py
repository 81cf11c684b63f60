"""Where the counters of rate limits lie: in this process, or on a Redis or Memcached.

In the process each worker allows the whole rate; workers and machines share the others.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from tuner.errors import InfrastructureError, UsageError
from tuner.serving.constants import RATE_LIMITS


def open_storage(url: str) -> Storage:
    """Where counters lie: ``memory://``, ``redis://HOST:PORT``, ``memcached://HOST:PORT`` or
    another that the library limits knows. Nothing is connected yet.
    """
    if url == "memory://":
        return WindowCounters()
    try:
        options = _redis() if url.startswith("redis") else {}
        storage = storage_from_string(f"async+{url}", wrap_exceptions=True, **options)
        SlidingWindowCounterRateLimiter(storage)
    except ImportError as error:
        raise InfrastructureError(
            f"rate limits in Redis need its package ({error}); run: pip install redis"
        ) from error
    except (ConfigurationError, NotImplementedError, ValueError) as error:
        shown = url.rpartition("@")[2]  # without a password
        raise UsageError(
            f"no rate limit storage at {shown!r}: {str(error).replace(url, shown)}; "
            "write memory://, redis://HOST:PORT or memcached://HOST:PORT"
        ) from error
    assert isinstance(storage, Storage)
    return storage


def _redis() -> dict[str, Any]:
    """Its client would otherwise try again for seconds while requests wait."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    seconds = RATE_LIMITS.step_timeout
    times = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    return {"implementation": "redispy", "retry": Retry(NoBackoff(), 1), **times}


async def close_storage(storage: Storage) -> None:
    """Close the connections to a Redis; the library limits has no method for it."""
    bridge = getattr(storage, "bridge", None)
    if bridge is not None:
        await bridge.get_connection().aclose()


class WindowCounters(MemoryStorage):
    """Windows in this process's memory.

    The library's own storage walks over all clients at every request, which thousands of addresses
    make slow; this one does it whenever their number has doubled. ``clock`` is in seconds.
    """

    STORAGE_SCHEME = None  # type: ignore[assignment]

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[str, tuple[int, int, int, int]] = {}
        self._sweep_at = RATE_LIMITS.sweep_from

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        window, share = self._window(expiry)
        before, current = self._counts(key, window)
        if math.floor(before * share + current) + amount > limit:
            return False
        self._windows[key] = (window, before, current + amount, expiry)
        if len(self._windows) > self._sweep_at:
            self._sweep()
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Count and remaining life (seconds) of the window before, and of the current one."""
        window, share = self._window(expiry)
        before, current = self._counts(key, window)
        return before, share * expiry, current, (1 + share) * expiry

    def _counts(self, key: str, window: int) -> tuple[int, int]:
        last, before, current, _ = self._windows.get(key, (window, 0, 0, 0))
        if last == window:
            return before, current
        return (current, 0) if last == window - 1 else (0, 0)

    def _sweep(self) -> None:
        now = self._clock()
        self._windows = {
            key: entry for key, entry in self._windows.items() if (entry[0] + 2) * entry[3] > now
        }
        self._sweep_at = max(RATE_LIMITS.sweep_from, 2 * len(self._windows))

    def _window(self, expiry: int) -> tuple[int, float]:
        """Number of the current window, and how much of the one before still counts."""
        whole, part = divmod(self._clock(), expiry)
        return int(whole), 1 - part / expiry
