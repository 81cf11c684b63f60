"""The gRPC client: unary calls with serialized messages."""

import asyncio
import contextlib
from collections import deque

from tuner.http2 import grpc
from tuner.load.grpc_connection import GrpcConnection
from tuner.load.outcome import Done
from tuner.load.replies import check_of
from tuner.load.target import Target
from tuner.load.variation import Varier


class GrpcClient:
    """One connection, and more only where the server's limit of concurrent streams demands it.

    A request that the server says it did not process (a refused stream, or one above a GOAWAY's
    last) is sent once more. If a connection ends before it took a request, those that wait fail
    with it, so that nobody is called again and again.
    """

    def __init__(self, target: Target, done: Done) -> None:
        host, _, port = target.address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._ssl = target.security.context("h2") if target.tls else None
        headers = target.security.headers
        self._block = grpc.request_block("ModelInfer", target.address, target.tls, headers)
        self._messages = target.requests
        self._prefixes = [grpc.message_prefix(len(each)) for each in target.requests]
        self._vary = None if target.variation is None else Varier(target.variation)
        self._check = check_of(target.expected)
        self._done = done
        self._all: set[GrpcConnection] = set()
        self._open: list[GrpcConnection] = []
        self._new: GrpcConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._again: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.waiting: deque[int] = deque()

    def send(self, index: int) -> None:
        if not self.waiting:
            for connection in self._open:
                if connection.has_room():
                    connection.send(index, self._block, *self._body(index))
                    return
        self.waiting.append(index)
        self._grow()

    def _body(self, index: int) -> tuple[bytes, bytes]:
        """The message, and what stands before it."""
        place = index % len(self._messages)
        message = self._messages[place]
        message = message if self._vary is None else self._vary(index, message)
        return message, self._prefixes[place]

    async def close(self) -> None:
        self._closed = True
        self.waiting.clear()
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in tuple(self._all):
            connection.abort()
        await asyncio.sleep(0)

    def room(self) -> None:
        if self._new is not None and self._new.greeted:
            self._open.append(self._new)
            self._new = None
        for connection in self._open:
            while self.waiting and connection.has_room():
                index = self.waiting.popleft()
                connection.send(index, self._block, *self._body(index))
        self._grow()

    def refused(self, index: int, message: str) -> None:
        if index in self._again:
            self._finished(index, False, message)
            return
        self._again.add(index)
        self.waiting.appendleft(index)
        self.room()

    def leaving(self, connection: GrpcConnection) -> None:
        with contextlib.suppress(ValueError):
            self._open.remove(connection)

    def lost(self, connection: GrpcConnection, message: str) -> None:
        self._all.discard(connection)
        self.leaving(connection)
        if self._new is connection:
            self._new = None
        if not connection.used:
            self._give_up(message)
        self._grow()

    def _grow(self) -> None:
        """Connect once more where requests wait, unless room is to be expected without it."""
        expected = self._connecting or self._new or any(each.takes_none for each in self._open)
        if self.waiting and not expected and not self._closed:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        connection = GrpcConnection(self, self._finished, self._check)
        self._new = connection
        self._all.add(connection)
        try:
            await self._loop.create_connection(
                lambda: connection,
                self._host,
                self._port,
                ssl=self._ssl,
                server_hostname=self._host if self._ssl else None,
            )
        except OSError as error:
            self.lost(connection, str(error))
        finally:
            self._connecting = None
        self._grow()

    def _finished(self, index: int, ok: bool, message: str) -> None:
        if self._again:
            self._again.discard(index)
        if not self._closed:
            self._done(index, ok, message)

    def _give_up(self, message: str) -> None:
        waiting = tuple(self.waiting)
        self.waiting.clear()
        for index in waiting:
            self._finished(index, False, message)
