"""The connection against h2 as the server, frame by frame where h2 would not send such."""

import random
import time
from collections.abc import Callable

import h2.events
import h2.settings
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import HeadersFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2.peer import BLOCK, OK, TRAILERS, Peer
from tuner.http2 import frames
from tuner.http2.connection import ClientConnection, Http2Settings
from tuner.http2.events import (
    Event,
    Goaway,
    ProtocolViolated,
    Response,
    SettingsReceived,
    StreamReset,
)
from tuner.http2.frames import LARGEST, frame, settings_frame
from tuner.http2.headers import HeaderReader, header_block

HEAD = {name.encode(): value.encode() for name, value in OK}
TAIL = {b"grpc-status": b"0"}


def test_h2_reads_requests_and_the_reply_comes_back_with_its_trailers() -> None:
    peer = Peer()
    for number in range(4):
        stream = peer.client.request(BLOCK, b"body", b"prefix ")
        peer.exchange()
        assert peer.requests[number][b":path"] == b"/p"
        assert peer.bodies()[stream] == b"prefix body"
        peer.reply(stream, bytes([number]) * 5)
        peer.exchange()
        assert peer.events[-1] == Response(stream, HEAD, TAIL, bytearray([number] * 5), 5)
    assert (peer.client.outstanding, peer.client.used) == (0, True)


def test_a_reply_may_be_one_block_or_end_with_its_data() -> None:
    peer = Peer()
    first, second = peer.client.request(BLOCK, b""), peer.client.request(BLOCK, b"")
    peer.exchange()
    peer.server.send_headers(first, OK + TRAILERS, end_stream=True)
    peer.server.send_headers(second, [(":status", "103")])
    peer.server.send_headers(second, OK)
    peer.server.send_data(second, b"abc", end_stream=True)
    peer.exchange()
    assert peer.events[-2:] == [
        Response(first, HEAD | TAIL, {}, bytearray()),
        Response(second, HEAD, {}, bytearray(b"abc"), 3),
    ]


@pytest.mark.parametrize("keep", [0, 10, 20_000, 100_000, 200_000, None])
def test_of_a_body_as_much_is_kept_as_is_asked_for(keep: int | None) -> None:
    peer = Peer(ours=Http2Settings(keep=keep))
    stream = peer.client.request(BLOCK, b"")
    peer.exchange()
    peer.reply(stream, bytes(100_000))
    peer.exchange()
    kept = 100_000 if keep is None else min(keep, 100_000)
    assert peer.events[-1] == Response(stream, HEAD, TAIL, bytearray(kept), 100_000)
    assert peer.client.data_received == 100_000


@pytest.mark.parametrize("window", [1, 1000, 65_535, 1 << 20])
def test_requests_of_all_sizes_keep_within_the_windows(window: int) -> None:
    """h2 raises where more comes than it has allowed."""
    peer = Peer({SettingCodes.INITIAL_WINDOW_SIZE: window})
    rng = random.Random(window)
    sizes = [0, 1, 2000] if window == 1 else [0, 16_384, 16_385, 65_535, 65_536, 300_000]
    bodies = [rng.randbytes(size) for size in sizes]
    streams = [peer.client.request(BLOCK, body) for body in bodies]
    peer.exchange()
    assert peer.bodies() == dict(zip(streams, bodies, strict=True))


