"""The client's side of one HTTP/2 connection, without I/O (RFC 9113).

It is written for few instructions per request: header blocks to send are constant, blocks received
are looked up, and DATA is counted or appended as it comes.
"""

import struct
import sys
from dataclasses import dataclass

import hpack

from tuner.http2 import frames
from tuner.http2.events import (
    ABSENT,
    Event,
    Goaway,
    ProtocolViolated,
    Response,
    SettingsReceived,
    StreamReset,
)
from tuner.http2.frames import HEAD, LARGEST, NUMBER, frame
from tuner.http2.headers import HeaderReader

_DATA, _HEADERS, _CONTINUATION = frames.DATA, frames.HEADERS, frames.CONTINUATION
_END_STREAM, _END_HEADERS, _PADDED = frames.END_STREAM, frames.END_HEADERS, frames.PADDED
_UNUSUAL = frames.PADDED | frames.WITH_PRIORITY
_OTHER_PROTOCOL = (
    "the server does not use HTTP/2 on this port; check that the address is that "
    "of its gRPC service"
)


@dataclass(frozen=True)
class Http2Settings:
    """What a connection takes and keeps."""

    keep: int | None = None
    """Bytes of each body to keep, None for all: what is not looked at need not be copied."""
    frame_size: int = 1 << 20
    """Bytes of the largest frame that is taken: large replies come with few frame heads, and no
    DATA frame is held back until it is whole."""
    renew_window_after: int = 1 << 28
    """Bytes of DATA until the peer's window is filled up again: an eighth of the largest window, so
    that updates are rare and the peer never waits for one."""
    header_block_size: int = 1 << 16
    """Bytes of the largest header block: hpack takes no more fields than that when decoded, and
    numbers without end would keep it busy."""
    goaway_text: int = 200
    """Characters kept of what a server says at a GOAWAY: the error's code tells most."""


DEFAULTS = Http2Settings()


class _Unsent:
    """The part of a request's body that waits for the windows to open."""

    __slots__ = ("body", "window")

    def __init__(self, body: bytes, window: int) -> None:
        self.body = memoryview(body)
        self.window = window


