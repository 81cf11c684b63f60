"""Rates per client: how many requests a key, or an address, may send.

A window slides over two counters (the library limits), so that a client costs the same memory at
any rate.
"""

import asyncio
import logging
import math
import time
from collections.abc import Collection

import limits
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from starlette.types import ASGIApp, Receive, Scope, Send

from tuner.errors import UsageError
from tuner.serving.constants import RATE_LIMITS
from tuner.serving.identity import WATCHING, turn_away
from tuner.serving.limit_storage import close_storage
from tuner.serving.metrics import Metrics

RateLimits = tuple[limits.RateLimitItem, ...]

_NOBODY = "unknown"
_logger = logging.getLogger("tuner.services")


def parse_rates(text: str) -> RateLimits:
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


class RateLimiting:
    """Answers status 429 to a client that is beyond one of its ``rates``, except at the ``exempt``
    paths. A client is its key's name, or its address if there are no keys.

    A storage that fails lets all requests through, and is left alone for a second. It is closed at
    the end of the application's lifespan.
    """

    def __init__(
        self,
        app: ASGIApp,
        rates: RateLimits,
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
        self._timeout = None if isinstance(storage, MemoryStorage) else RATE_LIMITS.timeout
        self._again = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(scope, receive, send)
            return
        if scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        exceeded = await self._exceeded(_client(scope))
        if exceeded is None:
            await self._app(scope, receive, send)
            return
        self._metrics.rejected("rate")
        rate, wait = exceeded
        window = rate.get_expiry()
        message = f"more than {rate.amount} requests in {window} s; try again in {wait} s"
        headers = _headers(rate, wait)
        await turn_away(scope, receive, send, 429, "rate_limited", message, headers)

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
            async with asyncio.timeout(self._timeout):
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
            self._again = now + RATE_LIMITS.pause
            _logger.warning("rate limit storage failed; requests pass unlimited: %r", cause)

    async def _wait(self, client: str) -> int:
        """Whole seconds until none of the rates is used up."""
        longest = 0.0
        for rate in self._rates:
            stats = await self._limiter.get_window_stats(rate, client)
            if stats.remaining < 1:
                longest = max(longest, stats.reset_time - time.time())
        return max(1, math.ceil(longest))


def _headers(rate: limits.RateLimitItem, wait: int) -> dict[str, str]:
    """As in the IETF's draft of RateLimit header fields, with ``wait`` in seconds."""
    window = rate.get_expiry()
    name = f'"{rate.amount}/{window}s"'
    return {
        "Retry-After": str(wait),
        "RateLimit-Policy": f"{name};q={rate.amount};w={window}",
        "RateLimit": f"{name};r=0;t={wait}",
    }


def _client(scope: Scope) -> str:
    name = scope["state"].get("client")
    if name is not None:
        return str(name)
    address = scope.get("client")
    return str(address[0]) if address else _NOBODY
