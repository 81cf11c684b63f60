"""Bodies of requests, bounded in size and in the time they take to arrive."""

import asyncio

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.serving.identity import header


class BodyLimit:
    """Status 413 above ``most`` bytes, announced or sent; 408 where the body takes longer than
    ``timeout`` seconds: a client that dawdles must not hold its place for ever.
    """

    def __init__(self, app: ASGIApp, most: int, timeout: float) -> None:
        self._app = app
        self._most = most
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = header(scope, b"content-length") or b""
        too_large = announced.isdigit() and int(announced) > self._most
        body = _BoundedBody(receive, self._most, self._timeout, too_large)
        await self._app(scope, body.receive, send)


class _BoundedBody:
    """The body of one request; it is refused before anything is read if ``too_large``."""

    def __init__(self, receive: Receive, most: int, timeout: float, too_large: bool) -> None:
        self._receive = receive
        self._left = -1 if too_large else most
        self._timeout = timeout
        self._complete = False

    async def receive(self) -> Message:
        """What comes after the body may take as long as it likes: it tells that the client left."""
        if self._complete:
            return await self._receive()
        if self._left < 0:
            raise HTTPException(413)
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408) from error
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413)
        self._complete = not message.get("more_body", False)
        return message
