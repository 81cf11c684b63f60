"""Unary gRPC calls over one HTTP/2 connection, for asyncio: a quarter of the CPU time of grpc.aio.

What it leaves out: proxies, balancing over several addresses, compression.
"""

import asyncio
from collections import deque
from typing import Any

from tuner.client.settings import KEEPALIVE
from tuner.http2 import grpc
from tuner.http2.connection import ClientConnection
from tuner.http2.events import Event, Goaway, ProtocolViolated, Response, StreamReset
from tuner.http2.frames import REFUSED_STREAM

UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE = 2, 4, 13, 14
_LONGEST_CODE = 3  # digits; of thousands, Python makes no number
_CODES_OF_HTTP = {
    **{b"400": 13, b"401": 16, b"403": 7, b"404": 12},
    **{b"429": 14, b"502": 14, b"503": 14, b"504": 14},
}
"""gRPC's codes for replies of something that speaks HTTP only (doc/http-grpc-status-mapping.md)."""


class CallFailed(Exception):
    """``code`` is gRPC's; ``message`` the server's words, or what is known of the connection."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class NotProcessed(CallFailed):
    """The server did not and will not look at this call; it may be made again elsewhere."""

    def __init__(self, message: str) -> None:
        super().__init__(UNAVAILABLE, message)


class CallConnection(asyncio.Protocol):
    """One connection, which carries as many calls at once as the server allows."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._http2 = ClientConnection()
        self._calls: dict[int, asyncio.Future[bytes]] = {}  # by stream
        self._waiting: deque[asyncio.Future[None]] = deque()  # for room
        self._transport: Any = None
        self._flush_scheduled = False
        self._last_received = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._awaiting_pong = False
        self._pings = 0
        self._data_at_ping = 0
        self._reason = ""

    @property
    def usable(self) -> bool:
        """Whether it takes calls, now or later."""
        return not self._http2.closing

    async def call(self, block: bytes, message: bytes, timeout: float | None) -> bytes:
        """The reply's message; CallFailed if there is none."""
        http2 = self._http2
        if not http2.has_room():
            if not http2.closing:
                timeout = await self._wait_for_room(timeout)
            if http2.closing:
                raise NotProcessed(self._reason or "the connection is closed")
        stream = http2.request(block, message, grpc.message_prefix(len(message)))
        reply: asyncio.Future[bytes] = self._loop.create_future()
        self._calls[stream] = reply
        timer = timeout and self._loop.call_later(timeout, _expire, reply)
        self._flush_soon()
        try:
            return await reply
        finally:
            if timer:
                timer.cancel()
            if stream in self._calls:  # the caller was cancelled, or waited long enough
                http2.cancel(stream)
                self._flush()
                self._forget(stream)

    async def _wait_for_room(self, timeout: float | None) -> float | None:
        """What is left of the timeout once the server takes another call."""
        began = self._loop.time()
        try:
            async with asyncio.timeout(timeout):
                while self.usable and not self._http2.has_room():
                    room = self._loop.create_future()
                    self._waiting.append(room)
                    await room
        except TimeoutError as error:
            raise CallFailed(DEADLINE_EXCEEDED, "") from error
        finally:
            self._make_room()  # also for the next in line, where this one was given it and left
        return timeout and max(1e-6, timeout - (self._loop.time() - began))

    def _flush_soon(self) -> None:
        """What several calls have to say at the same moment goes out at once."""
        if len(self._calls) == 1 and not self._flush_scheduled:
            self._flush()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        output = self._http2.take_output()
        if output and not self._transport.is_closing():
            self._transport.write(output)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._flush()
        self._timer = self._loop.call_later(KEEPALIVE.interval, self._check_alive)

    def _check_alive(self) -> None:
        """Ping a peer that has sent nothing for a while, though replies are outstanding."""
        if self._awaiting_pong:
            self._fail("the server stopped responding")
            return
        if self._http2.data_received != self._data_at_ping:
            self._pings = 0
        silent = self._loop.time() - self._last_received
        pause = KEEPALIVE.interval
        if self._calls and silent > pause / 2 and self._pings < KEEPALIVE.pings:
            self._awaiting_pong = True
            self._pings += 1
            self._data_at_ping = self._http2.data_received
            self._http2.ping()
            self._flush()
            pause = KEEPALIVE.answer_within
        self._timer = self._loop.call_later(pause, self._check_alive)

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        self._awaiting_pong = False
        for event in self._http2.receive(data):
            if type(event) is Response:
                self._settle(event.stream, _failure(event), event.body)
            else:
                self._handle(event)
        self._flush()

    def _handle(self, event: Event) -> None:
        """All but what usually comes."""
        match event:
            case StreamReset(stream, code):
                refused = code == REFUSED_STREAM
                reason = event.reason
                failure = NotProcessed(reason) if refused else CallFailed(UNAVAILABLE, reason)
                self._settle(stream, failure)
            case Goaway(unprocessed):
                self._reason = event.reason
                for stream in unprocessed:
                    self._settle(stream, NotProcessed(event.reason))
                self._close_if_done()
                self._make_room()
            case ProtocolViolated(reason):
                self._fail(reason)
            case _:
                self._make_room()

    def _settle(
        self, stream: int, failure: CallFailed | None, body: bytes | bytearray = b""
    ) -> None:
        """Give a call its failure or, where it has none, the message in its reply's body."""
        reply = self._calls.get(stream)
        if reply is None:
            return
        self._forget(stream)
        if reply.done():
            return
        if failure is None:
            reply.set_result(bytes(memoryview(body)[grpc.PREFIX_SIZE :]))
        else:
            reply.set_exception(failure)

    def _forget(self, stream: int) -> None:
        del self._calls[stream]
        if self._waiting:
            self._make_room()
        if self._http2.closing:
            self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._calls:
            self._transport.close()

    def _make_room(self) -> None:
        """Wake as many of those who wait as the server takes calls; all where it takes none."""
        http2 = self._http2
        free = http2.stream_limit - http2.outstanding if self.usable else len(self._waiting)
        while self._waiting and free > 0:
            room = self._waiting.popleft()
            if not room.done():
                room.set_result(None)
                free -= 1

    def _fail(self, reason: str) -> None:
        self._reason = reason
        self._http2.closing = True
        self._transport.abort()

    def close(self) -> None:
        """Drop it; what is outstanding fails."""
        self._fail("the client was closed")

    def eof_received(self) -> None:
        self._http2.closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._http2.closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._reason = self._reason or (str(exc) if exc else "the server closed the connection")
        calls, self._calls = self._calls, {}
        for reply in calls.values():
            if not reply.done():
                reply.set_exception(CallFailed(UNAVAILABLE, self._reason))
        self._make_room()


def _expire(reply: "asyncio.Future[bytes]") -> None:
    if not reply.done():
        reply.set_exception(CallFailed(DEADLINE_EXCEEDED, ""))


def _failure(response: Response) -> CallFailed | None:
    """What a reply's headers say is wrong; None if it is a message."""
    status, code = grpc.http_status(response), grpc.grpc_status(response)
    if code == grpc.OK and status == b"200":
        whole = grpc.is_one_message(response.body)
        return None if whole else CallFailed(INTERNAL, "the server's reply is not one message")
    if code is not None and code.isdigit() and len(code) <= _LONGEST_CODE:
        return CallFailed(int(code), grpc.grpc_message(response) or f"gRPC status {int(code)}")
    if status != b"200":
        known = f"HTTP status {status.decode(errors='replace')}"
        return CallFailed(_CODES_OF_HTTP.get(status, UNKNOWN), known)
    return CallFailed(UNKNOWN, "the server's reply has no gRPC status")
