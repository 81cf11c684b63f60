"""Unary gRPC calls with serialised messages over HTTP/2 connections, as an asyncio protocol.

Request header blocks are literals that leave the encoder without state, so they are constant.
"""

import asyncio
import contextlib
import struct
from collections import deque
from typing import Any
from urllib.parse import unquote

import hpack

from tuner.load.target import Target

_LONGEST = 4000
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_WIDE = 2**31 - 1
_LAST_STREAM = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    def text(of: str) -> bytes:
        raw = of.encode()
        if len(raw) < 127:
            return bytes([len(raw)]) + raw
        rest, size = len(raw) - 127, bytearray([127])
        while rest >= 128:
            size.append(rest & 127 | 128)
            rest >>= 7
        return bytes(size) + bytes([rest]) + raw

    return b"\0" + text(name) + text(value)


class _Stream:
    __slots__ = ("fields", "index", "rest", "window")

    def __init__(self, index: int, window: int) -> None:
        self.index = index
        self.window = window
        self.rest: memoryview | None = None
        self.fields: dict[bytes, bytes] = {}


class Http2Connection(asyncio.Protocol):
    """One connection; ``client`` is told of each outcome and of the connection's end."""

    def __init__(self, client: "GrpcClient", head: bytes) -> None:
        self._client = client
        self._head = head
        self._streams: dict[int, _Stream] = {}
        self._blocked: deque[int] = deque()
        self._decoder = hpack.Decoder()
        self._buffer = b""
        self._block = bytearray()
        self._block_of = (0, 0)
        self._next = 1
        self._window, self._first_window, self._largest = 65535, 65535, 16384
        self._unacknowledged = 0
        self._most = 100  # until the server has said its own; silence then means no limit
        self._greeted = False
        self._transport: Any = None
        self.going = False

    def has_room(self) -> bool:
        return not self.going and len(self._streams) < self._most and self._next < _LAST_STREAM

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = struct.pack(">HIHI", 2, 0, 4, _WIDE)
        grow = struct.pack(">I", _WIDE - 65535)
        self._transport.write(
            _PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW, 0, 0, grow)
        )

    def send(self, index: int, message: bytes) -> None:
        """Write a request whose message already has gRPC's five-byte prefix."""
        number, self._next = self._next, self._next + 2
        stream = self._streams[number] = _Stream(index, self._first_window)
        head = frame(_HEADERS, _END_HEADERS, number, self._head)
        size = len(message)
        if size <= self._largest and size <= self._window and size <= stream.window:
            self._window -= size
            stream.window -= size
            self._transport.write(head + frame(_DATA, _END_STREAM, number, message))
            return
        self._transport.write(head)
        stream.rest = memoryview(message)
        self._blocked.append(number)
        self._push()

    def _push(self) -> None:
        for _ in range(len(self._blocked)):
            number = self._blocked.popleft()
            stream = self._streams.get(number)
            while stream is not None and stream.rest is not None:
                size = min(len(stream.rest), self._largest, self._window, stream.window)
                if size <= 0:
                    self._blocked.append(number)
                    break
                last = size == len(stream.rest)
                part = bytes(stream.rest[:size])
                self._transport.write(frame(_DATA, _END_STREAM if last else 0, number, part))
                self._window -= size
                stream.window -= size
                stream.rest = None if last else stream.rest[size:]

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        position, size = 0, len(data)
        try:
            while size - position >= 9:
                length = int.from_bytes(data[position : position + 3])
                end = position + 9 + length
                if end > size:
                    break
                number = int.from_bytes(data[position + 5 : position + 9]) & _LAST_STREAM
                self._frame(
                    data[position + 3], data[position + 4], number, data[position + 9 : end]
                )
                position = end
        except (hpack.HPACKError, struct.error, IndexError):
            self._transport.abort()
        self._buffer = data[position:]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == _DATA:
            self._unacknowledged += len(payload)
            if self._unacknowledged > 2**29:
                self._transport.write(frame(_WINDOW, 0, 0, struct.pack(">I", self._unacknowledged)))
                self._unacknowledged = 0
            if flags & _END_STREAM:
                self._end(number)
        elif kind in (_HEADERS, _CONTINUATION):
            if kind == _HEADERS:
                if flags & _PADDED:
                    payload = payload[1 : len(payload) - payload[0]]
                if flags & _PRIORITY:
                    payload = payload[5:]
                self._block, self._block_of = bytearray(), (number, flags)
            self._block += payload
            if flags & _END_HEADERS:
                self._fields()
        elif kind == _SETTINGS and not flags & _ACK:
            if not self._greeted:
                self._greeted, self._most = True, _WIDE
            for name, value in struct.iter_unpack(">HI", payload):
                self._set(name, value)
            self._transport.write(frame(_SETTINGS, _ACK, 0))
            self._push()
        elif kind == _PING and not flags & _ACK:
            self._transport.write(frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            grown = struct.unpack(">I", payload)[0] & _WIDE
            if number == 0:
                self._window += grown
            elif (stream := self._streams.get(number)) is not None:
                stream.window += grown
            self._push()
        elif kind == _RESET:
            if stream := self._streams.pop(number, None):
                code = struct.unpack(">I", payload)[0]
                self._client.done(stream.index, False, f"the server reset the request ({code})")
        elif kind == _GOAWAY:
            self.going = True
            last = struct.unpack_from(">I", payload)[0] & _LAST_STREAM
            for refused in [each for each in self._streams if each > last]:
                index = self._streams.pop(refused).index
                self._client.done(index, False, "the server is closing the connection")
            self._leave()

    def _set(self, name: int, value: int) -> None:
        if name == 3:
            self._most = value
        elif name == 4:
            for stream in self._streams.values():
                stream.window += value - self._first_window
            self._first_window = value
        elif name == 5:
            self._largest = value

    def _fields(self) -> None:
        number, flags = self._block_of
        found = self._decoder.decode(bytes(self._block), raw=True)
        if (stream := self._streams.get(number)) is not None:
            stream.fields.update((bytes(field[0]), bytes(field[1])) for field in found)
            if flags & _END_STREAM:
                self._end(number)

    def _end(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        if stream.rest is not None:
            self._transport.write(frame(_RESET, 0, number, struct.pack(">I", 8)))
        ok = stream.fields.get(b"grpc-status") == b"0"
        said = "" if ok else unquote(stream.fields.get(b"grpc-message", b"").decode())
        self._client.done(stream.index, ok, said[-_LONGEST:])
        self._leave()

    def _leave(self) -> None:
        if self.going and not self._streams:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.going = True
        streams, self._streams = self._streams, {}
        self._client.lost(self)
        for stream in streams.values():
            self._client.done(stream.index, False, str(exc or ""))


class GrpcClient:
    """Multiplexed connections, as many as the server's limit of concurrent streams demands."""

    def __init__(self, target: Target, done: Any) -> None:
        host, _, port = target.address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        fields = {
            ":method": "POST", ":scheme": "http",
            ":path": "/inference.GRPCInferenceService/ModelInfer",
            ":authority": target.address, "te": "trailers", "content-type": "application/grpc",
        }  # fmt: skip
        self._head = b"".join(_literal(*each) for each in fields.items())
        self._messages = [struct.pack(">BI", 0, len(each)) + each for each in target.requests]
        self._done = done
        self._open: list[Http2Connection] = []
        self._waiting: deque[int] = deque()
        self._connecting: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def send(self, index: int) -> None:
        for connection in self._open:
            if connection.has_room():
                connection.send(index, self._messages[index % len(self._messages)])
                return
        self._waiting.append(index)
        self._connect()

    def _connect(self) -> None:
        if self._connecting is None and not self._closed:
            self._connecting = self._loop.create_task(self._add())

    async def _add(self) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: Http2Connection(self, self._head), self._host, self._port
            )
        except OSError as error:
            self._connecting = None
            waiting, self._waiting = self._waiting, deque()
            for index in waiting:
                self._done(index, False, str(error))
            return
        self._connecting = None
        self._open.append(connection)
        while self._waiting and connection.has_room():
            index = self._waiting.popleft()
            connection.send(index, self._messages[index % len(self._messages)])
        if self._waiting:
            self._connect()

    def done(self, index: int, ok: bool, said: str) -> None:
        if not self._closed:
            self._done(index, ok, said)

    def lost(self, connection: Http2Connection) -> None:
        with contextlib.suppress(ValueError):
            self._open.remove(connection)

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in tuple(self._open):
            connection.abort()
        await asyncio.sleep(0)
