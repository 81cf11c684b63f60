"""Both clients against real servers, and the gRPC client against servers that misbehave."""

# ruff: noqa: SIM117

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.load.http2_servers import Calls, Outcomes, grpc_server, relay, tcp_server
from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.http2.frames import frame
from tuner.http2.headers import header_block
from tuner.load.grpc_connection import GrpcConnection
from tuner.load.target import Transport
from tuner.model.config import read_config
from tuner.servers.local import LocalLauncher

SETTINGS, HEADERS, RESET, GOAWAY = 4, 1, 3, 7
REPLY = header_block([(":status", "200"), ("content-type", "application/grpc")])
FINE = header_block([("grpc-status", "0")])
DATA = frame(0, 0, 1, bytes(5))


async def _answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    match request:
        case b"bad":
            await context.abort(grpc.StatusCode.INTERNAL, "no – good")
        case b"late bad":
            await context.send_initial_metadata((("a", "b" * 5000),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "")
        case b"slow":
            await asyncio.sleep(0.2)
    return request


def _calls(pool: tuple[bytes, ...], count: int, *options: tuple[str, Any]) -> Outcomes:
    async def run() -> Outcomes:
        async with grpc_server(_answer, *options) as (_, address):
            async with Calls(Transport.GRPC, address, pool) as calls:
                calls.send(*range(count))
                return await calls.come(count)

    return uvloop.run(run())


def test_each_grpc_request_has_its_outcome_also_large_ones_and_errors() -> None:
    pool = (b"a", b"bad", b"x" * 600_000, b"late bad")
    found = _calls(pool, 200)
    expected = [(True, ""), (False, "no – good"), (True, ""), (False, "gRPC status 14")]
    assert found == {index: expected[index % 4] for index in range(200)}


def test_several_megabytes_go_both_ways() -> None:
    sizes = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    found = _calls((b"x" * 9_000_000, b"y" * 16_379, b"z" * 16_380), 6, *sizes)
    assert found == dict.fromkeys(range(6), (True, ""))


def test_many_outstanding_share_one_connection() -> None:
    async def run() -> None:
        peers = set()

        async def answer(request: bytes, context: Any) -> bytes:
            peers.add(context.peer())
            return await _answer(request, context)

        async with grpc_server(answer) as (_, address):
            async with Calls(Transport.GRPC, address, (b"slow",)) as calls:
                calls.send(*range(900))
                assert await calls.come(900) == dict.fromkeys(range(900), (True, ""))
        assert len(peers) == 1

    uvloop.run(run())


def test_a_limit_of_streams_makes_more_connections_not_waiting() -> None:
    async def run() -> None:
        peers, inside, most = set(), 0, 0
        release = asyncio.Event()

        async def answer(request: bytes, context: Any) -> bytes:
            nonlocal inside, most
            peers.add(context.peer())
            inside += 1
            most = max(most, inside)
            if most == 10:
                release.set()
            await release.wait()
            inside -= 1
            return request

        async with grpc_server(answer, ("grpc.max_concurrent_streams", 4)) as (_, address):
            async with Calls(Transport.GRPC, address, (b"a",)) as calls:
                calls.send(*range(10))
                assert await calls.come(10) == dict.fromkeys(range(10), (True, ""))
        assert len(peers) == 3

    uvloop.run(run())


def test_a_server_that_shuts_down_fails_what_it_had_begun_and_no_more() -> None:
    async def run() -> None:
        began = asyncio.Event()

        async def answer(request: bytes, _: Any) -> bytes:
            began.set()
            await asyncio.sleep(20 if request == b"slow" else 0)
            return request

        async with grpc_server(answer) as (server, address):
            async with Calls(Transport.GRPC, address, (b"slow", b"a")) as calls:
                calls.send(0, 1)
                await asyncio.wait_for(began.wait(), 5)
                await calls.come(1)
                await server.stop(0.05)
                found = await calls.come(2)
                assert found[1] == (True, "")
                assert not found[0][0]
                assert found[0][1]
                calls.send(2)
                ok, said = (await calls.come(3))[2]
                assert not ok
                assert said

    uvloop.run(run())


def _scripted(
    *connections: bytes, then: bytes = b"", count: int = 1, close: bool = False
) -> tuple[Outcomes, int]:
    """Outcomes at a server that says these bytes, one text per connection, to the first request,
    and ``then`` to the second; and how many connections were made.
    """

    async def run() -> tuple[Outcomes, int]:
        made = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal made
            script = connections[min(made, len(connections) - 1)]
            made += 1
            writer.write(script[: 9 + script[2]])
            await reader.readuntil(b"/inference.GRPCInferenceService/ModelInfer")
            writer.write(script[9 + script[2] :])
            if then:
                await reader.readuntil(b"/inference.GRPCInferenceService/ModelInfer")
                writer.write(then)
            await writer.drain()
            if not close:
                await reader.read()
                await asyncio.sleep(5)

        async with tcp_server(talk) as address:
            async with Calls(Transport.GRPC, address, (b"a",)) as calls:
                calls.send(*range(count))
                return await calls.come(count), made

    return uvloop.run(run())


GREETING = frame(SETTINGS, 0, 0)


def _whole(head: bytes, trailers: bytes) -> bytes:
    return GREETING + frame(HEADERS, 4, 1, head) + DATA + frame(HEADERS, 5, 1, trailers)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (_whole(REPLY, FINE), (True, "")),
        (_whole(header_block([(":status", "100")]), REPLY + FINE), (False, "has no message")),
        (_whole(header_block([(":status", "503")]), b""), (False, "HTTP status 503")),
        (_whole(header_block([(":status", "404")]), FINE), (False, "HTTP status 404")),
        (_whole(header_block([(":status", "401")]), b""), (False, "HTTP status 401")),
        (
            _whole(REPLY, header_block([("grpc-status", "16"), ("grpc-message", "who?")])),
            (False, "gRPC status 16: who?"),
        ),
        (_whole(REPLY, b""), (False, "no gRPC status")),
        (GREETING + frame(HEADERS, 5, 1, REPLY + FINE), (False, "has no message")),
        (
            _whole(REPLY, header_block([("grpc-status", "2"), ("grpc-message", "a%FF%20b")])),
            (False, "a� b"),
        ),
        (GREETING + frame(HEADERS, 4, 1, REPLY) + frame(0, 1, 1, bytes(5)), (False, "no gRPC")),
        (GREETING + frame(RESET, 0, 1, bytes([0, 0, 0, 8])), (False, "(CANCEL)")),
        (GREETING + frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), (False, "broke the HTTP/2")),
        (GREETING + frame(9, 4, 1, b""), (False, "CONTINUATION without HEADERS")),
        (GREETING + b"\xff\xff\xff\x01\x04\x00\x00\x00\x01", (False, "frame of 16777215 bytes")),
        (GREETING + frame(RESET, 0, 1, b""), (False, "broke the HTTP/2 protocol")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(60), (False, "does not use HTTP/2")),
    ],
)
def test_what_a_server_may_say(script: bytes, expected: tuple[bool, str]) -> None:
    found, _ = _scripted(script)
    assert found[0][0] == expected[0]
    assert expected[1] in found[0][1]


