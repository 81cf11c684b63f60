"""The gateway: FastAPI in front of Triton, for any model.

It parses, lets in who has a key, limits rates, makes tensors, and asks Triton over gRPC. It comes
up before Triton does and answers 503 until Triton is there; its routes have the types of the model.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import Response

from tuner.client.aio import AsyncTritonClient
from tuner.client.connection import Connection, Tls
from tuner.errors import UsageError
from tuner.serving.api import MakeProcessing, Service, create_app
from tuner.serving.auth import Authorize, Keys
from tuner.serving.identity import COMPUTING, error_response
from tuner.serving.limiting import Limit, open_storage, parse_rates
from tuner.serving.loading import find_processing
from tuner.serving.metrics import Metrics
from tuner.serving.remote import EngineFailed, TritonEngine
from tuner.serving.schema import TensorProcessing
from tuner.serving.settings import REPLACEMENT, GatewaySettings
from tuner.serving.shedding import Shed
from tuner.serving.supervise import end_with_supervisor
from tuner.serving.tracing import Trace, Tracing, setup_tracing

API_KEYS = "TUNER_API_KEYS"
"""The variable that holds keys themselves, in the form of a file of keys."""
_TAKE_OVER_SECONDS = 1.0


def create_gateway(settings: GatewaySettings) -> FastAPI:
    """The service; UsageError where what it was told does not hold together.

    Tracing is set up for the whole process, once.
    """
    metrics = Metrics()
    tracing = (
        setup_tracing(settings.otel_endpoint, f"tuner-gateway-{settings.model}")
        if settings.tracing or settings.otel_endpoint
        else None
    )
    client = AsyncTritonClient(
        settings.triton,
        settings.model,
        protocol="grpc" if tracing else "lean",  # traces travel with the calls of grpc.aio
        channels=settings.channels,
        tls=client_tls(settings),
    )
    app = create_app(
        engine := TritonEngine(client),
        _processing(settings),
        settings,
        _middleware(settings, metrics, tracing),
        metrics=metrics,
        title=f"{settings.model} behind the gateway of tuner",
    )
    service: Service = app.state.service
    engine.changed = lambda signature: service.reopen(app, signature)
    _add_failures(app)
    if tracing is not None:
        _close_after(app, tracing)
    return app


def check(settings: GatewaySettings) -> None:
    """TunerError where the settings do not hold together, before any worker is started."""
    tls = client_tls(settings)
    Connection.to(settings.triton, settings.model, tls)
    if tls is not None:
        tls.context()
    _processing(settings)
    keys_of(settings)
    if settings.rate_limit is not None:
        parse_rates(settings.rate_limit)
    open_storage(settings.limit_storage)


def from_environment() -> FastAPI:
    """For uvicorn's workers. One that takes over from another waits for Triton only briefly: it
    must be there to say that Triton is not.
    """
    end_with_supervisor()
    takes_over = os.environ.pop(REPLACEMENT, None) == "1"
    app = create_gateway(GatewaySettings.from_environment())
    if takes_over:
        _wait_until_loaded(app)
    return app


def client_tls(settings: GatewaySettings) -> Tls | None:
    """None where the address alone says whether it is over TLS."""
    files = (settings.tls_ca, settings.tls_certificate, settings.tls_key)
    return Tls(*files) if any(files) else None


def keys_of(settings: GatewaySettings) -> Keys | None:
    """Out of the file or of the environment; None where the gateway is open to all."""
    text = os.environ.get(API_KEYS)
    if settings.api_keys is not None and text is not None:
        raise UsageError(f"give --api-keys or {API_KEYS}, not both")
    if settings.api_keys is not None:
        return Keys.load(settings.api_keys)
    return None if text is None else Keys.load(text)


def _processing(settings: GatewaySettings) -> MakeProcessing:
    if settings.folder is not None:
        return find_processing(settings.folder, settings.processing)
    if settings.processing is None:
        return TensorProcessing
    return find_processing(Path(settings.processing).parent, settings.processing)


def _middleware(
    settings: GatewaySettings, metrics: Metrics, tracing: Tracing | None
) -> list[Middleware]:
    """From the outside inwards, within the Envelope; what costs least is asked first."""
    found: list[Middleware] = []
    if tracing is not None:
        found.append(Middleware(Trace, tracing=tracing))
    found.append(Middleware(Shed, max_in_flight=settings.max_in_flight, metrics=metrics))
    keys = keys_of(settings)
    if keys is not None:
        found.append(Middleware(Authorize, keys=keys, metrics=metrics))
    if settings.rate_limit is not None:
        rates = parse_rates(settings.rate_limit)
        storage = open_storage(settings.limit_storage)
        found.append(Middleware(Limit, rates=rates, storage=storage, metrics=metrics))
    return found


def _add_failures(app: FastAPI) -> None:
    """Status 502 for what is Triton's fault, in the answers and in the OpenAPI."""

    @app.exception_handler(EngineFailed)
    async def failed(request: Request, error: EngineFailed) -> Response:
        request_id = request.scope["state"]["request_id"]
        return error_response(502, "upstream_failed", str(error), request_id)

    def openapi() -> dict[str, Any]:
        schema = FastAPI.openapi(app)
        for path in COMPUTING:
            answers = schema["paths"].get(path, {}).get("post", {}).get("responses", {})
            if "503" in answers:
                answers["502"] = {**answers["503"], "description": "Bad Gateway"}
        return schema

    setattr(app, "openapi", openapi)  # noqa: B010  as FastAPI is extended; mypy forbids the plain


def _wait_until_loaded(app: FastAPI) -> None:
    inner, service = app.router.lifespan_context, app.state.service

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with inner(app) as state:
            ends = time.monotonic() + _TAKE_OVER_SECONDS
            while service.loaded is None and time.monotonic() < ends:
                await asyncio.sleep(0.02)
            yield state

    app.router.lifespan_context = lifespan


def _close_after(app: FastAPI, tracing: Tracing) -> None:
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        try:
            async with inner(app) as state:
                yield state
        finally:
            tracing.close()

    app.router.lifespan_context = lifespan