def test_an_exhausted_connection_window_holds_all_streams_back() -> None:
    peer = Peer({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    streams = [peer.client.request(BLOCK, bytes(50_000)) for _ in range(3)]
    peer.exchange(acknowledge=False)
    assert list(peer.bodies()) == streams[:1]
    received = sum(len(event.data) for event in peer.of(h2.events.DataReceived))
    assert received == frames.DEFAULT_WINDOW
    peer.server.increment_flow_control_window(100_000)
    peer.exchange(acknowledge=False)
    assert sorted(peer.bodies()) == streams


def test_large_replies_are_taken_and_their_window_is_renewed() -> None:
    peer = Peer(ours=Http2Settings(renew_window_after=300_000))
    stream = peer.client.request(BLOCK, b"")
    peer.exchange()
    body = random.Random(1).randbytes(5_000_000)
    assert peer.server.max_outbound_frame_size == 1 << 20
    peer.reply(stream, body, pad=7)
    peer.exchange()
    response = peer.events[-1]
    assert isinstance(response, Response)
    assert response.body == body
    updates = peer.of(h2.events.WindowUpdated)[1:]  # the first is the greeting's
    assert sum(update.delta for update in updates) >= 5_000_000 - 300_000


def test_settings_may_change_while_a_request_waits() -> None:
    peer = Peer({SettingCodes.INITIAL_WINDOW_SIZE: 10_000})
    stream = peer.client.request(BLOCK, bytes(60_000))
    peer.exchange(acknowledge=False)
    for window in (5_000, 20_000, 65_535):  # the first makes the stream's window negative
        peer.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        peer.exchange(acknowledge=False)
        received = sum(len(event.data) for event in peer.of(h2.events.DataReceived))
        assert received == max(10_000, min(window, 60_000))
    assert list(peer.bodies()) == [stream]
    peer.server.update_settings({SettingCodes.MAX_FRAME_SIZE: 40_000})
    peer.server.increment_flow_control_window(100_000)
    peer.exchange()
    peer.client.request(BLOCK, bytes(40_000))
    peer.exchange()
    assert len(peer.of(h2.events.DataReceived)[-1].data) == 40_000


def test_the_limit_of_streams_is_told_and_may_change() -> None:
    fresh = ClientConnection()
    assert fresh.has_room()
    assert not fresh.greeted
    peer = Peer({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    assert isinstance(peer.events[0], SettingsReceived)
    assert peer.client.greeted
    stream = peer.client.request(BLOCK, b"")
    assert not peer.client.has_room()
    peer.exchange()
    peer.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    peer.exchange()
    assert peer.client.has_room()
    peer.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 0})
    peer.exchange()
    peer.reply(stream)
    peer.exchange()
    assert not peer.client.has_room()


def test_goaway_names_what_was_not_processed_and_lets_the_rest_end() -> None:
    peer = Peer()
    streams = [peer.client.request(BLOCK, b"") for _ in range(3)]
    peer.exchange()
    code, text = ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings"
    peer.reply(streams[0])
    peer.server.send_headers(streams[1], OK)
    early = peer.server.data_to_send()
    peer.server.close_connection(code, text, last_stream_id=streams[1])
    events = peer.client.receive(early + peer.server.data_to_send())
    events += peer.client.receive(frame(frames.HEADERS, 5, streams[1], header_block(TRAILERS)))
    assert [event.stream for event in events if isinstance(event, Response)] == streams[:2]
    goaway = events[1]
    assert isinstance(goaway, Goaway)
    assert goaway.unprocessed == (streams[2],)
    assert goaway.reason == "the server closed the connection: ENHANCE_YOUR_CALM too_many_pings"
    assert peer.client.closing
    assert not peer.client.has_room()


def test_a_stream_is_reset_by_either_side() -> None:
    peer = Peer()
    first, second = peer.client.request(BLOCK, bytes(200_000)), peer.client.request(BLOCK, b"")
    peer.exchange(acknowledge=False)
    peer.server.reset_stream(first, ErrorCodes.REFUSED_STREAM)
    peer.exchange()
    assert peer.events[-1] == StreamReset(first, frames.REFUSED_STREAM)
    assert "REFUSED_STREAM" in peer.events[-1].reason
    peer.client.cancel(second)
    peer.client.cancel(second)
    peer.exchange()
    reset = peer.of(h2.events.StreamReset)
    assert [(event.stream_id, event.error_code) for event in reset] == [(second, ErrorCodes.CANCEL)]
    assert peer.client.outstanding == 0
    assert "4711" in StreamReset(1, 4711).reason


def test_what_comes_for_a_cancelled_stream_is_left_out_and_keeps_the_tables_in_step() -> None:
    peer = Peer()
    first, second = peer.client.request(BLOCK, b""), peer.client.request(BLOCK, b"")
    peer.exchange()
    peer.client.cancel(first)
    peer.reply(first, b"abc")
    peer.reply(second, b"abc")
    peer.exchange()
    assert peer.events[1:] == [Response(second, HEAD, TAIL, bytearray(b"abc"), 3)]


def test_a_reply_before_the_request_is_whole_ends_it() -> None:
    peer = Peer()
    stream = peer.client.request(BLOCK, bytes(200_000))
    peer.exchange(acknowledge=False)
    peer.reply(stream)
    peer.exchange(acknowledge=False)
    assert isinstance(peer.events[-1], Response)
    assert peer.of(h2.events.StreamReset)[0].stream_id == stream
    peer.server.increment_flow_control_window(100_000)
    peer.exchange()
    assert stream not in peer.bodies()


def test_pings_are_answered_by_both() -> None:
    peer = Peer()
    peer.server.ping(b"12345678")
    peer.client.ping()
    peer.exchange()
    assert [event.ping_data for event in peer.of(h2.events.PingAckReceived)] == [b"12345678"]
    assert [event.ping_data for event in peer.of(h2.events.PingReceived)] == [bytes(8)]


def test_padding_and_priority_are_left_out() -> None:
    peer = Peer()
    stream = peer.client.request(BLOCK, b"")
    peer.exchange()
    padded = HeadersFrame(stream, header_block(OK), flags=["END_HEADERS", "PADDED", "PRIORITY"])
    padded.pad_length, padded.stream_weight = 9, 3
    peer.events += peer.client.receive(padded.serialize())
    peer.events += peer.client.receive(frame(frames.DATA, 8, stream, b"\x02abc\0\0"))
    peer.events += peer.client.receive(frame(frames.DATA, 1, 1 << 31 | stream))  # a reserved bit
    assert peer.events[-1] == Response(stream, HEAD, {}, bytearray(b"abc"), 3)


def test_long_headers_come_in_continuations() -> None:
    """h2 cuts what is longer than a frame; both tables still agree at the next reply."""
    peer = Peer(ours=Http2Settings(frame_size=1 << 14))
    text = "".join(map(chr, random.Random(2).choices(range(33, 127), k=30_000)))
    for _ in range(2):
        stream = peer.client.request(BLOCK, b"")
        peer.exchange()
        peer.server.send_headers(stream, [*OK, ("long", text)])
        peer.server.send_headers(stream, TRAILERS, end_stream=True)
        peer.exchange()
        head = HEAD | {b"long": text.encode()}
        assert peer.events[-1] == Response(stream, head, TAIL, bytearray())


GREETING = settings_frame()
WINDOW, FRAME = frames.INITIAL_WINDOW_SIZE, frames.MAX_FRAME_SIZE


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not use HTTP/2"),
        (GREETING + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", "a frame of 16777215 bytes"),
        (GREETING + frame(frames.CONTINUATION, 4, 1), "CONTINUATION without HEADERS"),
        (GREETING + frame(1, 0, 1, b"a") + frame(0, 0, 1), "a header block is not complete"),
        (GREETING + frame(1, 0, 1, b"a") + frame(9, 4, 3), "CONTINUATION without HEADERS"),
        (GREETING + frame(1, 0, 1, bytes(40_000)) + frame(9, 0, 1, bytes(40_000)), "without end"),
        (GREETING + frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), "broke the HTTP/2 protocol"),
        (GREETING + frame(1, 4, 1, b"\xff\xff"), "broke the HTTP/2 protocol"),
        (GREETING + frame(0, 8, 1, b"\x03ab"), "more padding than there is room for"),
        (GREETING + frame(0, 8, 1), "broke the HTTP/2 protocol"),
        (GREETING + frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), "PUSH_PROMISE"),
        (GREETING + frame(frames.RST_STREAM, 0, 1, b"abc"), "broke the HTTP/2 protocol"),
        (GREETING + frame(frames.WINDOW_UPDATE, 0, 0, b"abc"), "broke the HTTP/2 protocol"),
        (GREETING + frame(frames.GOAWAY, 0, 0, b"abc"), "broke the HTTP/2 protocol"),
        (frame(frames.SETTINGS, 0, 0, b"abc"), "broke the HTTP/2 protocol"),
        (settings_frame((WINDOW, LARGEST + 1)), "a window of 2147483648 bytes"),
        (settings_frame((FRAME, 1)), "a largest frame of 1 bytes"),
    ],
)
def test_what_is_not_http2_ends_the_connection(received: bytes, reason: str) -> None:
    client = ClientConnection()
    client.request(BLOCK, b"")
    event = client.receive(received)[-1]
    assert isinstance(event, ProtocolViolated)
    assert reason in event.reason
    assert client.closing
    assert client.receive(GREETING) == []


