"""KServe's v2 protocol over gRPC: messages, channels, and what errors mean."""

import itertools
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tuner.client.connection import Connection
from tuner.client.description import Description
from tuner.client.errors import (
    ClientError,
    NotAllowed,
    Overloaded,
    Refused,
    ServerError,
    Timeout,
    Unavailable,
    refusal,
    unavailability,
)
from tuner.client.settings import KEEPALIVE, RECONNECT
from tuner.client.tensors import Array, from_bytes, to_buffer
from tuner.model.signature import TensorSpec

Inputs = list[tuple[TensorSpec, Array]]
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", round(1e3 * RECONNECT.first_pause)),
    ("grpc.max_reconnect_backoff_ms", round(1e3 * RECONNECT.last_pause)),
    ("grpc.min_reconnect_backoff_ms", round(1e3 * RECONNECT.connect_timeout)),
    ("grpc.keepalive_time_ms", round(1e3 * KEEPALIVE.interval)),
    ("grpc.keepalive_timeout_ms", round(1e3 * KEEPALIVE.answer_within)),
    # Channels of equal arguments would share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_KINDS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: Timeout,
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.NOT_FOUND: Refused,
    grpc.StatusCode.OUT_OF_RANGE: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.UNIMPLEMENTED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
}


class GrpcMessages:
    """Requests as bytes, and outputs out of answers.

    A message's bytes are those of its parts, one after another: so what stays the same from request
    to request is made once, and tensors are copied once.
    """

    def __init__(self, connection: Connection) -> None:
        names = {"model_name": connection.model, "model_version": connection.version}
        self._names = names
        self._head = lru_cache(maxsize=1024)(self._make_head)

    def _make_head(self, tensors: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
        inputs = [
            pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
            for name, datatype, shape in tensors
        ]
        return bytes(pb.ModelInferRequest(**self._names, inputs=inputs).SerializeToString())

    def request(self, inputs: Inputs, request_id: str) -> bytes:
        parts: list[bytes | memoryview] = [
            self._head(tuple((spec.name, spec.datatype, array.shape) for spec, array in inputs))
        ]
        if request_id:
            parts.append(pb.ModelInferRequest(id=request_id).SerializeToString())
        for spec, array in inputs:
            content = to_buffer(spec, array)
            parts.append(_raw_head(len(content)))
            parts.append(content)
        return b"".join(parts)

    def outputs(self, reply: Any) -> dict[str, Array]:
        raws = reply.raw_output_contents
        if len(raws) != len(reply.outputs):
            raise ServerError(
                f"the answer has {len(reply.outputs)} outputs and {len(raws)} contents"
            )
        return {
            output.name: from_bytes(output.name, output.datatype, tuple(output.shape), raw)
            for output, raw in zip(reply.outputs, raws, strict=True)
        }


@lru_cache(maxsize=1024)
def _raw_head(size: int) -> bytes:
    """Tag and length of one of ``raw_input_contents``, field 7."""
    head = bytearray(b"\x3a")
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


def translate(error: grpc.RpcError, connection: Connection) -> ClientError:
    return failure(error.code().value[0], (error.details() or "").strip(), connection)


def failure(number: int, message: str, connection: Connection) -> ClientError:
    """What a call's status means, with the server's words."""
    code = _CODES.get(number, grpc.StatusCode.UNKNOWN)
    kind = _KINDS.get(code, ServerError)
    if kind is Timeout:
        return Timeout(f"{connection.where} did not answer in time")
    if issubclass(kind, Unavailable):
        return unavailability(f"{connection.where} is not available: {message or code.name}")
    text = f"{connection.model} says: {message or code.name}"
    return refusal(text) if kind is Refused else kind(text)


def options(index: int) -> list[tuple[str, int]]:
    """A channel's arguments; the index keeps it from sharing a connection with another."""
    return [*_OPTIONS, ("tuner.channel", index)]


def credentials(connection: Connection) -> Any:
    """None for a connection in the clear."""
    if connection.tls is None:
        return None
    return grpc.ssl_channel_credentials(*connection.tls.contents())


def description(metadata: Any, config: Any) -> Description:
    as_json = [
        MessageToDict(message, preserving_proto_field_name=True)
        for message in (metadata, config.config)
    ]
    return Description.of(as_json[0], as_json[1])


class _Channels:
    """Channels that ``grpc`` or ``grpc.aio`` opens, and the questions about the model."""

    def __init__(self, library: Any, connection: Connection) -> None:
        secret = credentials(connection)
        self.all = [
            library.insecure_channel(connection.address, options(index))
            if secret is None
            else library.secure_channel(connection.address, secret, options(index))
            for index in range(connection.channels)
        ]
        self.next_infer = _in_turn(
            channel.unary_unary(_INFER, None, pb.ModelInferResponse.FromString)
            for channel in self.all
        )
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.all[0])
        about = {"name": connection.model, "version": connection.version}
        self.metadata = pb.ModelMetadataRequest(**about)
        self.config = pb.ModelConfigRequest(**about)
        self.ready = pb.ModelReadyRequest(**about)