def test_a_header_block_may_come_in_parts() -> None:
    begun = GREETING + frame(HEADERS, 4, 1, REPLY) + DATA
    parts = frame(HEADERS, 1, 1, FINE[:4]) + frame(9, 0, 1, FINE[4:9]) + frame(9, 4, 1, FINE[9:])
    assert _scripted(begun + parts)[0] == {0: (True, "")}


def test_padding_and_priority_are_left_out() -> None:
    block = bytes([2]) + bytes(5) + REPLY + bytes(2)
    padded = frame(HEADERS, 4 | 8 | 32, 1, block) + DATA + frame(HEADERS, 5, 1, FINE)
    assert _scripted(GREETING + padded)[0] == {0: (True, "")}


def test_a_refused_request_is_sent_once_more() -> None:
    refused = frame(RESET, 0, 1, bytes([0, 0, 0, 7]))
    again = frame(HEADERS, 4, 3, REPLY) + frame(HEADERS, 5, 3, FINE)
    assert _scripted(GREETING + refused, then=again)[0] == {0: (True, "")}
    found, made = _scripted(GREETING + refused, then=frame(RESET, 0, 3, bytes([0, 0, 0, 7])))
    assert (found, made) == ({0: (False, "the server reset the request (REFUSED_STREAM)")}, 1)


def test_what_a_goaway_leaves_out_is_sent_once_more() -> None:
    away = GREETING + frame(GOAWAY, 0, 0, bytes(8))
    found, made = _scripted(away, _whole(REPLY, FINE))
    assert (found, made) == ({0: (True, "")}, 2)
    calm = frame(GOAWAY, 0, 0, bytes(7) + bytes([11]) + b"too_many_pings")
    found, made = _scripted(GREETING + calm)
    said = "the server closed the connection: ENHANCE_YOUR_CALM too_many_pings"
    assert (found, made) == ({0: (False, said)}, 2)


def test_a_server_without_room_is_not_called_again_and_again() -> None:
    async def run() -> None:
        made = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal made
            made += 1
            writer.write(frame(SETTINGS, 0, 0, bytes([0, 3, 0, 0, 0, 0])))
            await reader.readuntil(frame(SETTINGS, 1, 0))
            await asyncio.sleep(0.05)
            writer.write(frame(SETTINGS, 0, 0, bytes([0, 3, 0, 0, 0, 1])))
            for number in (1, 3, 5):
                await reader.readuntil(frame(0, 1, number, b"\0\0\0\0\1a"))
                writer.write(frame(HEADERS, 4, number, REPLY) + frame(HEADERS, 5, number, FINE))
            await reader.read()

        async with tcp_server(talk) as address:
            async with Calls(Transport.GRPC, address, (b"a",)) as calls:
                calls.send(0)
                await asyncio.sleep(0.02)
                assert calls.found == {}
                await calls.come(1)
                calls.send(1)
                await calls.come(2)
                calls.send(2)
                assert await calls.come(3) == dict.fromkeys(range(3), (True, ""))
        assert made == 1

    uvloop.run(run())


