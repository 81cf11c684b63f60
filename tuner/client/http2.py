"""Unary gRPC calls over HTTP/2, as an asyncio protocol: a quarter of the CPU time of grpc.aio.

What it leaves out: proxies, balancing over several addresses, compression.
"""

import asyncio
import struct
from collections import deque
from typing import Any
from urllib.parse import unquote_to_bytes

import hpack

from tuner.load.http2_headers import ERRORS, Fields, Reader

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_REFUSED, _CANCEL = 7, 8
_WIDE = _LAST_STREAM = 2**31 - 1
_FRAME = 1 << 16  # the largest that we take
_UNACKNOWLEDGED = 1 << 28
_HEAD, _NUMBER, _PREFIX = struct.Struct(">IBI"), struct.Struct(">I"), struct.Struct(">BI")
_OK, _UNKNOWN, _DEADLINE, _INTERNAL, _UNAVAILABLE = 0, 2, 4, 13, 14
_OF_HTTP = {
    **{b"400": 13, b"401": 16, b"403": 7, b"404": 12},
    **{b"429": 14, b"502": 14, b"503": 14, b"504": 14},
}
_PING_AFTER = 30.0
_PING_WAITS = 10.0
_PINGS = 2


class CallFailed(Exception):
    """``code`` is gRPC's; ``said`` are the server's words, or what is known of the connection."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(code, said)
        self.code = code
        self.said = said


class NotProcessed(CallFailed):
    """The server did not and will not look at this call; it may be made again elsewhere."""

    def __init__(self, said: str) -> None:
        super().__init__(_UNAVAILABLE, said)


class _Call:
    """``rest`` is what waits for the windows to open."""

    __slots__ = ("content", "future", "head", "number", "rest", "window")

    def __init__(self, future: "asyncio.Future[bytes]", number: int, window: int) -> None:
        self.future = future
        self.number = number
        self.window = window
        self.content = bytearray()
        self.head: Fields | None = None
        self.rest: memoryview | None = None


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


class Http2Connection(asyncio.Protocol):
    """One connection, which carries as many calls at once as the server allows."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, _Call] = {}
        self._held: dict[int, _Call] = {}  # with a rest to send
        self._room: deque[asyncio.Future[None]] = deque()
        self._reader = Reader()
        self._buffer = b""
        self._written: list[bytes | memoryview] = []
        self._block: tuple[int, int, bytes] | None = None
        self._next = 1
        self._window = self._first_window = 65535
        self._largest = 1 << 14
        self._limit = _WIDE
        self._unacknowledged = 0
        self._transport: Any = None
        self._greeted = False
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._pinged = False
        self._pings = 0
        self._why = ""
        self.usable = True

    async def call(self, block: bytes, message: bytes, timeout: float | None) -> bytes:
        """The reply's message; CallFailed where there is none."""
        if len(self._calls) >= self._limit and self.usable:
            timeout = await self._wait_for_room(timeout)
        if not self.usable or self._next >= _LAST_STREAM:
            raise NotProcessed(self._why or "the connection is closed")
        call = _Call(self._loop.create_future(), self._next, self._first_window)
        self._next += 2
        self._calls[call.number] = call
        timer = timeout and self._loop.call_later(timeout, self._expire, call)
        self._send(call, block, message)
        try:
            return await call.future
        finally:
            if timer:
                timer.cancel()
            if call.number in self._calls:  # the caller was cancelled, or waited long enough
                self._forget(call, tell=True)

    async def _wait_for_room(self, timeout: float | None) -> float | None:
        """What is left of the timeout once the server takes another call."""
        began = self._loop.time()
        try:
            async with asyncio.timeout(timeout):
                while len(self._calls) >= self._limit and self.usable:
                    room = self._loop.create_future()
                    self._room.append(room)
                    await room
        except TimeoutError as error:
            raise CallFailed(_DEADLINE, "") from error
        finally:
            self._make_room()  # also for the next in line, where this one was given it and left
        return timeout and max(1e-6, timeout - (self._loop.time() - began))

    def _expire(self, call: _Call) -> None:
        if not call.future.done():
            call.future.set_exception(CallFailed(_DEADLINE, ""))

    def _send(self, call: _Call, block: bytes, message: bytes) -> None:
        size = len(message) + _PREFIX.size
        head = _frame(_HEADERS, _END_HEADERS, call.number, block)
        prefix = _PREFIX.pack(0, len(message))
        if size <= self._largest and size <= self._window and size <= call.window:
            self._window -= size
            data = _HEAD.pack(size << 8 | _DATA, _END_STREAM, call.number)
            self._write((head, data, prefix, message))
            return
        self._write((head,))
        call.rest = memoryview(prefix + message)
        self._held[call.number] = call
        self._push()

    def _write(self, parts: tuple[bytes | memoryview, ...]) -> None:
        """What several calls have to say at the same moment goes out at once."""
        if len(self._calls) == 1 and not self._written:
            self._transport.write(b"".join(parts))
            return
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written += parts

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written and not self._transport.is_closing():
            self._transport.write(b"".join(written))

    def _push(self) -> None:
        for call in list(self._held.values()):
            rest = call.rest
            assert rest is not None
            while size := max(0, min(len(rest), self._largest, self._window, call.window)):
                last = size == len(rest)
                head = _HEAD.pack(size << 8 | _DATA, _END_STREAM if last else 0, call.number)
                self._write((head, rest[:size]))
                self._window -= size
                call.window -= size
                rest = call.rest = rest[size:]
                if last:
                    del self._held[call.number]
                    break

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = struct.pack(">HIHIHI", 2, 0, 4, _WIDE, 5, _FRAME)
        grow = _NUMBER.pack(_WIDE - 65535)
        start = _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, grow)
        self._transport.write(start)
        self._timer = self._loop.call_later(_PING_AFTER, self._look_after)

    def _look_after(self) -> None:
        """Ask a peer from which nothing came for a while, though it owes answers. Servers of gRPC
        take two pings without data between them, and hang up at more.
        """
        if self._pinged:
            self._fail("the server does not answer any more")
            return
        silent = self._loop.time() - self._heard
        pause = _PING_AFTER
        if self._calls and silent > _PING_AFTER / 2 and self._pings < _PINGS:
            self._pinged = True
            self._pings += 1
            self._control(_frame(_PING, 0, 0, bytes(8)))
            pause = _PING_WAITS
        self._timer = self._loop.call_later(pause, self._look_after)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._pinged = False
        if self._buffer:
            data = self._buffer + data
        position, size = 0, len(data)
        try:
            if not self._greeted and size > 3 and data[3] != _SETTINGS:
                raise ValueError("it speaks no HTTP/2 here; is this the address of its gRPC?")
            while size - position >= _HEAD.size:
                word, flags, number = _HEAD.unpack_from(data, position)
                start = position + _HEAD.size
                end = start + (word >> 8)
                if end > size:
                    if end - start > _FRAME:
                        raise ValueError(f"a frame of {end - start} bytes")
                    break
                self._received(word & 255, flags, number & _LAST_STREAM, data[start:end])
                position = end
        except (hpack.HPACKError, struct.error, IndexError, ValueError) as error:
            self._fail(f"the server broke the HTTP/2 protocol: {error or type(error).__name__}")
            return
        self._buffer = data[position:]

    def _received(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and kind != _CONTINUATION:
            raise ValueError("a header block is not complete")
        if kind == _DATA:
            self._data(flags, number, payload)
        elif kind == _HEADERS:
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            if flags & _PRIORITY:
                payload = payload[5:]
            self._headers(number, flags, flags, payload)
        elif kind == _CONTINUATION:
            if self._block is None or self._block[0] != number:
                raise ValueError("CONTINUATION without HEADERS")
            _, first, begun = self._block
            self._headers(number, first, flags, begun + payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._control(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            self._grow(number, _NUMBER.unpack(payload)[0] & _WIDE)
        elif kind == _RESET:
            self._reset(number, _NUMBER.unpack(payload)[0])
        elif kind == _GOAWAY:
            last, code = struct.unpack_from(">II", payload)
            self._goaway(last & _LAST_STREAM, code, payload[8:])

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._pings = 0
        self._unacknowledged += len(payload)
        if self._unacknowledged > _UNACKNOWLEDGED:
            grown = _NUMBER.pack(self._unacknowledged)
            self._control(_frame(_WINDOW, 0, 0, grown))
            self._unacknowledged = 0
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        call = self._calls.get(number)
        if call is not None:
            call.content += payload
            if flags & _END_STREAM:
                self._end(call, None)

    def _headers(self, number: int, first: int, flags: int, block: bytes) -> None:
        if not flags & _END_HEADERS:
            if len(block) > _FRAME:
                raise ValueError("a header block without end")
            self._block = (number, first, block)
            return
        self._block = None
        fields = self._reader.known.get(block) or self._reader.read(block)
        call = self._calls.get(number)
        if call is None:
            return
        if first & _END_STREAM:
            self._end(call, fields)
        elif call.head is None or call.head.status is None or call.head.status[:1] == b"1":
            call.head = fields

    def _end(self, call: _Call, trailers: Fields | None) -> None:
        """The reply is at its end, with these trailers."""
        self._forget(call, tell=call.number in self._held)
        if call.future.done():
            return
        failed = _failure(call.head, trailers, call.content)
        if failed is None:
            call.future.set_result(bytes(memoryview(call.content)[_PREFIX.size :]))
        else:
            call.future.set_exception(failed)

    def _forget(self, call: _Call, tell: bool) -> None:
        self._calls.pop(call.number, None)
        self._held.pop(call.number, None)
        if tell:
            self._control(_frame(_RESET, 0, call.number, _NUMBER.pack(_CANCEL)))
        self._make_room()
        if not self.usable and not self._calls and self._transport is not None:
            self._transport.close()

    def _make_room(self) -> None:
        free = self._limit - len(self._calls) if self.usable else len(self._room)
        while self._room and free > 0:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
                free -= 1

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 3:
                self._limit = value
            elif name == 4:
                for call in self._held.values():
                    call.window += value - self._first_window
                self._first_window = value
            elif name == 5:
                self._largest = value
        self._control(_frame(_SETTINGS, _ACK, 0))
        self._greeted = True
        self._make_room()
        self._push()

    def _grow(self, number: int, grown: int) -> None:
        if number == 0:
            self._window += grown
        elif number in self._held:
            self._held[number].window += grown
        if self._held:
            self._push()

    def _reset(self, number: int, code: int) -> None:
        call = self._calls.get(number)
        if call is None:
            return
        said = f"the server reset the request ({ERRORS.get(code, code)})"
        self._forget(call, tell=False)
        if not call.future.done():
            refused = code == _REFUSED
            call.future.set_exception(
                NotProcessed(said) if refused else CallFailed(_UNAVAILABLE, said)
            )

    def _goaway(self, last: int, code: int, words: bytes) -> None:
        said = words.decode(errors="replace")[:200]
        why = " ".join(filter(None, (str(ERRORS.get(code, code)) if code else "", said)))
        self._why = "the server closed the connection" + (f": {why}" if why else "")
        self.usable = False
        for call in [each for each in self._calls.values() if each.number > last]:
            if not call.future.done():
                call.future.set_exception(NotProcessed(self._why))
            self._forget(call, tell=False)
        self._make_room()
        if not self._calls:
            self._transport.close()

    def _control(self, written: bytes) -> None:
        """After what waits to be written, which may be the headers of the call that it is about."""
        self._flush()
        if not self._transport.is_closing():
            self._transport.write(written)

    def _fail(self, why: str) -> None:
        self._why = why
        self.usable = False
        self._transport.abort()

    def close(self) -> None:
        """Drop it; what is outstanding fails."""
        self._fail("the client was closed")

    def eof_received(self) -> None:
        self.usable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
        self._why = self._why or (str(exc) if exc else "the server closed the connection")
        calls, self._calls = self._calls, {}
        self._held.clear()
        for call in calls.values():
            if not call.future.done():
                call.future.set_exception(CallFailed(_UNAVAILABLE, self._why))
        self._make_room()


def _failure(head: Fields | None, trailers: Fields | None, content: bytearray) -> CallFailed | None:
    """What a reply with these headers says is wrong; None where it is a message."""
    parts = [part for part in (head, trailers) if part is not None]
    status = next((part.status for part in parts if part.status is not None), b"200")
    code = next((part.grpc_status for part in parts if part.grpc_status is not None), None)
    if code == b"0" and status == b"200":
        whole = len(content) >= _PREFIX.size and _PREFIX.unpack_from(content) == (
            0,
            len(content) - _PREFIX.size,
        )
        return None if whole else CallFailed(_INTERNAL, "the server's reply is not one message")
    message = next((part.message for part in parts if part.message), b"")
    said = unquote_to_bytes(message).decode(errors="replace")
    if code is not None and code.isdigit():
        return CallFailed(int(code), said or f"gRPC status {int(code)}")
    if status != b"200":
        known = f"HTTP status {status.decode(errors='replace')}"
        return CallFailed(_OF_HTTP.get(status, _UNKNOWN), known)
    return CallFailed(_UNKNOWN, "the server's reply has no gRPC status")
