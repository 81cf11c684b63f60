"""The gateway: FastAPI in front of Triton, for any model.

It parses, lets in who has a key, limits rates, makes tensors, and asks Triton over gRPC. It comes
up before Triton does and answers 503 until Triton is there; its routes have the types of the model.
"""

import os
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware

from tuner.client.aio import AsyncTritonClient
from tuner.client.connection import Connection, Tls
from tuner.errors import UsageError
from tuner.serving.api import AppOptions, create_app, reload
from tuner.serving.auth import KeyAuthentication, Keys
from tuner.serving.constants import WORKERS
from tuner.serving.docs import DOCS_PATHS
from tuner.serving.limit_storage import open_storage
from tuner.serving.limiting import RateLimiting, parse_rates
from tuner.serving.loading import find_processing
from tuner.serving.metrics import Metrics
from tuner.serving.model_service import MakeProcessing, ModelService
from tuner.serving.remote import TritonEngine
from tuner.serving.schema import TensorProcessing
from tuner.serving.settings import GatewaySettings
from tuner.serving.shedding import Places, shedding
from tuner.serving.supervise import end_with_supervisor
from tuner.serving.tracing import RequestTracing, Tracing, setup_tracing

API_KEYS = "TUNER_API_KEYS"
"""The variable that holds keys themselves, in the form of a file of keys."""


def create_gateway(settings: GatewaySettings) -> FastAPI:
    """The service; UsageError if its settings do not hold together.

    Tracing is set up for the whole process, once.
    """
    metrics = Metrics()
    tracing = None
    if settings.tracing or settings.otel_endpoint:
        tracing = setup_tracing(settings.otel_endpoint, f"tuner-gateway-{settings.model}")
    client = AsyncTritonClient(
        settings.triton,
        settings.model,
        protocol="grpc" if tracing else "lean",  # traces travel with the calls of grpc.aio
        channels=settings.channels,
        tls=client_tls(settings),
    )
    engine = TritonEngine(client)
    service = ModelService(engine, _processing(settings), settings, metrics)
    early, late = shedding(Places(settings.max_in_flight), metrics)
    keys = keys_of(settings)
    options = AppOptions(
        title=f"{settings.model}, served by Triton",
        middleware=_middleware(settings, keys, metrics, tracing, early),
        admission=[late],
        error_statuses=(401, 429, 502),  # 502 is what Triton failed at
        needs_key=keys is not None,
        takeover=WORKERS.takeover,
        on_close=None if tracing is None else tracing.close,
    )
    app = create_app(service, options)
    engine.availability.changed = lambda signature: reload(app, service, options, signature)
    return app


def check(settings: GatewaySettings) -> None:
    """TunerError if the settings do not hold together, before any worker is started."""
    tls = client_tls(settings)
    Connection.to(settings.triton, settings.model, tls)
    if tls is not None:
        tls.context()
    _processing(settings)
    keys_of(settings, warn=True)
    if settings.rate_limit is not None:
        parse_rates(settings.rate_limit)
    open_storage(settings.limit_storage)


def from_environment() -> FastAPI:
    """For uvicorn's workers."""
    end_with_supervisor()
    return create_gateway(GatewaySettings.from_environment())


def client_tls(settings: GatewaySettings) -> Tls | None:
    """None if the address alone says whether it is over TLS."""
    files = (settings.tls_ca, settings.tls_certificate, settings.tls_key)
    return Tls(*files) if any(files) else None


def keys_of(settings: GatewaySettings, warn: bool = False) -> Keys | None:
    """From the file or the environment; None if the gateway has no keys. ``warn`` logs if others
    may read the file.
    """
    text = os.environ.get(API_KEYS)
    if settings.api_keys is not None and text is not None:
        raise UsageError(f"give --api-keys or {API_KEYS}, not both")
    if settings.api_keys is not None:
        return Keys.load(settings.api_keys, warn)
    return None if text is None else Keys.load(text)


def _processing(settings: GatewaySettings) -> MakeProcessing:
    if settings.folder is not None:
        return find_processing(settings.folder, settings.processing)
    if settings.processing is None:
        return TensorProcessing
    return find_processing(Path(settings.processing).parent, settings.processing)


def _middleware(
    settings: GatewaySettings,
    keys: Keys | None,
    metrics: Metrics,
    tracing: Tracing | None,
    early: Middleware,
) -> list[Middleware]:
    """From the outside inwards, within the Envelope; what costs least is asked first.

    None of them reads a body: who has no key gets no more of it read.
    """
    layers: list[Middleware] = []
    if tracing is not None:
        layers.append(Middleware(RequestTracing, tracing=tracing))
    layers.append(early)
    if keys is not None:
        layers.append(
            Middleware(KeyAuthentication, keys=keys, metrics=metrics, open_paths=DOCS_PATHS)
        )
    if settings.rate_limit is not None:
        rates = parse_rates(settings.rate_limit)
        storage = open_storage(settings.limit_storage)
        layers.append(Middleware(RateLimiting, rates=rates, storage=storage, metrics=metrics))
    return layers
