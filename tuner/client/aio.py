"""The asynchronous client."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from tuner.client.batching import make_batches, split_outputs
from tuner.client.connection import Connection, Tls
from tuner.client.description import Description
from tuner.client.errors import ClientError, Unavailable
from tuner.client.over_grpc import AioGrpcTransport
from tuner.client.over_http import AioHttpTransport
from tuner.client.over_http2 import AioHttp2Transport
from tuner.client.settings import REQUESTS
from tuner.client.tensors import Array, as_item, check
from tuner.errors import UsageError
from tuner.model.signature import Arrays, Signature

_Transport = AioGrpcTransport | AioHttp2Transport | AioHttpTransport
_TRANSPORTS: dict[str, Callable[[Connection], _Transport]] = {
    "grpc": AioGrpcTransport,
    "lean": AioHttp2Transport,
    "http": AioHttpTransport,
}


class AsyncTritonClient:
    """As ``TritonClient``, for the tasks of one event loop: the one that first awaits it.

    A task that is cancelled cancels its request. The protocol ``lean`` is gRPC, too, by an HTTP/2
    of our own: it takes a quarter of the CPU time, and knows neither proxies nor several addresses
    behind one name.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        protocol: Literal["grpc", "lean", "http"] = "grpc",
        channels: int = 1,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        version: str = "",
    ) -> None:
        self._connection = Connection.to(url, model, tls, channels, headers, version)
        if protocol not in _TRANSPORTS:
            raise UsageError(f"unknown protocol {protocol!r}; choose from {', '.join(_TRANSPORTS)}")
        self._protocol = protocol
        self._opened: _Transport | None = None
        self._name = model
        self._timeout = timeout
        self._signature: Signature | None = None
        self._asking: asyncio.Task[Signature] | None = None

    @property
    def _transport(self) -> _Transport:
        """Made at its first use, as only then the event loop runs."""
        if self._opened is None:
            self._opened = _TRANSPORTS[self._protocol](self._connection)
        return self._opened

    async def signature(self) -> Signature:
        """The model's signature; fetched from the server once."""
        if self._signature is not None:
            return self._signature
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Signature:
        try:
            return (await self.describe()).signature
        finally:
            self._asking = None

    async def describe(self, *, timeout: float | None = None) -> Description:
        """Fetch the model's signature again; ``signature`` returns it from then on."""
        description = await self._transport.describe(self._timeout if timeout is None else timeout)
        self._signature = description.signature
        return description

    async def infer(
        self, inputs: Arrays, *, timeout: float | None = None, request_id: str = ""
    ) -> dict[str, Array]:
        """One request with these tensors, the batch first, as they are."""
        checked = check(self._signature or await self.signature(), inputs)
        return await self._transport.infer(
            checked, self._timeout if timeout is None else timeout, request_id
        )

    async def predict(
        self, item: Mapping[str, Any], *, timeout: float | None = None
    ) -> dict[str, Array]:
        """One item, without the batch dimension; accepts lists and numbers."""
        signature = await self.signature()
        arrays = as_item(signature, item)
        if not signature.batched:
            return await self.infer(arrays, timeout=timeout)
        outputs = await self.infer({name: a[None] for name, a in arrays.items()}, timeout=timeout)
        return split_outputs(signature, outputs)[0]

    async def predict_batch(
        self, items: Sequence[Mapping[str, Any]], *, timeout: float | None = None
    ) -> list[dict[str, Array]]:
        """Any number of items, in as many requests as the model's largest batch demands, several of
        them at once. ``timeout`` holds for each request.
        """
        signature = await self.signature()
        turn = asyncio.Semaphore(REQUESTS.at_once)

        async def ask(batch: Arrays) -> dict[str, Array]:
            async with turn:
                return await self.infer(batch, timeout=timeout)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(batch)) for batch in make_batches(signature, items)]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [item for task in tasks for item in split_outputs(signature, task.result())]

    async def is_ready(self) -> bool:
        """Whether the server answers and has the model loaded; never raises."""
        return await self.readiness_problem() is None

    async def readiness_problem(
        self, timeout: float = REQUESTS.readiness_timeout
    ) -> ClientError | None:
        """Why the model cannot be called right now; None if it can."""
        try:
            if await self._transport.is_ready(timeout):
                return None
        except ClientError as error:
            return error
        return Unavailable(f"{self._name} is not ready")

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
