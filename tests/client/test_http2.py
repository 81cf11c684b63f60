"""Calls over our own HTTP/2, against gRPC's server and against servers that break the rules."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.load.http2_servers import SERVICE, grpc_server, tcp_server
from tuner.client import calls as client_calls
from tuner.client.calls import CallFailed
from tuner.client.connection import Connection
from tuner.client.over_http2 import Channel, _block, _timeout
from tuner.client.settings import KeepaliveSettings
from tuner.http2.frames import frame

UNAVAILABLE, DEADLINE = 14, 4


async def echo(message: bytes, _: Any) -> bytes:
    return message


class Calls:
    """A channel to this address with calls of ModelInfer."""

    def __init__(self, address: str) -> None:
        connection = Connection.to(address, "m")
        self._channel = Channel(connection)
        self._block = _block(connection, "ModelInfer")

    async def call(self, message: bytes = b"x", timeout: float | None = 10.0) -> bytes:
        block = self._block if timeout is None else self._block + _timeout(timeout)
        return await self._channel.call(block, message, timeout)

    async def __aenter__(self) -> "Calls":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(bounded())


def test_service_is_the_one_that_is_served() -> None:
    assert SERVICE == "inference.GRPCInferenceService"


def test_messages_of_all_sizes_come_back_at_once() -> None:
    rng = random.Random(5)
    sizes = [0, 1, 16_378, 16_379, 16_380, 65_530, 65_536, 200_000, 3_000_000]
    messages = [rng.randbytes(size) for size in sizes * 3]

    async def ask() -> None:
        big = ("grpc.max_receive_message_length", -1)
        async with grpc_server(echo, big) as (_, address), Calls(address) as calls:
            assert await asyncio.gather(*map(calls.call, messages)) == messages

    run(ask())


def test_more_calls_than_the_server_allows_wait_for_their_turn() -> None:
    async def slowly(message: bytes, _: Any) -> bytes:
        await asyncio.sleep(0.05)
        return message

    async def ask() -> None:
        few = ("grpc.max_concurrent_streams", 3)
        async with grpc_server(slowly, few) as (_, address), Calls(address) as calls:
            await calls.call()
            ended = await asyncio.gather(
                *(calls.call(bytes([n])) for n in range(20)),
                *(calls.call(timeout=0.06) for _ in range(5)),
                return_exceptions=True,
            )
            assert ended[:20] == [bytes([n]) for n in range(20)]
            late = [each for each in ended[20:] if isinstance(each, CallFailed)]
            assert len(late) == 5
            assert {each.code for each in late} == {DEADLINE}
            assert await calls.call(b"y") == b"y"

    run(ask())


def test_a_servers_words_come_through() -> None:
    async def refuse(_: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "das geht nicht: 好 100%")
        raise AssertionError

    async def ask() -> None:
        async with grpc_server(refuse) as (_, address), Calls(address) as calls:
            with pytest.raises(CallFailed) as caught:
                await calls.call(b"x" * 1_000_000)
            assert (caught.value.code, caught.value.message) == (3, "das geht nicht: 好 100%")

    run(ask())


def test_the_server_knows_the_deadline_and_is_told_of_cancellation() -> None:
    left: list[float] = []
    cancelled = asyncio.Event()

    async def forever(_: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    async def ask() -> None:
        async with grpc_server(forever) as (_, address), Calls(address) as calls:
            began = time.monotonic()
            with pytest.raises(CallFailed) as caught:
                await calls.call(timeout=0.3)
            assert caught.value.code == DEADLINE
            assert 0.25 < time.monotonic() - began < 1
            assert 0 < left[0] <= 0.3
            await cancelled.wait()
            cancelled.clear()
            task = asyncio.create_task(calls.call(timeout=None))
            while len(left) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            await cancelled.wait()

    run(ask())


def test_a_server_that_hangs_up_from_time_to_time_costs_no_call() -> None:
    async def ask() -> None:
        options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 500))
        async with grpc_server(echo, *options) as (_, address), Calls(address) as calls:
            until = time.monotonic() + 0.6
            while time.monotonic() < until:
                messages = [bytes([n]) * 100 for n in range(20)]
                assert await asyncio.gather(*map(calls.call, messages)) == messages

    run(ask())


def test_a_server_that_ends_fails_what_is_outstanding_and_is_found_again() -> None:
    async def forever(_: bytes, __: Any) -> bytes:
        await asyncio.sleep(60)
        raise AssertionError

    async def ask() -> None:
        async with grpc_server(forever) as (server, address):
            calls = Calls(address)
            asked = [asyncio.create_task(calls.call()) for _ in range(5)]
            await asyncio.sleep(0.1)
            await server.stop(None)
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(each, CallFailed) for each in ended)
            with pytest.raises(CallFailed) as caught:
                await calls.call()
            assert caught.value.code == UNAVAILABLE
        async with again(address):
            await asyncio.sleep(0.6)
            assert await calls.call(b"y") == b"y"
            await calls._channel.close()

    run(ask())


class again:
    """An echoing server at this address."""

    def __init__(self, address: str) -> None:
        self._server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(echo)
        handler = grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(address)

    async def __aenter__(self) -> None:
        await self._server.start()

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


def test_a_peer_that_vanished_is_noticed_without_a_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_calls, "KEEPALIVE", KeepaliveSettings(0.1, 0.1))

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            pass

    async def ask() -> None:
        async with tcp_server(silent) as address, Calls(address) as calls:
            with pytest.raises(CallFailed, match="the server stopped responding"):
                await calls.call(timeout=None)

    run(ask())


def test_a_slow_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings are answered meanwhile, and there are not so many that the server hangs up."""
    monkeypatch.setattr(client_calls, "KEEPALIVE", KeepaliveSettings(0.05, 0.05))

    async def slowly(message: bytes, _: Any) -> bytes:
        await asyncio.sleep(0.5)
        return message

    async def ask() -> None:
        async with grpc_server(slowly) as (_, address), Calls(address) as calls:
            for _ in range(2):
                assert await calls.call(timeout=None) == b"x"

    run(ask())


frames = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.integers(0, 5),
    st.binary(max_size=40),
)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(frames, max_size=12).map(b"".join)))
def test_whatever_a_server_sends_a_call_ends(said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(frame(4, 0, 0) + said)
        await asyncio.sleep(0.02)

    async def ask() -> None:
        async with tcp_server(talk) as address, Calls(address) as calls:
            with pytest.raises(CallFailed):
                await calls.call(timeout=2)

    run(ask())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1e-9, b"1u"), (0.0123, b"12300u"), (99.0, b"99000000u"), (1e4, b"10000000m")],
)
def test_timeouts_are_told_in_eight_digits(seconds: float, text: bytes) -> None:
    assert _timeout(seconds).endswith(text)