class ClientConnection:
    """Requests in, bytes to send out; bytes received in, events out.

    After ``request``, ``cancel``, ``ping`` and ``receive`` there may be bytes for ``take_output``.
    ``closing`` is true once it takes no more requests; its owner may set it, too.
    """

    def __init__(self, settings: Http2Settings = DEFAULTS) -> None:
        self._settings = settings
        self._renew_after = settings.renew_window_after
        self._keep = sys.maxsize if settings.keep is None else settings.keep
        self._responses: dict[int, Response] = {}
        self._unsent: dict[int, _Unsent] = {}
        self._reader = HeaderReader()
        self._known_headers = self._reader.known
        self._events: list[Event] = []
        self._buffer = b""
        self._data_rest = 0  # bytes of a DATA frame that are still to come
        self._data_head = (0, 0)  # its stream and flags
        self._block: tuple[int, int, bytes] | None = None  # stream, flags, and what came of it
        self._next_stream = 1
        self._window = self._first_window = frames.DEFAULT_WINDOW
        self._peer_frame_size = frames.DEFAULT_FRAME_SIZE
        self._unrenewed = self._renewed = 0  # bytes of DATA
        self._recognised = self._failed = False
        self.stream_limit = LARGEST
        self.greeted = False
        self.closing = False
        self._output: list[bytes | memoryview] = [
            frames.PREFACE,
            frames.settings_frame(
                (frames.ENABLE_PUSH, 0),
                (frames.INITIAL_WINDOW_SIZE, LARGEST),
                (frames.MAX_FRAME_SIZE, settings.frame_size),
            ),
            frame(frames.WINDOW_UPDATE, 0, 0, NUMBER.pack(LARGEST - frames.DEFAULT_WINDOW)),
        ]

    @property
    def outstanding(self) -> int:
        """Requests without an end of their stream so far."""
        return len(self._responses)

    @property
    def data_received(self) -> int:
        """Bytes of DATA so far."""
        return self._renewed + self._unrenewed

    @property
    def used(self) -> bool:
        """Whether there was any request."""
        return self._next_stream > 1

    def has_room(self) -> bool:
        """Whether the server takes one more request now."""
        return len(self._responses) < self.stream_limit and not self.closing

    def request(self, block: bytes, body: bytes, prefix: bytes = b"") -> int:
        """The stream of a request with this header block (at most 16 KiB), whose body is ``prefix``
        and then ``body``. Only where ``has_room()``.
        """
        stream = self._next_stream
        self._next_stream = stream + 2
        if self._next_stream >= LARGEST:
            self.closing = True
        self._responses[stream] = Response(stream, ABSENT, ABSENT, bytearray())
        size = len(prefix) + len(body)
        head = HEAD.pack(len(block) << 8 | _HEADERS, _END_HEADERS, stream)
        if size <= self._peer_frame_size and size <= self._window and size <= self._first_window:
            self._window -= size
            data = HEAD.pack(size << 8 | _DATA, _END_STREAM, stream)
            self._output += (head, block, data, prefix, body)
        else:
            self._output += (head, block)
            self._unsent[stream] = _Unsent(prefix + body, self._first_window)
            self._send_more()
        return stream

    def cancel(self, stream: int) -> None:
        """Give up a request; nothing more is told of it."""
        if self._responses.pop(stream, None) is not None:
            self._unsent.pop(stream, None)
            self._output.append(frame(frames.RST_STREAM, 0, stream, NUMBER.pack(frames.CANCEL)))

    def ping(self) -> None:
        """Have the server send something."""
        self._output.append(frame(frames.PING, 0, 0, bytes(8)))

    def take_output(self) -> bytes:
        """What is to be sent now."""
        if not self._output:
            return b""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes, which may end anywhere, bring to an end."""
        if self._failed:
            return []
        try:
            self._parse(data)
        except (hpack.HPACKError, struct.error, IndexError, ValueError) as error:
            self._fail(f"the server broke the HTTP/2 protocol: {error or type(error).__name__}")
        events, self._events = self._events, []
        return events

    def _parse(self, data: bytes) -> None:
        position = 0
        if self._data_rest:
            position = self._take_data(data, 0, self._data_rest, *self._data_head)
        elif self._buffer:
            data = self._buffer + data
        size, largest, unpack = len(data), self._settings.frame_size, HEAD.unpack_from
        if not self._recognised and size > 3:
            if data[3] != frames.SETTINGS:  # perhaps text, whose "length" may never come
                self._fail(_OTHER_PROTOCOL)
                return
            self._recognised = True
        while (start := position + 9) <= size:
            word, flags, stream = unpack(data, position)
            kind, length = word & 255, word >> 8
            end = start + length
            if length > largest:
                raise ValueError(f"a frame of {length} bytes")
            if self._block is not None and kind != _CONTINUATION:
                raise ValueError("a header block is not complete")
            if kind == _DATA and not flags & _PADDED:
                position = self._take_data(data, start, end, stream, flags)
                continue
            if end > size:
                break
            if kind == _HEADERS and flags & _END_HEADERS and not flags & _UNUSUAL:
                self._take_headers(stream, flags, data[start:end])
            else:
                self._take_frame(kind, flags, stream & LARGEST, data[start:end])
            position = end
        self._buffer = data[position:]

    def _take_data(self, data: bytes, start: int, end: int, stream: int, flags: int) -> int:
        """Take what is there of a DATA frame's payload; the position behind it."""
        size = len(data)
        if end > size:
            self._data_rest, self._data_head = end - size, (stream, flags)
            end = size
        else:
            self._data_rest = 0
        self._unrenewed += end - start
        if self._unrenewed > self._renew_after:
            self._renew_window()
        self._add_to_body(stream & LARGEST, flags, data, start, end)
        return end

    def _renew_window(self) -> None:
        self._output.append(frame(frames.WINDOW_UPDATE, 0, 0, NUMBER.pack(self._unrenewed)))
        self._renewed += self._unrenewed
        self._unrenewed = 0

    def _add_to_body(self, stream: int, flags: int, data: bytes, start: int, end: int) -> None:
        response = self._responses.get(stream)
        if response is None:
            return
        room = self._keep - response.size
        if room > 0:
            response.body += data[start : min(end, start + room)]
        response.size += end - start
        if flags & _END_STREAM and not self._data_rest:
            self._end(response)

    def _take_headers(self, stream: int, flags: int, block: bytes) -> None:
        headers = self._known_headers.get(block)
        if headers is None:
            if len(block) > self._settings.header_block_size:
                raise ValueError("a header block without end")
            headers = self._reader.read(block)
        response = self._responses.get(stream & LARGEST)
        if response is None:
            return
        if flags & _END_STREAM:
            if response.head is ABSENT:
                response.head = headers
            else:
                response.trailers = headers
            self._end(response)
        elif response.head is ABSENT and headers.get(b":status", b"")[:1] != b"1":
            response.head = headers  # not informational, as 103 is

    def _end(self, response: Response) -> None:
        stream = response.stream
        del self._responses[stream]
        if self._unsent and self._unsent.pop(stream, None) is not None:
            self._output.append(frame(frames.RST_STREAM, 0, stream, NUMBER.pack(frames.CANCEL)))
        self._events.append(response)

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """All but the frames of which the usual reply consists."""
        match kind:
            case frames.DATA:
                self._unrenewed += len(payload)
                self._renew_window()  # padding is too rare for a threshold
                content = _unpadded(payload, flags)
                self._add_to_body(stream, flags, content, 0, len(content))
            case frames.HEADERS:
                payload = _unpadded(payload, flags)
                block = payload[5:] if flags & frames.WITH_PRIORITY else payload
                self._continue_block(stream, flags, flags, block)
            case frames.CONTINUATION:
                if self._block is None or self._block[0] != stream:
                    raise ValueError("CONTINUATION without HEADERS")
                _, first_flags, begun = self._block
                self._continue_block(stream, first_flags, flags, begun + payload)
            case frames.SETTINGS if not flags & frames.ACK:
                self._take_settings(payload)
            case frames.PING if not flags & frames.ACK:
                self._output.append(frame(frames.PING, frames.ACK, 0, payload))
            case frames.WINDOW_UPDATE:
                self._grow_window(stream, NUMBER.unpack(payload)[0] & LARGEST)
            case frames.RST_STREAM:
                self._reset(stream, NUMBER.unpack(payload)[0])
            case frames.GOAWAY:
                last, code = struct.unpack_from(">II", payload)
                self._go_away(last & LARGEST, code, payload[8:])
            case frames.PUSH_PROMISE:
                raise ValueError("PUSH_PROMISE, which was forbidden")

    def _continue_block(self, stream: int, first_flags: int, flags: int, block: bytes) -> None:
        if len(block) > self._settings.header_block_size:
            raise ValueError("a header block without end")
        if flags & _END_HEADERS:
            self._block = None
            self._take_headers(stream, first_flags, block)
        else:
            self._block = (stream, first_flags, block)

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == frames.MAX_CONCURRENT_STREAMS:
                self.stream_limit = value
            elif name == frames.INITIAL_WINDOW_SIZE:
                if value > LARGEST:
                    raise ValueError(f"a window of {value} bytes")
                for unsent in self._unsent.values():
                    unsent.window += value - self._first_window
                self._first_window = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                    raise ValueError(f"a largest frame of {value} bytes")
                self._peer_frame_size = value
        self._output.append(frame(frames.SETTINGS, frames.ACK, 0))
        self.greeted = True
        self._send_more()
        self._events.append(SettingsReceived())

    def _grow_window(self, stream: int, size: int) -> None:
        if stream == 0:
            self._window += size
        elif stream in self._unsent:
            self._unsent[stream].window += size
        self._send_more()

    def _send_more(self) -> None:
        """Of what waits, as much as the windows allow."""
        for stream, unsent in list(self._unsent.items()):
            while size := max(
                0, min(len(unsent.body), self._peer_frame_size, self._window, unsent.window)
            ):
                last = size == len(unsent.body)
                head = HEAD.pack(size << 8 | _DATA, _END_STREAM if last else 0, stream)
                self._output += (head, unsent.body[:size])
                self._window -= size
                unsent.window -= size
                unsent.body = unsent.body[size:]
                if last:
                    del self._unsent[stream]

    def _reset(self, stream: int, code: int) -> None:
        if self._responses.pop(stream, None) is not None:
            self._unsent.pop(stream, None)
            self._events.append(StreamReset(stream, code))

    def _go_away(self, last: int, code: int, text: bytes) -> None:
        self.closing = True
        unprocessed = tuple(stream for stream in self._responses if stream > last)
        for stream in unprocessed:
            del self._responses[stream]
            self._unsent.pop(stream, None)
        shown = text.decode(errors="replace")[: self._settings.goaway_text]
        self._events.append(Goaway(unprocessed, code, shown))

    def _fail(self, reason: str) -> None:
        self._failed = self.closing = True
        self._events.append(ProtocolViolated(reason))


def _unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & _PADDED:
        return payload
    padding = payload[0]
    if padding >= len(payload):
        raise ValueError("more padding than there is room for")
    return payload[1 : len(payload) - padding]
