"""An HTTP/2 connection that carries unary gRPC calls, as an asyncio protocol.

It is written for few instructions per call: header blocks sent are constant, blocks received are
looked up, and the bytes of replies are counted but not kept.
"""

import asyncio
import struct
from typing import Any, Protocol

import hpack

from tuner.load.http2_headers import ERRORS, Fields, Reader, outcome_of
from tuner.load.outcome import LONGEST, Done

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_REFUSED, _CANCEL = 7, 8
_WIDE = _LAST_STREAM = 2**31 - 1
_SMALL, _LARGE = 1 << 14, 1 << 20  # frames that any peer takes, and those that we take
_UNACKNOWLEDGED = 1 << 29
_HEAD, _NUMBER = struct.Struct(">IBI"), struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


class Message:
    """A request to be sent again and again: frames but for the stream's number."""

    __slots__ = ("block", "body", "second", "size", "whole")

    def __init__(self, block: bytes, message: bytes) -> None:
        self.block = block
        self.body = struct.pack(">BI", 0, len(message)) + message
        self.size = len(self.body)
        self.second = 9 + len(block) + 5
        self.whole: bytearray | None = None
        if self.size <= _SMALL:
            headers = frame(_HEADERS, _END_HEADERS, 0, block)
            self.whole = bytearray(headers + frame(_DATA, _END_STREAM, 0, self.body))


class Owner(Protocol):
    """Whom a connection tells; ``waiting`` is true while requests wait for room."""

    waiting: Any

    def room(self) -> None:
        """There may be room: the first SETTINGS, a higher limit, or a request that ended."""

    def refused(self, index: int, said: str) -> None:
        """The server did not and will not process this request."""

    def leaving(self, connection: "Http2Connection") -> None:
        """It takes no more requests; told once, at the latest when the connection is lost."""

    def lost(self, connection: "Http2Connection", said: str) -> None: ...


class _Rest:
    """A request of which a part waits for the windows to open."""

    __slots__ = ("view", "window")

    def __init__(self, body: bytes, window: int) -> None:
        self.view = memoryview(body)
        self.window = window