def test_unknown_frames_and_settings_are_left_out() -> None:
    client = ClientConnection()
    received = settings_frame((4711, 1)) + frame(77, 255, 1, b"abc") + frame(2, 0, 1, bytes(5))
    assert client.receive(received) == [SettingsReceived()]


STREAMS = (1, 3, 5, 7, 9, 11)
Step = Callable[[Peer], None]


def _replies(stream: int, size: int, pad: int | None) -> Step:
    return lambda peer: peer.reply(stream, bytes(size), pad)


steps = st.one_of(
    st.just(lambda peer: peer.server.ping(b"12345678")),
    st.builds(
        lambda code, value: lambda peer: peer.server.update_settings({code: value}),
        st.sampled_from([SettingCodes.MAX_CONCURRENT_STREAMS, SettingCodes.INITIAL_WINDOW_SIZE]),
        st.integers(0, 200_000),
    ),
    st.builds(
        lambda size: lambda peer: peer.server.increment_flow_control_window(size),
        st.integers(1, 100_000),
    ),
)


@st.composite
def transcripts(draw: st.DrawFn) -> bytes:
    """What h2 says to requests, some of which are too large for the windows; perhaps damaged."""
    peer = _asked()
    peer.exchange(acknowledge=False)
    peer.sent.clear()
    for stream in draw(st.lists(st.sampled_from(STREAMS), unique=True)):
        draw(steps)(peer)
        if draw(st.booleans()):
            peer.reply(stream, bytes(draw(st.integers(0, 3000))), draw(st.none() | st.just(9)))
        else:
            peer.server.reset_stream(stream, draw(st.sampled_from(list(ErrorCodes))))
    if draw(st.booleans()):
        last = draw(st.sampled_from(STREAMS))
        peer.server.close_connection(ErrorCodes.NO_ERROR, b"bye", last_stream_id=last)
    said = bytearray(peer.server.data_to_send())
    if said and draw(st.booleans()):
        said[draw(st.integers(0, len(said) - 1))] = draw(st.integers(0, 255))
    return bytes(said)


