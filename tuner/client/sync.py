"""The synchronous client."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

from tuner.client.batching import make_batches, split_outputs
from tuner.client.connection import Connection, Tls
from tuner.client.description import Description
from tuner.client.errors import ClientError, Unavailable
from tuner.client.over_grpc import GrpcTransport
from tuner.client.over_http import HttpTransport
from tuner.client.settings import REQUESTS
from tuner.client.tensors import Array, as_item, check
from tuner.errors import UsageError
from tuner.model.signature import Arrays, Signature


class TritonClient:
    """Inference with one model of a Triton server; many threads may share a client.

    ``url`` is ``host:port`` of the server's service for ``protocol``. Times are in seconds; without
    a ``timeout`` a call waits as long as it takes. ``channels`` are connections of gRPC, each of
    which carries any number of requests at once. Outputs are read-only arrays.

    Raises ``tuner.client.errors``: InvalidInput before anything is sent, else Refused, Unavailable,
    Timeout or ServerError. No request is sent twice.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        protocol: Literal["grpc", "http"] = "grpc",
        channels: int = 1,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        version: str = "",
    ) -> None:
        connection = Connection.to(url, model, tls, channels, headers, version)
        self._transport = _transport(protocol, connection)
        self._name = model
        self._timeout = timeout
        self._signature: Signature | None = None
        self._lock = threading.Lock()

    def signature(self) -> Signature:
        """The model's signature; fetched from the server once."""
        if self._signature is None:
            with self._lock:
                if self._signature is None:
                    return self.describe().signature
        return self._signature

    def describe(self, *, timeout: float | None = None) -> Description:
        """Fetch the model's signature again; ``signature`` returns it from then on."""
        description = self._transport.describe(self._timeout if timeout is None else timeout)
        self._signature = description.signature
        return description

    def infer(
        self, inputs: Arrays, *, timeout: float | None = None, request_id: str = ""
    ) -> dict[str, Array]:
        """One request with these tensors, the batch first, as they are."""
        checked = check(self.signature(), inputs)
        return self._transport.infer(
            checked, self._timeout if timeout is None else timeout, request_id
        )

    def predict(self, item: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Array]:
        """One item, without the batch dimension; accepts lists and numbers."""
        signature = self.signature()
        arrays = as_item(signature, item)
        if not signature.batched:
            return self.infer(arrays, timeout=timeout)
        outputs = self.infer({name: a[None] for name, a in arrays.items()}, timeout=timeout)
        return split_outputs(signature, outputs)[0]

    def predict_batch(
        self, items: Sequence[Mapping[str, Any]], *, timeout: float | None = None
    ) -> list[dict[str, Array]]:
        """Any number of items, in as many requests as the model's largest batch demands, several of
        them at once. ``timeout`` holds for each request.
        """
        signature = self.signature()
        batches = make_batches(signature, items)
        if len(batches) < 2:
            answers = [self.infer(batch, timeout=timeout) for batch in batches]
        else:
            with ThreadPoolExecutor(min(REQUESTS.at_once, len(batches))) as pool:
                answers = list(pool.map(lambda batch: self.infer(batch, timeout=timeout), batches))
        return [item for outputs in answers for item in split_outputs(signature, outputs)]

    def is_ready(self) -> bool:
        """Whether the server answers and has the model loaded; never raises."""
        return self.readiness_problem() is None

    def readiness_problem(self, timeout: float = REQUESTS.readiness_timeout) -> ClientError | None:
        """Why the model cannot be called right now; None if it can."""
        try:
            if self._transport.is_ready(timeout):
                return None
        except ClientError as error:
            return error
        return Unavailable(f"{self._name} is not ready")

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _transport(protocol: str, connection: Connection) -> GrpcTransport | HttpTransport:
    match protocol:
        case "grpc":
            return GrpcTransport(connection)
        case "http":
            return HttpTransport(connection)
        case _:
            raise UsageError(f"unknown protocol {protocol!r}; choose grpc or http")
