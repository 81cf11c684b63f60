"""uvicorn's HTTP protocol with limits on what a client may send before a request is known, and on
how long it may take.

httptools takes a head of any size, and uvicorn waits for the rest of one without a limit. Both come
before the application, and so before its keys.
"""

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tuner.serving.constants import CONNECTIONS, ConnectionConstants
from tuner.serving.identity import error_response

_FIELD = 32  # bytes that count for each header field besides its text, as in HTTP/2 (RFC 9113)


@dataclass(frozen=True)
class Refusal:
    """An answer that the protocol gives by itself; the connection ends with it."""

    status: int
    type: str
    message: str

    def to_bytes(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The whole answer, with these headers besides its own."""
        request_id = uuid.uuid4().hex
        own = {"Connection": "close", "X-Request-ID": request_id}
        response = error_response(self.status, self.type, self.message, request_id, own)
        fields = [b"%b: %b\r\n" % field for field in (*headers, *response.raw_headers)]
        return b"".join((STATUS_LINE[self.status], *fields, b"\r\n", bytes(response.body)))


_MALFORMED = Refusal(400, "malformed", "this is not a valid HTTP/1.1 request")
_TIMEOUT = Refusal(408, "head_timeout", "the request's header fields did not arrive in time")


class _Transport:
    """A connection's transport, which the protocol closes in its own way."""

    def __init__(self, transport: asyncio.Transport, protocol: "BoundedProtocol") -> None:
        self._transport = transport
        self.write = transport.write
        self.close = protocol.finish
        self.is_closing = protocol.is_finished

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """Status 414 for a long URL, 431 for large header fields (trailers count, too), 408 if the
    head takes long. A connection that sends nothing, or does not read its answers, is closed. One
    that still sends gets to see its last answer first.

    uvicorn makes one for each connection. Subclasses may set other ``bounds``.
    """

    bounds: ClassVar[ConnectionConstants] = CONNECTIONS

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head_size = 0
        self._unreported = 0  # bytes since the parser's last callback: it collects a field of them
        self._in_head = self._in_body = False
        self._refused = False
        self._refusal = _MALFORMED
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._own_transport: asyncio.Transport
        self._lingering: asyncio.TimerHandle | None = None
        self._passed_over = 0  # bytes that came after the last answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._own_transport = transport
        super().connection_made(cast("asyncio.Transport", _Transport(transport, self)))
        # uvicorn itself starts this timer after the first response only.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        if self._lingering is not None:
            self._lingering.cancel()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._passed_over += len(data)
            if self._passed_over > self.bounds.linger_bytes:
                self._own_transport.close()
            return
        if self._refused:
            return
        self._unreported += len(data)
        super().data_received(data)
        if self._refused:
            return
        if self._unreported > self.bounds.head:
            self._refuse(self._too_large())
        elif self._head_timer is None and (self._in_head or self._unreported) and not self._in_body:
            self._head_timer = self.loop.call_later(self.bounds.head_timeout, self._head_late)

    def on_message_begin(self) -> None:
        self._head_size = self._unreported = 0
        self._in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) > self.bounds.url:
            message = f"the URL is longer than {self.bounds.url} bytes"
            self._refusal = Refusal(414, "url_too_long", message)
            raise ValueError(message)  # ends the parsing: uvicorn calls send_400_response
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _FIELD)
        if not self._in_body:  # a trailer is no header: it must not name the client
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unreported = 0
        self._in_head = False
        self._stop_head_timer()
        if len(self.pipeline) >= self.bounds.pipelined:
            raise ValueError("too many requests wait for the answer to the first one")
        super().on_headers_complete()
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._unreported = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unreported = 0
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn if the parser or one of the callbacks above failed."""
        self._refuse(self._refusal)

    def finish(self) -> None:
        """Close the connection; first take what is on its way of a body that nobody waits for."""
        if self._in_body and not self.is_finished():
            self._linger()
        else:
            self._close()

    def is_finished(self) -> bool:
        """Whether nothing more is answered."""
        return self._lingering is not None or self._own_transport.is_closing()

    def is_receiving(self) -> bool:
        """Whether a part of a request has come, and the rest has not."""
        return self._in_head or self._in_body or self._unreported > 0

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _count(self, size: int) -> None:
        self._unreported = 0
        self._head_size += size
        if self._head_size > self.bounds.head:
            self._refusal = self._too_large()
            raise ValueError(self._refusal.message)

    def _too_large(self) -> Refusal:
        message = f"the header fields have more than {self.bounds.head} bytes"
        return Refusal(431, "head_too_large", message)

    def _head_late(self) -> None:
        self._head_timer = None
        if self.flow.read_paused:  # it is the server that does not read on
            self._head_timer = self.loop.call_later(self.bounds.head_timeout, self._head_late)
        else:
            self._refuse(_TIMEOUT)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and close. While earlier requests have no answer yet, it would be taken for
        theirs: then they are answered, and the connection ends without one.
        """
        self._refused = True
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self._is_next_to_answer():
            self.transport.write(refusal.to_bytes(self.server_state.default_headers))
            self._linger()
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    def _is_next_to_answer(self) -> bool:
        if self.cycle is None or self.cycle.response_complete:
            return True
        # Its body is what is wrong: the answer is that of the request itself.
        return self._in_body and not self.pipeline and not self.cycle.response_started

    def _linger(self) -> None:
        """The client reads that this was the last answer, and has time to stop sending."""
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        self._own_transport.write_eof()
        self.flow.resume_reading()
        self._lingering = self.loop.call_later(self.bounds.linger, self._close)

    def _close(self) -> None:
        self._own_transport.close()
        if self._write_timer is None and self._own_transport.get_write_buffer_size():
            self._watch_writing()

    def _watch_writing(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(
            self.bounds.stalled_write, self._end_if_stalled, size
        )

    def _end_if_stalled(self, before: int) -> None:
        """Ended at once: a close would wait until the client has taken all of it."""
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch_writing()
