"""An HTTP/2 connection that carries unary gRPC calls and reports their outcomes."""

import asyncio
from typing import Any, Protocol

from tuner.http2 import grpc
from tuner.http2.connection import ClientConnection, Http2Settings
from tuner.http2.events import Event, Goaway, ProtocolViolated, Response, StreamReset
from tuner.http2.frames import REFUSED_STREAM
from tuner.load.outcome import MESSAGE_LENGTH, Done
from tuner.load.replies import FIRST_BYTES, MixedReplyCheck, ReplyCheck

_SETTINGS = Http2Settings(keep=FIRST_BYTES)
_ACCESS_DENIED = {b"401", b"403", b"7", b"16"}
"""HTTP's and gRPC's statuses for requests that may not be made."""


class ConnectionOwner(Protocol):
    """Whom a connection tells; ``waiting`` is true while requests wait for room."""

    waiting: Any

    def room(self) -> None:
        """There may be room: the first SETTINGS, a higher limit, or a request that ended."""

    def refused(self, index: int, message: str) -> None:
        """The server did not and will not process this request."""

    def leaving(self, connection: "GrpcConnection") -> None:
        """It takes no more requests; told once, at the latest when the connection is lost."""

    def lost(self, connection: "GrpcConnection", message: str) -> None: ...


class GrpcConnection(asyncio.Protocol):
    """One connection; outcomes go to ``done``, all else to the owner."""

    def __init__(
        self, owner: ConnectionOwner, done: Done, check: ReplyCheck | MixedReplyCheck | None = None
    ) -> None:
        self._check = check
        self._owner = owner
        self._done = done
        self._http2 = ClientConnection(_SETTINGS)
        self._indices: dict[int, int] = {}  # of requests, by stream
        self._transport: Any = None
        self._receiving = False
        self._left = False
        self._reason = ""
        self.has_room = self._http2.has_room

    @property
    def greeted(self) -> bool:
        """Whether the server has said how many requests it takes."""
        return self._http2.greeted

    @property
    def takes_none(self) -> bool:
        """Whether the server's limit is zero for now."""
        return self._http2.stream_limit == 0

    @property
    def used(self) -> bool:
        return self._http2.used

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._flush()

    def send(self, index: int, block: bytes, body: bytes, prefix: bytes = b"") -> None:
        """Write a request; only where ``has_room()``."""
        self._indices[self._http2.request(block, body, prefix)] = index
        if not self._receiving:
            self._flush()

    def data_received(self, data: bytes) -> None:
        self._receiving = True  # what is sent meanwhile goes out at once, at the end
        try:
            for event in self._http2.receive(data):
                if type(event) is Response:
                    if (index := self._indices.pop(event.stream, None)) is None:
                        continue
                    if grpc.succeeded(event):
                        fault = self._fault(index, event)
                        self._finish(index, fault is None, fault or "")
                    else:
                        self._finish(index, False, _failure(event))
                else:
                    self._handle(event)
        finally:
            self._receiving = False
            self._flush()
        if self._left and not self._indices:
            self._transport.close()

    def _fault(self, index: int, response: Response) -> str | None:
        if self._check is None:
            return None
        size = response.size - grpc.PREFIX_SIZE
        if size < 0 or grpc.message_size(response.body) != size:
            return "wrong reply: it is not one message"
        return self._check.grpc_fault(index, bytes(response.body[grpc.PREFIX_SIZE :]), size)

    def _flush(self) -> None:
        output = self._http2.take_output()
        if output and not self._transport.is_closing():
            self._transport.write(output)

    def _finish(self, index: int, ok: bool, message: str) -> None:
        if self._owner.waiting:
            self._owner.room()
        self._done(index, ok, message)

    def _handle(self, event: Event) -> None:
        """All but what usually comes."""
        match event:
            case StreamReset(stream, code):
                if (index := self._indices.pop(stream, None)) is None:
                    return
                if code == REFUSED_STREAM:
                    self._owner.refused(index, event.reason)
                else:
                    self._finish(index, False, event.reason)
            case Goaway(unprocessed):
                self._reason = event.reason
                self._leave()
                for stream in unprocessed:
                    if (index := self._indices.pop(stream, None)) is not None:
                        self._owner.refused(index, event.reason)
            case ProtocolViolated(reason):
                self._reason = reason
                self._leave()
                self._transport.abort()
            case _:
                self._owner.room()

    def _leave(self) -> None:
        if not self._left:
            self._left = self._http2.closing = True
            self._owner.leaving(self)

    def eof_received(self) -> None:
        self._leave()

    def abort(self) -> None:
        """Drop it; what is outstanding is not reported."""
        self._left = self._http2.closing = True
        self._indices.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        message = self._reason or (str(exc) if exc else "the server closed the connection")
        indices, self._indices = self._indices, {}
        self._owner.lost(self, message)
        for index in indices.values():
            self._done(index, False, message)


def _failure(response: Response) -> str:
    """What went wrong: gRPC's words and, where there are none, its or HTTP's status."""
    status, code = grpc.http_status(response), grpc.grpc_status(response)
    if code == grpc.OK and status == b"200":
        return "the server's reply has no message"
    known = ""
    if status != b"200":
        known = f"HTTP status {status.decode(errors='replace')}"
    elif code is not None:
        known = f"gRPC status {code.decode(errors='replace')}"
    message = grpc.grpc_message(response)
    if not message or status in _ACCESS_DENIED or code in _ACCESS_DENIED:
        message = ": ".join(filter(None, (known, message)))
    return (message or "the server's reply has no gRPC status")[-MESSAGE_LENGTH:]
