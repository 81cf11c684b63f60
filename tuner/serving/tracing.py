"""Traces by OpenTelemetry (extra ``otel``): from the caller through the service to Triton.

The packages are imported when tracing is asked for, and cost nothing where it is not.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.errors import InfrastructureError
from tuner.serving.constants import WORKERS
from tuner.serving.identity import COMPUTING, WATCHING

_INFER = "/ModelInfer"


@dataclass(frozen=True)
class Tracing:
    """Spans on their way to a collector; ``close`` sends what is left, and takes up to a second or
    two if nobody listens.
    """

    provider: Any
    """The TracerProvider of OpenTelemetry."""
    wrap: Callable[[ASGIApp], ASGIApp]
    """Puts an application into a span a request."""
    close: Callable[[], None]


def setup_tracing(endpoint: str | None, service_name: str) -> Tracing:
    """Send traces by OTLP over gRPC to ``endpoint``, ``http://HOST:4317``; None leaves it to the
    variables of OpenTelemetry (``OTEL_EXPORTER_OTLP_ENDPOINT``), which also set the share of
    requests that are traced (``OTEL_TRACES_SAMPLER``).

    Call it once a process, before channels to Triton are opened: those of ``grpc.aio`` carry the
    trace in their metadata (``traceparent``) from then on. InfrastructureError without the extra.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InfrastructureError(
            f"tracing needs OpenTelemetry ({error}); run: pip install 'triton-tuner[otel]'"
        ) from error
    resource = Resource.create({"service.name": service_name, "process.pid": os.getpid()})
    provider = TracerProvider(resource=resource)
    insecure = None if endpoint is None or "://" in endpoint else True
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=insecure, timeout=WORKERS.span_timeout)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    instrumentor = GrpcAioInstrumentorClient(filter_=_is_inference)  # type: ignore[no-untyped-call]
    instrumentor.instrument(tracer_provider=provider)

    def wrap(app: ASGIApp) -> ASGIApp:
        traced: ASGIApp = OpenTelemetryMiddleware(
            app,
            default_span_details=lambda scope: (scope["method"], {}),
            server_request_hook=_identify,
            tracer_provider=provider,
            exclude_spans=["receive", "send"],
        )
        return traced

    def close() -> None:
        instrumentor.uninstrument()
        provider.shutdown()

    return Tracing(provider, wrap, close)


class RequestTracing:
    """One span a request, named by method and route, with the request's id and its caller's name;
    the paths that machines watch have none.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._traced = tracing.wrap(self._named)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watched = scope["type"] != "http" or scope["path"] in WATCHING
        await (self._app if watched else self._traced)(scope, receive, send)

    async def _named(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the span when the answer begins: the route is known then, and the span ends with
        the answer. A path itself may hold anything.
        """
        from opentelemetry import trace

        span = trace.get_current_span()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                _name(span, scope)
            await send(message)

        await self._app(scope, receive, sending)


def _name(span: Any, scope: Scope) -> None:
    known = scope["path"] if scope["path"] in COMPUTING else None  # also if no route was matched
    route = getattr(scope.get("route"), "path", known)
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    client = scope["state"].get("client")
    if client is not None:
        span.set_attribute("tuner.client", client)


def _identify(span: Any, scope: Scope) -> None:
    span.set_attribute("tuner.request_id", scope["state"]["request_id"])


def _is_inference(call: Any) -> bool:
    """Whether a call to Triton is for somebody; the looks at its health are not."""
    method = call.method.decode() if isinstance(call.method, bytes) else call.method
    return bool(method.endswith(_INFER))
