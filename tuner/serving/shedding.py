"""Load shedding: requests that would only wait are rejected at once."""

import math
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from tuner.serving.identity import COMPUTING, turn_away
from tuner.serving.metrics import Metrics


class LoadShedding:
    """At most ``max_in_flight`` requests to ``paths`` are inside; more get status 503.

    Nothing queues here: the engine behind it has a queue, and a second one only adds waiting.
    ``retry_after`` is in seconds. Each worker counts for itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_in_flight: int,
        metrics: Metrics,
        retry_after: float = 1.0,
        paths: Collection[str] = COMPUTING,
    ) -> None:
        self._app = app
        self._most = max_in_flight
        self._metrics = metrics
        self._headers = {"Retry-After": str(max(1, math.ceil(retry_after)))}
        self._paths = frozenset(paths)
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
        elif self._inside < self._most:
            self._inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._inside -= 1
        else:
            self._metrics.rejected("load")
            message = f"{self._most} requests are in flight, which is the limit; try again later"
            await turn_away(scope, receive, send, 503, "overloaded", message, self._headers)
