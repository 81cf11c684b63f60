"""Clients that send serialised requests and report each outcome to a callback.

Both need an event loop that runs. A client never limits the requests outstanding.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

import httptools

from tuner.load.target import Protocol, Target

Done = Callable[[int, bool, str], None]
_LONGEST = 4000
"""Characters kept of what a server says: a traceback's last line is the one that tells."""


class Client(Interface):
    def send(self, index: int) -> None:
        """Write request ``index`` of the run (the pool is used in turn); never blocks."""

    async def close(self) -> None:
        """Drop connections; outstanding requests are reported as failed or not at all."""


def make_client(target: Target, done: Done) -> Client:
    """The client for a target's protocol; ``done(index, ok, said)`` is called once per request.

    ``said`` is what the server says of a failure, shortened; empty where it says nothing.
    """
    match target.protocol:
        case Protocol.HTTP:
            return HttpClient(target, done)
        case Protocol.GRPC:
            return GrpcClient(target, done)


class HttpClient:
    """HTTP/1.1 with as many kept-alive connections as there are requests outstanding."""

    def __init__(self, target: Target, done: Done) -> None:
        host, _, port = target.address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._requests = target.requests
        self._done = done
        self._idle: list[_HttpConnection] = []
        self._all: set[_HttpConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def send(self, index: int) -> None:
        request = self._requests[index % len(self._requests)]
        if self._idle:
            self._idle.pop().send(index, request)
            return
        task = self._loop.create_task(self._connect_and_send(index, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def close(self) -> None:
        self._closed = True
        for task in tuple(self._connecting):
            task.cancel()
        for connection in tuple(self._all):
            connection.abort()
        await asyncio.sleep(0)

    async def _connect_and_send(self, index: int, request: bytes) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: _HttpConnection(self), self._host, self._port
            )
        except OSError as error:
            self._done(index, False, str(error))
            return
        connection.send(index, request)

    def opened(self, connection: "_HttpConnection") -> None:
        self._all.add(connection)

    def finished(self, connection: "_HttpConnection", index: int, said: str | None) -> None:
        """A request is done; ``said`` is None where it succeeded."""
        if connection.may_go_on and not self._closed:
            self._idle.append(connection)
        self._done(index, said is None, said or "")

    def lost(self, connection: "_HttpConnection", index: int) -> None:
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if index >= 0 and not self._closed:
            self._done(index, False, "")


class _HttpConnection(asyncio.Protocol):
    """One connection with at most one request outstanding (``index``, or -1)."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._parser = httptools.HttpResponseParser(self)
        self._index = -1
        self._transport: Any = None
        self._received = b""
        self.may_go_on = True

    def send(self, index: int, request: bytes) -> None:
        self._index = index
        self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._client.opened(self)

    def data_received(self, data: bytes) -> None:
        self._received = data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        index, self._index = self._index, -1
        self.may_go_on = self._parser.should_keep_alive()
        if not self.may_go_on:
            self._transport.close()
        failed = self._parser.get_status_code() != 200
        self._client.finished(self, index, self._words() if failed else None)

    def _words(self) -> str:
        """The body of an error reply, or its end: taken from what came last, since successful
        replies, which may be large, are never copied.
        """
        body = self._received.rpartition(b"\r\n\r\n")[2].decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            body = str(json.loads(body)["error"])
        return body.strip()[-_LONGEST:]

    def connection_lost(self, exc: Exception | None) -> None:
        index, self._index = self._index, -1
        self._client.lost(self, index)


class GrpcClient:
    """gRPC over one channel; requests and replies stay serialised."""

    _METHOD = "/inference.GRPCInferenceService/ModelInfer"

    def __init__(self, target: Target, done: Done) -> None:
        import grpc  # a second of start-up that HTTP need not pay

        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(target.address, options=unlimited)
        self._call = self._channel.unary_unary(self._METHOD, None, None)
        self._error = grpc.RpcError
        self._requests = target.requests
        self._done = done
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def send(self, index: int) -> None:
        task = self._loop.create_task(self._infer(index))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await self._channel.close(None)

    async def _infer(self, index: int) -> None:
        try:
            await self._call(self._requests[index % len(self._requests)])
        except self._error as error:
            self._done(index, False, (error.details() or "")[-_LONGEST:])
        else:
            self._done(index, True, "")
