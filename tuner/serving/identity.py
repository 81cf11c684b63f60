"""The outermost layer of a service: every request gets an id, is counted, and has an answer."""

import logging
import re
import time
import uuid
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.serving.metrics import Metrics

COMPUTING = ("/predict", "/batch_predict")
"""The paths behind which the model works."""
WATCHING = ("/healthz", "/livez", "/metrics", "/status")
"""The paths that machines ask every few seconds."""
GONE = 499
"""The status that is counted, and never sent, if the client left before its answer."""

_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CLOSE = (b"connection", b"close")
_logger = logging.getLogger("tuner.services")


def error_response(
    status: int,
    type: str,
    message: str,
    request_id: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The one form in which a service says that something is wrong."""
    body = {"error": {"type": type, "message": message}, "request_id": request_id}
    return JSONResponse(body, status, headers=headers)


async def turn_away(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    type: str,
    message: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer a request in place of the application."""
    response = error_response(status, type, message, scope["state"]["request_id"], headers)
    await response(scope, receive, send)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this name (lower case)."""
    return next((value for key, value in scope["headers"] if key == name), None)


class AnswerCut(Exception):
    """An answer that had begun cannot be completed. The cause has been logged."""


def is_news(record: logging.LogRecord) -> bool:
    """Filter for uvicorn's log: False for an exception that has been logged already."""
    return not (record.exc_info and isinstance(record.exc_info[1], AnswerCut))


class Envelope:
    """Puts ``began`` (seconds of ``time.perf_counter``) and ``request_id`` into the scope's state,
    and counts the answer. An exception that nobody caught becomes status 500.

    ``known`` are the paths that count by name also if they were turned away before a route was
    found.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, known: Collection[str] = (*COMPUTING, *WATCHING)
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._known = frozenset(known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["began"] = began = time.perf_counter()
        state["request_id"] = request_id = _request_id(scope)
        exchange = _Exchange(scope, receive, send, request_id)
        self._metrics.in_flight.inc()
        try:
            await self._answer(scope, exchange, request_id)
        finally:
            self._metrics.in_flight.dec()
            took = time.perf_counter() - began
            self._metrics.answered(self._route(scope), exchange.status, took)

    async def _answer(self, scope: Scope, exchange: "_Exchange", request_id: str) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = GONE
        except Exception:
            _logger.exception("request %s to %s failed", request_id, scope["path"])
            if exchange.started:
                exchange.status = 500
                # The server cuts the connection, so that half an answer is not taken for one.
                raise AnswerCut from None
            message = "internal error; the service's log has the cause under this request_id"
            response = error_response(500, "internal", message, request_id)
            await response(scope, exchange.receive, exchange.send)

    def _route(self, scope: MutableMapping[str, Any]) -> str:
        template = getattr(scope.get("route"), "path", None)
        if template is not None:
            return str(template)
        path = scope["path"]
        return path if path in self._known else "other"


class _Exchange:
    """What passes between server and application for one request; ``status`` is what to count.

    An answer that is sent before the whole body has come ends the connection: nothing more of the
    body is read.
    """

    __slots__ = ("_header", "_may_look", "_read", "_receive", "_send", "started", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self._receive = receive
        self._send = send
        self._header = (b"x-request-id", request_id.encode("ascii"))
        # Who expects to be asked for the body is asked by the first ``receive``.
        self._may_look = header(scope, b"expect") is None
        self._read = False
        self.started = False
        self.status = GONE

    async def receive(self) -> Message:
        self._may_look = True
        message = await self._receive()
        self._note(message)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if not (self._may_look and self._is_gone()):
                self.status = message["status"]
            own = [self._header] if self._read else [self._header, _CLOSE]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)

    def _is_gone(self) -> bool:
        """Whether the client has left by now: servers drop what is sent to it then without a word.

        Also takes what has arrived of the body, which nobody reads once the answer begins.
        """
        while not self._read:
            message = self._arrived()
            if message is None or message["type"] == "http.disconnect":
                return message is not None
            self._note(message)
        message = self._arrived()
        return message is not None and message["type"] == "http.disconnect"

    def _note(self, message: Message) -> None:
        if message["type"] == "http.request":
            self._read = not message.get("more_body", False)

    def _arrived(self) -> Message | None:
        """What ``receive`` returns at once; None if it would wait."""
        waiting: Any = self._receive()
        try:
            waiting.send(None)
        except StopIteration as returned:
            message: Message = returned.value
            return message
        finally:
            waiting.close()
        return None


def _request_id(scope: Scope) -> str:
    """The caller's own if it is well-formed, else a new one."""
    own = header(scope, b"x-request-id")
    if own is not None and _ID.fullmatch(own):
        return own.decode("ascii")
    return uuid.uuid4().hex
