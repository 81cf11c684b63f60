"""Rates per client: how many requests a key, or an address, may send.

A window slides over two counters (the library limits), so that a client costs the same memory at
any rate. Counters lie in this process, where each worker allows the whole rate, or on a Redis or
Memcached that workers and machines share.
"""

import asyncio
import logging
import math
import time
from collections.abc import Collection
from typing import Any

import limits
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from starlette.types import ASGIApp, Receive, Scope, Send

from tuner.errors import InfrastructureError, UsageError
from tuner.serving.identity import WATCHING, error_response
from tuner.serving.metrics import Metrics

Rates = tuple[limits.RateLimitItem, ...]

_PATIENCE = 1.0
_STEP = 0.1
_PAUSE = 1.0
_FEW = 1024
_NOBODY = "unknown"
_logger = logging.getLogger("tuner.services")


def parse_rates(text: str) -> Rates:
    """From ``100/second`` or ``100/second;5000/minute``; the shortest window comes first, so that
    what one second refuses is not charged to the minute.
    """
    try:
        rates = limits.parse_many(text)
    except ValueError as error:
        raise UsageError(f"rates {text!r} do not parse; write 100/second;5000/minute") from error
    if any(rate.amount < 1 for rate in rates):
        raise UsageError(f"rates {text!r}: each must allow at least one request")
    return tuple(sorted(rates, key=lambda rate: rate.get_expiry()))


def open_storage(url: str) -> Storage:
    """Where counters lie: ``memory://``, ``redis://HOST:PORT``, ``memcached://HOST:PORT`` or
    another that the library limits knows. Nothing is connected yet.
    """
    if url == "memory://":
        return Counters()
    try:
        options = _redis() if url.startswith("redis") else {}
        storage = storage_from_string(f"async+{url}", wrap_exceptions=True, **options)
        SlidingWindowCounterRateLimiter(storage)
    except ImportError as error:
        raise InfrastructureError(
            f"limits on a Redis need its package ({error}); run: pip install redis"
        ) from error
    except (ConfigurationError, NotImplementedError, ValueError) as error:
        shown = url.rpartition("@")[2]  # without a password
        raise UsageError(
            f"no storage of limits at {shown!r}: {str(error).replace(url, shown)}; "
            "write memory://, redis://HOST:PORT or memcached://HOST:PORT"
        ) from error
    assert isinstance(storage, Storage)
    return storage


def _redis() -> dict[str, Any]:
    """Its client would otherwise try again for seconds while requests wait."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    times = {"socket_timeout": _STEP, "socket_connect_timeout": _STEP}
    return {"implementation": "redispy", "retry": Retry(NoBackoff(), 1), **times}


async def close_storage(storage: Storage) -> None:
    """Close the connections to a Redis; the library limits has no word for it."""
    bridge = getattr(storage, "bridge", None)
    if bridge is not None:
        await bridge.get_connection().aclose()


class Counters(MemoryStorage):
    """Windows in this process's memory.

    The library's own storage walks over all clients at every request, which thousands of addresses
    make slow; this one does it whenever their number has doubled.
    """

    STORAGE_SCHEME = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[int, int, int, int]] = {}
        self._sweep_at = _FEW

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        window, share = _window(expiry)
        before, current = self._counts(key, window)
        if math.floor(before * share + current) + amount > limit:
            return False
        self._windows[key] = (window, before, current + amount, expiry)
        if len(self._windows) > self._sweep_at:
            self._sweep()
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Count and remaining life (seconds) of the window before, and of the current one."""
        window, share = _window(expiry)
        before, current = self._counts(key, window)
        return before, share * expiry, current, (1 + share) * expiry

    def _counts(self, key: str, window: int) -> tuple[int, int]:
        last, before, current, _ = self._windows.get(key, (window, 0, 0, 0))
        if last == window:
            return before, current
        return (current, 0) if last == window - 1 else (0, 0)

    def _sweep(self) -> None:
        now = time.monotonic()
        self._windows = {
            key: entry for key, entry in self._windows.items() if (entry[0] + 2) * entry[3] > now
        }
        self._sweep_at = max(_FEW, 2 * len(self._windows))


def _window(expiry: int) -> tuple[int, float]:
    """Number of the current window, and how much of the one before still counts."""
    whole, part = divmod(time.monotonic(), expiry)
    return int(whole), 1 - part / expiry


class Limit:
    """Answers status 429 to a client that is beyond one of its ``rates``, except at the ``exempt``
    paths. A client is its key's name, or its address where there are no keys.

    A storage that fails lets all requests through, and is left alone for a second. It is closed at
    the end of the application's lifespan.
    """

    def __init__(
        self,
        app: ASGIApp,
        rates: Rates,
        storage: Storage,
        metrics: Metrics,
        exempt: Collection[str] = WATCHING,
    ) -> None:
        self._app = app
        self._rates = rates
        self._storage = storage
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._metrics = metrics
        self._exempt = frozenset(exempt)
        self._patience = None if isinstance(storage, MemoryStorage) else _PATIENCE
        self._again = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(scope, receive, send)
            return
        if scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        found = await self._exceeded(_client(scope))
        if found is None:
            await self._app(scope, receive, send)
            return
        self._metrics.rejected("rate")
        rate, wait = found
        window = rate.get_expiry()
        name = f'"{rate.amount}/{window}s"'
        headers = {
            "Retry-After": str(wait),
            "RateLimit-Policy": f"{name};q={rate.amount};w={window}",
            "RateLimit": f"{name};r=0;t={wait}",
        }
        said = f"more than {rate.amount} requests in {window} s; try again in {wait} s"
        request_id = scope["state"]["request_id"]
        response = error_response(429, "rate_limited", said, request_id, headers)
        await response(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "lifespan":
                await close_storage(self._storage)

    async def _exceeded(self, client: str) -> tuple[limits.RateLimitItem, int] | None:
        """The rate that this request breaks, and the whole seconds after which to come again."""
        if self._again and time.monotonic() < self._again:
            self._metrics.storage_failed()
            return None
        try:
            async with asyncio.timeout(self._patience):
                for rate in self._rates:
                    if not await self._limiter.hit(rate, client):
                        return rate, await self._wait(client)
        except (StorageError, OSError) as error:
            self._metrics.storage_failed()
            self._pause(getattr(error, "storage_error", error))
        return None

    def _pause(self, cause: Exception) -> None:
        """Requests that were asking already fail beside it, and say no more."""
        now = time.monotonic()
        if now >= self._again:
            self._again = now + _PAUSE
            _logger.warning("the storage of limits fails, requests pass unlimited: %r", cause)

    async def _wait(self, client: str) -> int:
        """Whole seconds until none of the rates is used up."""
        longest = 0.0
        for rate in self._rates:
            stats = await self._limiter.get_window_stats(rate, client)
            if stats.remaining < 1:
                longest = max(longest, stats.reset_time - time.time())
        return max(1, math.ceil(longest))


def _client(scope: Scope) -> str:
    name = scope["state"].get("client")
    if name is not None:
        return str(name)
    address = scope.get("client")
    return str(address[0]) if address else _NOBODY
