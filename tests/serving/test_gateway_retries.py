"""What the gateway's engine sends again, and what not, against a gRPC server that fails at will."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tuner.client import AsyncTritonClient
from tuner.serving.engine import (
    DeadlineExceeded,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
)
from tuner.serving.remote import TritonEngine

ROW = {"X": np.ones((1, 2), np.float32)}
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Failing(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Fails at its first ``failures`` inferences, and then gives back what it takes."""

    def __init__(
        self,
        failures: int,
        code: grpc.StatusCode = UNAVAILABLE,
        words: str = "the connection was reset",
        stateful: bool = False,
    ) -> None:
        self.asked = 0
        self._failures = failures
        self._status = code, words
        self._config = config_pb.ModelConfig(name="m", max_batch_size=4)
        if stateful:
            self._config.sequence_batching.SetInParent()

    async def ModelReady(self, *_: Any) -> Any:
        return pb.ModelReadyResponse(ready=True)

    async def ModelConfig(self, *_: Any) -> Any:
        return pb.ModelConfigResponse(config=self._config)

    async def ModelMetadata(self, *_: Any) -> Any:
        kind = pb.ModelMetadataResponse.TensorMetadata
        tensor = {"datatype": "FP32", "shape": [-1, 2]}
        return pb.ModelMetadataResponse(
            name="m", inputs=[kind(name="X", **tensor)], outputs=[kind(name="Y", **tensor)]
        )

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.asked += 1
        if self.asked <= self._failures:
            await context.abort(*self._status)
        output = pb.ModelInferResponse.InferOutputTensor(
            name="Y", datatype="FP32", shape=request.inputs[0].shape
        )
        return pb.ModelInferResponse(
            outputs=[output], raw_output_contents=request.raw_input_contents
        )


@asynccontextmanager
async def engine(service: Failing) -> AsyncIterator[TritonEngine]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    made = TritonEngine(AsyncTritonClient(f"127.0.0.1:{port}", "m", protocol="lean"))
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        await server.stop(None)


def run(work: Callable[[TritonEngine], Coroutine[Any, Any, None]], service: Failing) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20), engine(service) as made:
            await work(made)

    asyncio.run(bounded())


def test_what_did_not_arrive_is_sent_again() -> None:
    service = Failing(2)

    async def ask(engine: TritonEngine) -> None:
        assert (await engine.infer(ROW, None)).outputs["Y"].tolist() == [[1.0, 1.0]]

    run(ask, service)
    assert service.asked == 3


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        (Failing(9, stateful=True), EngineUnavailable),
        (Failing(9, words="Exceeds maximum queue size"), EngineUnavailable),
        (Failing(9, grpc.StatusCode.INVALID_ARGUMENT), EngineRefused),
        (Failing(9, grpc.StatusCode.INTERNAL), EngineFailed),
        (Failing(9, grpc.StatusCode.UNAUTHENTICATED), EngineFailed),
        (Failing(9, grpc.StatusCode.DEADLINE_EXCEEDED), DeadlineExceeded),
        (Failing(9, grpc.StatusCode.NOT_FOUND, "Request for unknown model"), EngineUnavailable),
    ],
)
def test_what_is_not_safe_or_of_no_use_is_sent_once(
    service: Failing, kind: type[Exception]
) -> None:
    async def ask(engine: TritonEngine) -> None:
        with pytest.raises(kind):
            await engine.infer(ROW, None)

    run(ask, service)
    assert service.asked == 1


def test_an_outage_is_not_made_worse() -> None:
    service = Failing(10_000)

    async def ask(engine: TritonEngine) -> None:
        ended = await asyncio.gather(
            *(engine.infer(ROW, None) for _ in range(200)), return_exceptions=True
        )
        assert all(isinstance(each, EngineUnavailable) for each in ended)

    run(ask, service)
    assert 200 < service.asked <= 200 + 10 + 20


def test_there_is_no_other_attempt_after_the_deadline() -> None:
    service = Failing(9)

    async def ask(engine: TritonEngine) -> None:
        with pytest.raises((EngineUnavailable, DeadlineExceeded)):
            await engine.infer(ROW, asyncio.get_running_loop().time() + 0.02)

    run(ask, service)
    assert service.asked <= 2