def _asked() -> Peer:
    peer = Peer()
    for stream in STREAMS:
        assert peer.client.request(BLOCK, bytes(9_000 * stream)) == stream
    return peer


@settings(max_examples=150, deadline=None)
@given(transcripts(), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(said: bytes, data: st.DataObject) -> None:
    keep = data.draw(st.none() | st.integers(0, 20_000))
    positions = st.integers(0, len(said))
    cuts = data.draw(st.one_of(st.lists(positions, max_size=40).map(sorted), st.just(None)))
    cuts = list(range(len(said))) if cuts is None else cuts  # byte by byte
    whole = _played([said], keep)
    parts = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    assert _played(parts, keep) == whole


def _played(parts: list[bytes], keep: int | None) -> tuple[list[Event], bytes]:
    """Events and output of a connection that receives these bytes."""
    client = ClientConnection(Http2Settings(keep=keep))
    client.receive(settings_frame())
    for stream in STREAMS:
        client.request(BLOCK, bytes(9_000 * stream))
    output = client.take_output()
    events = []
    for part in parts:
        events += client.receive(part)
        output += client.take_output()
    return events, output


def test_a_header_block_of_any_kind_of_frame_has_a_limit() -> None:
    """Else a number without end would keep hpack busy for minutes."""
    endless = b"\xff" * (1 << 17)
    for frames_of_it in (
        frame(frames.HEADERS, frames.END_HEADERS, 1, endless),
        frame(frames.HEADERS, 0, 1, endless),
        frame(frames.HEADERS, frames.END_HEADERS | frames.WITH_PRIORITY, 1, bytes(5) + endless),
    ):
        client = ClientConnection()
        client.request(BLOCK, b"")
        began = time.monotonic()
        events = client.receive(settings_frame() + frames_of_it)
        assert "a header block without end" in events[-1].reason  # type: ignore[union-attr]
        assert time.monotonic() - began < 10


def test_header_blocks_are_remembered_up_to_a_limit() -> None:
    reader = HeaderReader()
    for number in range(1000):
        reader.read(bytes(0x82 + (number >> shift & 3) for shift in range(0, 10, 2)))
    assert 0 < len(reader.known) <= 256


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 16_000])
def test_h2_reads_header_blocks_of_all_lengths(size: int) -> None:
    peer = Peer()
    peer.client.request(BLOCK + header_block([("text", "v" * size)]), b"")
    peer.exchange()
    assert peer.requests[0][b"text"] == b"v" * size