def test_a_server_that_hangs_up_at_once_fails_the_request() -> None:
    found, made = _scripted(GREETING, close=True)
    assert (found[0][0], made) == (False, 1)


class _Wire:
    """The part of a transport that a connection uses; what is written goes nowhere."""

    def write(self, _: bytes) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...
    def is_closing(self) -> bool:
        return False


class _Owner:
    waiting = ()

    def room(self) -> None: ...
    def refused(self, index: int, said: str) -> None: ...
    def leaving(self, connection: GrpcConnection) -> None: ...
    def lost(self, connection: GrpcConnection, said: str) -> None: ...


COUNT = 12


@pytest.fixture(scope="module")
def recorded() -> bytes:
    """What gRPC's server says to requests that are sent one after another."""

    async def run() -> bytes:
        given_back = bytearray()
        async with grpc_server(_answer) as (_, there):
            async with tcp_server(relay(there, given=given_back)) as address:
                async with Calls(Transport.GRPC, address, (b"a", b"bad", b"x" * 40_000)) as calls:
                    for index in range(COUNT):
                        calls.send(index)
                        await calls.come(index + 1)
        return bytes(given_back)

    return uvloop.run(run())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_replies_mean_the_same_however_they_are_cut(recorded: bytes, data: st.DataObject) -> None:
    found: Outcomes = {}

    def done(index: int, ok: bool, said: str) -> None:
        found[index] = (ok, said)

    connection = GrpcConnection(_Owner(), done)
    connection.connection_made(_Wire())  # type: ignore[arg-type]
    for index in range(COUNT):
        connection.send(index, b"", b"")
    cuts = data.draw(st.lists(st.integers(0, len(recorded)), max_size=40).map(sorted))
    for begin, end in zip([0, *cuts], [*cuts, len(recorded)], strict=True):
        connection.data_received(recorded[begin:end])
    expected = [(True, ""), (False, "no – good"), (True, "")]
    assert found == {index: expected[index % 3] for index in range(COUNT)}


@pytest.fixture(scope="module")
def triton(
    embedded_triton: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningTriton]:
    folder = repository / "emulated_gpu"
    with LocalLauncher() as launcher:
        deployment = TritonDeployment(
            launcher, folder, read_config(folder), Transport.HTTP, Inputs()
        )
        with deployment.start(None, tmp_path_factory.mktemp("triton") / "log") as running:
            yield running


@pytest.mark.triton
@pytest.mark.parametrize("protocol", Transport)
def test_triton_answers_good_requests_and_says_what_is_wrong_with_bad_ones(
    triton: RunningTriton, protocol: Transport
) -> None:
    target = triton.towards(protocol).target
    wrong = target.requests[0].replace(b"emulated_gpu", b"emulated_cpu")

    async def run() -> Outcomes:
        async with Calls(protocol, target.address, (target.requests[0], wrong)) as calls:
            calls.send(*range(100))
            return await calls.come(100)

    found = uvloop.run(run())
    assert all(found[index] == (True, "") for index in range(0, 100, 2))
    assert all("emulated_cpu" in found[index][1] for index in range(1, 100, 2))


REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def _http(talk: Callable[..., Awaitable[None]], count: int = 2) -> Outcomes:
    async def run() -> Outcomes:
        async with tcp_server(talk) as address:
            async with Calls(Transport.HTTP, address, (REQUEST,)) as calls:
                for index in range(count):
                    calls.send(index)
                    await calls.come(index + 1)
                return calls.found

    return uvloop.run(run())


def test_a_connection_that_was_closed_while_idle_costs_no_request() -> None:
    made = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD)
        await reader.readuntil(b"\r\n\r\n")  # the second request meets the end of the connection

    assert _http(talk) == {0: (True, ""), 1: (True, "")}
    assert len(made) == 2


def test_a_request_is_not_sent_again_where_a_reply_began_or_the_connection_is_new() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD[:10])

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    closed = (False, "the server closed the connection")
    assert _http(half) == {0: (True, ""), 1: closed}
    assert _http(mute, 1) == {0: closed}


def test_chunked_replies_are_understood() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for status in (b"200 OK", b"400 Bad Request"):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            for part in (b'6\r\n{"erro\r\n', b'7\r\nr":"x"}\r\n', b"0\r\n\r\n"):
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(part)

    assert _http(talk) == {0: (True, ""), 1: (False, "x")}
