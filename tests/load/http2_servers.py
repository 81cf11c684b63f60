"""Servers for the clients' tests: gRPC's own, one that plays back bytes, and a relay with TLS."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import grpc

from tuner.load.clients import make_client
from tuner.load.target import Target, Transport

SERVICE = "inference.GRPCInferenceService"
Outcomes = dict[int, tuple[bool, str]]
Answer = Callable[[bytes, Any], Awaitable[bytes]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Calls:
    """A client and the outcomes of its requests, each of which comes once."""

    def __init__(self, protocol: Transport, address: str, pool: Sequence[bytes], **kw: Any) -> None:
        self.found: Outcomes = {}
        self._changed = asyncio.Event()
        self.client = make_client(Target(protocol, address, tuple(pool), **kw), self._done)

    def _done(self, index: int, ok: bool, said: str) -> None:
        assert index not in self.found
        self.found[index] = (ok, said)
        self._changed.set()

    def send(self, *indices: int) -> None:
        for index in indices:
            self.client.send(index)

    async def come(self, count: int) -> Outcomes:
        """The outcomes, once there are so many."""
        async with asyncio.timeout(20):
            while len(self.found) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.found

    async def __aenter__(self) -> "Calls":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()


@asynccontextmanager
async def grpc_server(
    answer: Answer, *options: tuple[str, Any]
) -> AsyncIterator[tuple[grpc.aio.Server, str]]:
    server = grpc.aio.server(options=options)
    method = grpc.unary_unary_rpc_method_handler(answer)
    handler = grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def tcp_server(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Any server; what ``talk`` holds open is closed when it returns."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def relay(address: str, taken: bytearray | None = None, given: bytearray | None = None) -> Talk:
    """Passes bytes to and from this address, and notes them."""
    host, _, port = address.rpartition(":")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection(host, int(port))

        async def pump(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, noted: bytearray | None
        ) -> None:
            while part := await source.read(1 << 16):
                if noted is not None:
                    noted += part
                sink.write(part)
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pump(reader, onward, taken), pump(there, writer, given))
        finally:
            onward.close()

    return talk


@contextmanager
def served(*servers: tuple[str, Talk, ssl.SSLContext | None]) -> Iterator[dict[str, str]]:
    """Ports by name of servers that run in a thread."""
    ports: dict[str, str] = {}
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for name, talk, context in servers:
                address = await stack.enter_async_context(tcp_server(talk, context))
                ports[name] = address.rpartition(":")[2]
            ready.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield ports
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()
