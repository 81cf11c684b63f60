"""KServe's v2 protocol over gRPC by an HTTP/2 connection of our own, for asyncio."""

import asyncio
import random
import time
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from tuner.client.connection import Connection
from tuner.client.description import Description
from tuner.client.http2 import CallFailed, Http2Connection, NotProcessed
from tuner.client.over_grpc import Inputs, Messages, description, failure
from tuner.client.tensors import Array
from tuner.load.http2_headers import header_block

_SERVICE = "/inference.GRPCInferenceService/"
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 0.5
_AGAIN = (0.0, 0.002, 0.01, 0.05)  # seconds before what was not looked at is sent again
_MOST = 99_999_999  # what grpc-timeout has digits for


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
        self._open: Http2Connection | None = None
        self._connecting: asyncio.Task[Http2Connection] | None = None
        self._rng = random.Random()
        self._pause = _FIRST_PAUSE
        self._next_attempt = 0.0
        self._why = ""
        self._closed = False

    async def call(self, block: bytes, message: bytes, timeout: float | None) -> bytes:
        """CallFailed where there is no reply. What a server did not look at is sent again: servers
        may count a call that they answered for a moment longer than we do.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        for pause in _AGAIN:
            try:
                return await (await self._usable(ends)).call(block, message, timeout)
            except NotProcessed:
                await asyncio.sleep(pause)
                timeout = None if ends is None else max(0.001, ends - time.monotonic())
        return await (await self._usable(ends)).call(block, message, timeout)

    async def _usable(self, ends: float | None) -> Http2Connection:
        if self._open is not None and self._open.usable:
            return self._open
        if self._closed:
            raise CallFailed(14, "the client was closed")
        if self._connecting is None:
            if time.monotonic() < self._next_attempt:
                raise CallFailed(14, self._why)
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        try:
            async with asyncio.timeout(None if ends is None else ends - time.monotonic()):
                return await asyncio.shield(self._connecting)
        except TimeoutError as error:
            raise CallFailed(4, "") from error

    async def _connect(self) -> Http2Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, made = await asyncio.get_running_loop().create_connection(
                    Http2Connection,
                    self._host,
                    self._port,
                    ssl=self._ssl,
                    server_hostname=self._host if self._ssl else None,
                )
        except OSError as error:  # ssl.SSLError and TimeoutError, too
            pause = self._pause * self._rng.uniform(0.8, 1.2)
            self._next_attempt = time.monotonic() + pause
            self._pause = min(_LAST_PAUSE, 2 * self._pause)
            self._why = str(error) or f"no connection within {_CONNECT_SECONDS:g} s"
            raise CallFailed(14, self._why) from error
        self._pause = _FIRST_PAUSE
        self._open = made
        return made

    def _connected(self, task: "asyncio.Task[Http2Connection]") -> None:
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
        self._messages = Messages(connection)
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
            raise failure(error.code, error.said, self._connection) from error


def _block(connection: Connection, method: str) -> bytes:
    return header_block(
        [
            (":method", "POST"),
            (":scheme", "http" if connection.tls is None else "https"),
            (":path", _SERVICE + method),
            (":authority", connection.address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "tuner"),
            *connection.headers,
        ]
    )


def _timeout(seconds: float) -> bytes:
    """The deadline as the server is to know it, in the finest unit that can say it."""
    micros = max(1, int(seconds * 1e6))
    text = f"{micros}u" if micros <= _MOST else f"{min(_MOST, int(seconds * 1e3))}m"
    return header_block([("grpc-timeout", text)])