class Http2Connection(asyncio.Protocol):
    """One connection; outcomes go to ``done``, all else to the owner."""

    def __init__(self, owner: Owner, done: Done) -> None:
        self._owner = owner
        self._done = done
        self._streams: dict[int, int] = {}  # number to the request's index
        self._rests: dict[int, _Rest] = {}
        self._heads: dict[int, Fields] = {}  # of replies that do not begin as usual
        self._reader = Reader()
        self._known = self._reader.known
        self._buffer = b""
        self._skip = 0
        self._block: tuple[int, int, bytes] | None = None
        self._next = 1
        self._window, self._first_window, self._largest = 65535, 65535, _SMALL
        self._unacknowledged = 0
        self._transport: Any = None
        self._write: Any = None
        self._why = ""
        self.limit = 0
        self.greeted = False
        self.going = False

    @property
    def used(self) -> bool:
        return self._next > 1

    def has_room(self) -> bool:
        return len(self._streams) < self.limit and not self.going and self._next < _LAST_STREAM

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._write = self._transport.write
        settings = struct.pack(">HIHIHI", 2, 0, 4, _WIDE, 5, _LARGE)
        grow = _NUMBER.pack(_WIDE - 65535)
        self._write(_PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW, 0, 0, grow))

    def send(self, index: int, message: Message) -> None:
        """Write a request; only where ``has_room()``."""
        number = self._next
        self._next = number + 2
        self._streams[number] = index
        whole, size = message.whole, message.size
        if whole is not None and size <= self._window and size <= self._first_window:
            self._window -= size
            _NUMBER.pack_into(whole, 5, number)
            _NUMBER.pack_into(whole, message.second, number)
            self._write(bytes(whole))
            return
        self._write(frame(_HEADERS, _END_HEADERS, number, message.block))
        self._rests[number] = _Rest(message.body, self._first_window)
        self._push()

    def _push(self) -> None:
        for number, rest in list(self._rests.items()):
            while size := max(0, min(len(rest.view), self._largest, self._window, rest.window)):
                last = size == len(rest.view)
                flags = _END_STREAM if last else 0
                self._write(_HEAD.pack(size << 8 | _DATA, flags, number))
                self._write(rest.view[:size])
                self._window -= size
                rest.window -= size
                rest.view = rest.view[size:]
                if last:
                    del self._rests[number]

    def data_received(self, data: bytes) -> None:
        position = 0
        if self._skip:
            position = min(self._skip, len(data))
            self._skip -= position
        elif self._buffer:
            data = self._buffer + data
        size = len(data)
        if not self.greeted and size > 3 and data[3] != _SETTINGS:
            self._fail("the server does not speak HTTP/2 here; is this the address of its gRPC?")
            return
        try:
            while size - position >= 9:
                word, flags, number = _HEAD.unpack_from(data, position)
                start, kind = position + 9, word & 255
                end = start + (word >> 8)
                if kind == _DATA and not flags & _END_STREAM:
                    self._unacknowledged += end - start
                    if self._unacknowledged > _UNACKNOWLEDGED:
                        self._acknowledge()
                    if end > size:
                        self._skip, position = end - size, size
                        break
                elif end > size:
                    if end - start > _LARGE:
                        raise ValueError(f"a frame of {end - start} bytes")
                    break
                elif kind == _HEADERS and flags & 44 == _END_HEADERS and self._block is None:
                    self._headers(number, flags, data[start:end])
                else:
                    self._frame(kind, flags, number & _LAST_STREAM, data[start:end])
                position = end
        except (hpack.HPACKError, struct.error, IndexError, ValueError) as error:
            self._fail(f"the server broke the HTTP/2 protocol: {error or type(error).__name__}")
            return
        self._buffer = data[position:]

    def _headers(self, number: int, flags: int, block: bytes) -> None:
        fields = self._known.get(block) or self._reader.read(block)
        if not flags & _END_STREAM:
            if not fields.usual:
                self._heads[number] = fields
        elif fields.fine and not self._heads and not self._rests:
            index = self._streams.pop(number, None)
            if index is not None:
                self._ended(index, True, "")
        else:
            self._end(number, fields)

    def _end(self, number: int, fields: Fields | None) -> None:
        """The reply is at its end, with these trailers."""
        head = self._heads.pop(number, None)
        rest = self._rests.pop(number, None)
        index = self._streams.pop(number, None)
        if index is None:
            return
        if rest is not None:
            self._control(frame(_RESET, 0, number, _NUMBER.pack(_CANCEL)))
        self._ended(index, *outcome_of(head, fields))

    def _ended(self, index: int, ok: bool, said: str) -> None:
        if self._owner.waiting:
            self._owner.room()
        self._done(index, ok, said)
        if self.going:
            self._leave()

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """All but the frames of which the usual reply consists."""
        if self._block is not None and kind != _CONTINUATION:
            raise ValueError("a header block is not complete")
        if kind == _DATA:
            self._unacknowledged += len(payload)
            self._end(number, None)
        elif kind == _HEADERS:
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            if flags & _PRIORITY:
                payload = payload[5:]
            self._continued(number, flags, flags, payload)
        elif kind == _CONTINUATION:
            if self._block is None or self._block[0] != number:
                raise ValueError("CONTINUATION without HEADERS")
            _, first, begun = self._block
            self._continued(number, first, flags, begun + payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._control(frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            grown = _NUMBER.unpack(payload)[0] & _WIDE
            if number == 0:
                self._window += grown
            elif number in self._rests:
                self._rests[number].window += grown
            if self._rests:
                self._push()
        elif kind == _RESET:
            self._reset(number, _NUMBER.unpack(payload)[0])
        elif kind == _GOAWAY:
            last, code = struct.unpack_from(">II", payload)
            self._goaway(last & _LAST_STREAM, code, payload[8:])

    def _continued(self, number: int, first: int, flags: int, block: bytes) -> None:
        if len(block) > _LARGE:
            raise ValueError("a header block without end")
        self._block = None if flags & _END_HEADERS else (number, first, block)
        if self._block is None:
            self._headers(number, first, block)

    def _settings(self, payload: bytes) -> None:
        if not self.greeted:
            self.limit = _WIDE  # silence means no limit
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 3:
                self.limit = value
            elif name == 4:
                for rest in self._rests.values():
                    rest.window += value - self._first_window
                self._first_window = value
            elif name == 5:
                self._largest = value
        self._control(frame(_SETTINGS, _ACK, 0))
        self._push()
        self.greeted = True
        self._owner.room()

    def _reset(self, number: int, code: int) -> None:
        self._rests.pop(number, None)
        self._heads.pop(number, None)
        index = self._streams.pop(number, None)
        if index is None:
            return
        said = f"the server reset the request ({ERRORS.get(code, code)})"
        if code == _REFUSED:
            self._owner.refused(index, said)
            if self.going:
                self._leave()
        else:
            self._ended(index, False, said)

    def _goaway(self, last: int, code: int, words: bytes) -> None:
        said = words.decode(errors="replace")[:LONGEST]
        why = " ".join(filter(None, (str(ERRORS.get(code, code)) if code else "", said)))
        self._why = "the server closed the connection" + (f": {why}" if why else "")
        self._retire()
        for number in [each for each in self._streams if each > last]:
            self._rests.pop(number, None)
            self._heads.pop(number, None)
            self._owner.refused(self._streams.pop(number), self._why)
        self._leave()

    def _retire(self) -> None:
        if not self.going:
            self.going = True
            self._owner.leaving(self)

    def _leave(self) -> None:
        if not self._streams:
            self._transport.close()

    def _acknowledge(self) -> None:
        self._control(frame(_WINDOW, 0, 0, _NUMBER.pack(self._unacknowledged)))
        self._unacknowledged = 0

    def _control(self, written: bytes) -> None:
        if not self._transport.is_closing():
            self._write(written)

    def _fail(self, why: str) -> None:
        self._why = why
        self._retire()
        self._transport.abort()

    def eof_received(self) -> None:
        self._retire()

    def abort(self) -> None:
        """Drop it; what is outstanding is not reported."""
        self.going = True
        self._streams.clear()
        self._rests.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._retire()
        self._rests.clear()
        said = self._why or (str(exc) if exc else "the server closed the connection")
        streams, self._streams = self._streams, {}
        self._owner.lost(self, said)
        for index in streams.values():
            self._done(index, False, said)
