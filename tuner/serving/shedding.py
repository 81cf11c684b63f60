"""Load shedding: requests that would only wait are rejected at once."""

import math
from collections.abc import Collection

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tuner.serving.identity import COMPUTING, turn_away
from tuner.serving.metrics import Metrics


class Places:
    """``most`` requests may be inside at a time; ``taken`` are."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0


def shedding(places: Places, metrics: Metrics) -> tuple[Middleware, Middleware]:
    """The layer before a body is read, and the one behind it."""
    early = Middleware(LoadShedding, places=places, metrics=metrics, takes_place=False)
    return early, Middleware(LoadShedding, places=places, metrics=metrics)


class LoadShedding:
    """Answers requests to ``paths`` with status 503 while all ``places`` are taken; the others hold
    one until they are answered, if ``takes_place``.

    A layer before the body is read turns away early and takes none, so that bodies on their way
    hold nothing; a second one behind it takes them. Nothing queues here: the engine behind it has a
    queue, and a second one only adds waiting. ``retry_after`` is in seconds. Each worker counts for
    itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        places: Places,
        metrics: Metrics,
        takes_place: bool = True,
        retry_after: float = 1.0,
        paths: Collection[str] = COMPUTING,
    ) -> None:
        self._app = app
        self._places = places
        self._metrics = metrics
        self._takes_place = takes_place
        self._headers = {"Retry-After": str(max(1, math.ceil(retry_after)))}
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        places = self._places
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
        elif places.taken >= places.most:
            self._metrics.rejected("load")
            message = f"{places.most} requests are in flight, which is the limit; try again later"
            await turn_away(scope, receive, send, 503, "overloaded", message, self._headers)
        elif self._takes_place:
            places.taken += 1
            try:
                await self._app(scope, receive, send)
            finally:
                places.taken -= 1
        else:
            await self._app(scope, receive, send)
