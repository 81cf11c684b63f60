"""Bodies of requests, bounded in size and in the time they take to arrive."""

import asyncio
import time
from collections.abc import Collection

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.serving.identity import COMPUTING, header, turn_away


class BodyTooLarge(Exception):
    """More bytes than a body may have, announced or sent."""


class BodyLimit:
    """Reads the whole body of a POST to ``paths`` before the application sees the request: status
    413 above ``most`` bytes, and 408 if it is not complete within ``timeout`` seconds of the
    request's arrival, however it is spread over them.
    """

    def __init__(
        self, app: ASGIApp, most: int, timeout: float, paths: Collection[str] = COMPUTING
    ) -> None:
        self._app = app
        self._most = most
        self._timeout = timeout
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        left = self._timeout - (time.perf_counter() - scope["state"]["began"])
        try:
            self._check_announced(scope)
            async with asyncio.timeout(left):
                body = await self._read(receive)
        except BodyTooLarge:
            message = f"the body is larger than {self._most} bytes"
            await turn_away(scope, receive, send, 413, "too_large", message)
        except TimeoutError:
            message = f"the body was not complete within {self._timeout:g} s"
            await turn_away(scope, receive, send, 408, "body_timeout", message)
        else:
            await self._app(scope, again(body, receive), send)

    def _check_announced(self, scope: Scope) -> None:
        announced = header(scope, b"content-length") or b""
        if announced.isdigit() and int(announced) > self._most:
            raise BodyTooLarge

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        left = self._most
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part: bytes = message.get("body", b"")
            left -= len(part)
            if left < 0:
                raise BodyTooLarge
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """The body in one message, and then what else there is to receive."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def from_memory() -> Message:
        return messages.pop() if messages else await receive()

    return from_memory
