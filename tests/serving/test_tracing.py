"""Traces: to a real collector over OTLP, and on to Triton in the metadata of its calls."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.serving.edge import client, service
from tuner.errors import InfrastructureError
from tuner.serving.auth import KeyAuthentication, Keys
from tuner.serving.identity import Envelope
from tuner.serving.metrics import Metrics
from tuner.serving.tracing import RequestTracing, setup_tracing

_SERVER, _CLIENT = 2, 3  # kinds of spans in OTLP
_TRACE, _PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_READY = "/inference.GRPCInferenceService/ModelReady"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
    """Keeps spans as they arrive, each with its attributes and its resource's."""

    def __init__(self) -> None:
        self.spans: list[tuple[Any, dict[str, Any]]] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            common = _attributes(resource.resource)
            for scope in resource.scope_spans:
                self.spans += [(span, common | _attributes(span)) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


def _attributes(holder: Any) -> dict[str, Any]:
    return {
        entry.key: getattr(entry.value, entry.value.WhichOneof("value"))
        for entry in holder.attributes
    }


class FakeModel(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Any gRPC method, echoing its body; keeps the metadata of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self._lock = threading.Lock()

    def service(self, details: Any) -> Any:
        def echo(request: bytes, context: Any) -> bytes:
            with self._lock:
                self.calls.append((details.method, dict(context.invocation_metadata())))
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


@pytest.fixture
def collector() -> Iterator[tuple[Collector, FakeModel, str]]:
    """A collector and a model's server on one port."""
    found, model = Collector(), FakeModel()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(found, server)
    server.add_generic_rpc_handlers((model,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found, model, f"127.0.0.1:{port}"
    server.stop(None).wait()


def _forwarding(address: str, metrics: Metrics, *layers: Middleware) -> Starlette:
    async def predict(request: Request) -> Response:
        async with grpc.aio.insecure_channel(address) as channel:
            for method in (_READY, _INFER):
                await channel.unary_unary(method)(b"tensors")
        return JSONResponse({})

    middleware = [Middleware(Envelope, metrics=metrics), *layers]
    return Starlette(routes=[Route("/v/{name}", predict)], middleware=middleware)


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_one_trace_from_the_caller_through_the_service_to_triton(
    collector: tuple[Collector, FakeModel, str], scheme: str
) -> None:
    found, model, address = collector
    metrics = Metrics()
    keys = Keys.load(f"shop:{'k' * 16}")
    tracing = setup_tracing(f"{scheme}{address}", "gateway")
    layers = Middleware(RequestTracing, tracing), Middleware(KeyAuthentication, keys, metrics)

    async def run() -> None:
        headers = {
            "traceparent": f"00-{_TRACE}-{_PARENT}-01",
            "X-Request-ID": "order-7",
            "X-API-Key": "k" * 16,
        }
        async with client(_forwarding(address, metrics, *layers)) as http:
            assert (await http.get("/v/secret-path", headers=headers)).status_code == 200

    asyncio.run(run())
    tracing.close()
    (server,) = [(span, said) for span, said in found.spans if span.kind == _SERVER]
    (call,) = [(span, said) for span, said in found.spans if span.kind == _CLIENT]
    assert len(found.spans) == 2
    assert server[0].trace_id.hex() == call[0].trace_id.hex() == _TRACE
    assert server[0].parent_span_id.hex() == _PARENT
    assert call[0].parent_span_id == server[0].span_id
    assert server[0].name == "GET /v/{name}"
    assert server[1]["http.route"] == "/v/{name}"
    assert server[1]["tuner.request_id"] == "order-7"
    assert server[1]["tuner.client"] == "shop"
    assert server[1]["service.name"] == "gateway"
    metadata = dict(model.calls)
    assert metadata[_INFER]["traceparent"] == f"00-{_TRACE}-{call[0].span_id.hex()}-01"
    assert "k" * 16 not in str(found.spans)


def test_requests_side_by_side_have_traces_of_their_own(
    collector: tuple[Collector, FakeModel, str],
) -> None:
    found, _, address = collector
    tracing = setup_tracing(address, "gateway")

    async def run() -> None:
        app = _forwarding(address, Metrics(), Middleware(RequestTracing, tracing))
        async with client(app) as http:
            asked = [http.get("/v/a", headers={"X-Request-ID": f"r{i}"}) for i in range(12)]
            await asyncio.gather(*asked)

    asyncio.run(run())
    tracing.close()
    servers = {span.span_id: span for span, _ in found.spans if span.kind == _SERVER}
    calls = [span for span, _ in found.spans if span.kind == _CLIENT]
    assert len(servers) == len(calls) == 12
    assert len({span.trace_id for span in servers.values()}) == 12
    for call in calls:
        assert servers.pop(call.parent_span_id).trace_id == call.trace_id


def test_refusals_are_traced_and_what_machines_watch_is_not(
    collector: tuple[Collector, FakeModel, str],
) -> None:
    found, _, address = collector
    metrics = Metrics()
    tracing = setup_tracing(address, "fastapi")
    keys = Keys.load(f"shop:{'k' * 16}")
    app = service(
        metrics, Middleware(RequestTracing, tracing), Middleware(KeyAuthentication, keys, metrics)
    )

    async def run() -> list[int]:
        async with client(app) as http:
            paths = ("/healthz", "/livez", "/metrics", "/healthz?x=/predict", "/healthzz")
            return [(await http.get(path)).status_code for path in paths]

    assert asyncio.run(run()) == [200, 200, 401, 200, 401]
    tracing.close()
    ((span, said),) = found.spans
    assert span.name == "GET"
    assert said["http.status_code"] == 401


def test_after_close_channels_are_plain_again(collector: tuple[Collector, FakeModel, str]) -> None:
    before = grpc.aio.insecure_channel
    tracing = setup_tracing(collector[2], "gateway")
    assert grpc.aio.insecure_channel is not before
    tracing.close()
    assert grpc.aio.insecure_channel is before


@pytest.mark.parametrize("package", ["exporter.otlp.proto.grpc.trace_exporter", "sdk.trace"])
def test_without_the_packages_the_extra_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"opentelemetry.{package}", None)
    with pytest.raises(InfrastructureError, match=r"pip install 'triton-tuner\[otel\]'"):
        setup_tracing(None, "fastapi")


def test_a_collector_that_is_away_does_no_harm() -> None:
    tracing = setup_tracing("127.0.0.1:9", "fastapi")

    async def run() -> httpx.Response:
        async with client(service(Metrics(), Middleware(RequestTracing, tracing))) as http:
            return await http.post("/predict")

    assert asyncio.run(run()).status_code == 200
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < 5
