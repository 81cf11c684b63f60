"""KServe's v2 protocol over gRPC by an HTTP/2 connection of our own, for asyncio."""

import asyncio
import random
import time
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from tuner.client.calls import (
    DEADLINE_EXCEEDED,
    UNAVAILABLE,
    CallConnection,
    CallFailed,
    NotProcessed,
)
from tuner.client.connection import Connection
from tuner.client.description import Description
from tuner.client.over_grpc import GrpcMessages, Inputs, description, failure
from tuner.client.settings import RECONNECT
from tuner.client.tensors import Array
from tuner.http2 import grpc
from tuner.http2.headers import header_block

_LARGEST_TIMEOUT = 99_999_999  # the eight digits that grpc-timeout may have


class Channel:
    """One connection at a time, made anew where it is lost.

    Where there is none, calls wait for the attempt under way, and fail at once until the next one
    is due: a tenth of a second later at first, then half a second.
    """

    def __init__(self, connection: Connection) -> None:
        host, _, port = connection.address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._ssl = None if connection.tls is None else connection.tls.context()
        if self._ssl is not None:
            self._ssl.set_alpn_protocols(["h2"])
        self._open: CallConnection | None = None
        self._connecting: asyncio.Task[CallConnection] | None = None
        self._rng = random.Random()
        self._pause = RECONNECT.first_pause
        self._next_attempt = 0.0
        self._reason = ""
        self._closed = False

    async def call(self, block: bytes, message: bytes, timeout: float | None) -> bytes:
        """CallFailed if there is no reply. What a server did not look at is sent again."""
        ends = None if timeout is None else time.monotonic() + timeout
        for pause in RECONNECT.call_pauses:
            try:
                return await (await self._usable(ends)).call(block, message, timeout)
            except NotProcessed:
                await asyncio.sleep(pause)
                timeout = (
                    None
                    if ends is None
                    else max(RECONNECT.shortest_timeout, ends - time.monotonic())
                )
        return await (await self._usable(ends)).call(block, message, timeout)

    async def _usable(self, ends: float | None) -> CallConnection:
        if self._open is not None and self._open.usable:
            return self._open
        if self._closed:
            raise CallFailed(UNAVAILABLE, "the client was closed")
        if self._connecting is None:
            if time.monotonic() < self._next_attempt:
                raise CallFailed(UNAVAILABLE, self._reason)
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        try:
            async with asyncio.timeout(None if ends is None else ends - time.monotonic()):
                return await asyncio.shield(self._connecting)
        except TimeoutError as error:
            raise CallFailed(DEADLINE_EXCEEDED, "") from error

    async def _connect(self) -> CallConnection:
        try:
            async with asyncio.timeout(RECONNECT.connect_timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    CallConnection,
                    self._host,
                    self._port,
                    ssl=self._ssl,
                    server_hostname=self._host if self._ssl else None,
                )
        except OSError as error:  # ssl.SSLError and TimeoutError, too
            pause = self._pause * self._rng.uniform(1 - RECONNECT.jitter, 1 + RECONNECT.jitter)
            self._next_attempt = time.monotonic() + pause
            self._pause = min(RECONNECT.last_pause, 2 * self._pause)
            self._reason = str(error) or f"no connection within {RECONNECT.connect_timeout:g} s"
            raise CallFailed(UNAVAILABLE, self._reason) from error
        self._pause = RECONNECT.first_pause
        self._open = connection
        return connection

    def _connected(self, task: "asyncio.Task[CallConnection]") -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # those who wait have it; nobody may be left

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._open is not None:
            self._open.close()
        await asyncio.sleep(0)


class AioHttp2Transport:
    """Calls of one event loop, which runs already; for many tasks at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages = GrpcMessages(connection)
        self._channels = [Channel(connection) for _ in range(connection.channels)]
        self._turn = 0
        self._blocks = {
            method: _block(connection, method)
            for method in ("ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig")
        }

    async def infer(
        self, inputs: Inputs, timeout: float | None, request_id: str
    ) -> dict[str, Array]:
        message = self._messages.request(inputs, request_id)
        reply = await self._call("ModelInfer", message, timeout)
        return self._messages.outputs(pb.ModelInferResponse.FromString(reply))

    async def describe(self, timeout: float | None) -> Description:
        metadata = await self._about("ModelMetadata", pb.ModelMetadataRequest, timeout)
        config = await self._about("ModelConfig", pb.ModelConfigRequest, timeout)
        return description(
            pb.ModelMetadataResponse.FromString(metadata), pb.ModelConfigResponse.FromString(config)
        )

    async def is_ready(self, timeout: float) -> bool:
        reply = await self._about("ModelReady", pb.ModelReadyRequest, timeout)
        return bool(pb.ModelReadyResponse.FromString(reply).ready)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def _about(self, method: str, kind: Any, timeout: float | None) -> bytes:
        request = kind(name=self._connection.model, version=self._connection.version)
        return await self._call(method, request.SerializeToString(), timeout)

    async def _call(self, method: str, message: bytes, timeout: float | None) -> bytes:
        self._turn = (self._turn + 1) % len(self._channels)
        block = self._blocks[method]
        if timeout is not None:
            block += _timeout(timeout)
        try:
            return await self._channels[self._turn].call(block, message, timeout)
        except CallFailed as error:
            raise failure(error.code, error.message, self._connection) from error


def _block(connection: Connection, method: str) -> bytes:
    headers = [("user-agent", "tuner"), *connection.headers]
    return grpc.request_block(method, connection.address, connection.tls is not None, headers)


def _timeout(seconds: float) -> bytes:
    """The deadline as the server is to know it, in the finest unit that can say it."""
    micros = max(1, int(seconds * 1e6))
    text = (
        f"{micros}u"
        if micros <= _LARGEST_TIMEOUT
        else f"{min(_LARGEST_TIMEOUT, int(seconds * 1e3))}m"
    )
    return header_block([("grpc-timeout", text)])