class GrpcTransport:
    """Blocking calls; for many threads at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages = GrpcMessages(connection)
        self._channels = _Channels(grpc, connection)

    def infer(self, inputs: Inputs, timeout: float | None, request_id: str) -> dict[str, Array]:
        message = self._messages.request(inputs, request_id)
        reply = self._call(self._channels.next_infer(), message, timeout)
        return self._messages.outputs(reply)

    def describe(self, timeout: float | None) -> Description:
        channels = self._channels
        return description(
            self._call(channels.stub.ModelMetadata, channels.metadata, timeout),
            self._call(channels.stub.ModelConfig, channels.config, timeout),
        )

    def is_ready(self, timeout: float) -> bool:
        channels = self._channels
        return bool(self._call(channels.stub.ModelReady, channels.ready, timeout).ready)

    def close(self) -> None:
        for channel in self._channels.all:
            channel.close()

    def _call(self, call: Any, message: Any, timeout: float | None) -> Any:
        try:
            return call(message, timeout=timeout, metadata=self._connection.headers or None)
        except grpc.RpcError as error:
            raise translate(error, self._connection) from error
        except ValueError as error:  # a channel that is closed
            raise Unavailable(f"{self._connection.where}: {error}") from error


def _in_turn(calls: Iterable[Any]) -> Callable[[], Any]:
    """Each call of the result gives the next; for threads, too."""
    every = list(calls)
    if len(every) == 1:
        return lambda: every[0]
    turn, lock = itertools.cycle(every), threading.Lock()

    def following() -> Any:
        with lock:
            return next(turn)

    return following


class AioGrpcTransport:
    """Calls of one event loop, which runs already; for many tasks at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages = GrpcMessages(connection)
        self._channels = _Channels(grpc.aio, connection)

    async def infer(
        self, inputs: Inputs, timeout: float | None, request_id: str
    ) -> dict[str, Array]:
        message = self._messages.request(inputs, request_id)
        reply = await self._call(self._channels.next_infer(), message, timeout)
        return self._messages.outputs(reply)

    async def describe(self, timeout: float | None) -> Description:
        channels = self._channels
        return description(
            await self._call(channels.stub.ModelMetadata, channels.metadata, timeout),
            await self._call(channels.stub.ModelConfig, channels.config, timeout),
        )

    async def is_ready(self, timeout: float) -> bool:
        channels = self._channels
        return bool((await self._call(channels.stub.ModelReady, channels.ready, timeout)).ready)

    async def close(self) -> None:
        for channel in self._channels.all:
            await channel.close(None)

    async def _call(self, call: Any, message: Any, timeout: float | None) -> Any:
        try:
            return await call(message, timeout=timeout, metadata=self._connection.headers or None)
        except grpc.RpcError as error:
            raise translate(error, self._connection) from error
        except grpc.aio.UsageError as error:  # a channel that is closed
            raise Unavailable(f"{self._connection.where}: {error}") from error
