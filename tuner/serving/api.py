"""The HTTP service around an engine: routes, readiness, limits, and errors in one form."""

import asyncio
import functools
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, TypeAdapter
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.config import STARTUP_FAILURE

from tuner import __version__
from tuner.errors import TunerError
from tuner.model.signature import Arrays, Signature
from tuner.serving.body import BodyLimit
from tuner.serving.direct import Direct
from tuner.serving.engine import (
    Computed,
    DeadlineExceeded,
    Engine,
    EngineRefused,
    EngineUnavailable,
)
from tuner.serving.identity import Envelope, error_response
from tuner.serving.metrics import Metrics
from tuner.serving.processing import Processing
from tuner.serving.schema import (
    NO_JSON,
    ErrorAnswer,
    Health,
    Live,
    batch_answer,
    explain,
    predict_answer,
)
from tuner.serving.settings import ServiceSettings, is_replacement

JSON = "application/json"
_INLINE = 8
"""Batches up to this size are encoded and decoded on the event loop: faster than a thread is."""
_LOADING_RETRY = 1.0
_TYPES = {
    400: "malformed",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "too_large",
}
_WORDS = {
    400: NO_JSON,
    404: "there is no such path; see /openapi.json",
    405: "the path does not take this method; see /openapi.json",
    408: "the body did not come in time",
}

MakeProcessing = Callable[[Signature], Processing]
Failed = Callable[[Exception], None]


def end_process(error: Exception) -> None:
    """The reason on stderr, and the exit code at which the supervisor gives up as well."""
    if not isinstance(error, TunerError):
        traceback.print_exception(error)
    print(f"error: the model cannot be served: {error}", file=sys.stderr, flush=True)
    os._exit(STARTUP_FAILURE)


def create_app(
    engine: Engine,
    processing: MakeProcessing,
    settings: ServiceSettings,
    middleware: Sequence[Middleware] = (),
    *,
    metrics: Metrics | None = None,
    failed: Failed = end_process,
    title: str = "tuner",
) -> FastAPI:
    """The service, which loads its model as soon as it is started, and answers 503 until then.

    ``middleware`` comes inside the Envelope that counts requests, and shares ``metrics`` with it.
    ``failed`` is called where the model cannot be loaded.
    """
    counted = metrics or Metrics()
    service = Service(engine, processing, settings, counted)
    app = FastAPI(
        title=title,
        version=__version__,
        lifespan=functools.partial(_lifespan, service=service, failed=failed),
        middleware=[
            Middleware(Envelope, metrics=counted),
            *middleware,
            Middleware(BodyLimit, most=settings.max_body, timeout=settings.timeout),
            Middleware(Direct, service=service),
        ],
    )
    app.state.service = service
    _handle_errors(app)
    _add_watching(app, service)
    _add_placeholders(app)
    return app


class Service:
    """The engine with what surrounds it; ``processing`` is None until the model is loaded."""

    def __init__(
        self,
        engine: Engine,
        make_processing: MakeProcessing,
        settings: ServiceSettings,
        metrics: Metrics,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self.signature: Signature | None = None
        self.request_type: type[BaseModel] | None = None
        self._processing: Processing | None = None
        self.loaded: str | None = None
        self._make_processing = make_processing

    async def load(self, app: FastAPI) -> None:
        """Start the engine and open the routes whose types follow from its model."""
        signature = await self.engine.start()
        processing = await asyncio.to_thread(self._make_processing, signature)
        self._open(app, signature, processing)

    def reopen(self, app: FastAPI, signature: Signature) -> None:
        """Make the routes anew for a model of this signature."""
        self._open(app, signature, self._make_processing(signature))

    def _open(self, app: FastAPI, signature: Signature, processing: Processing) -> None:
        _add_computing(app, self, processing, signature.batched)
        self._processing, self.request_type = processing, processing.Request
        self.signature = signature
        self.loaded = datetime.now(UTC).isoformat()

    async def health(self) -> Health:
        if self.loaded is None:
            status = "loading"
        else:
            status = "ready" if await self.engine.is_ready() else "unavailable"
        model = None if self.signature is None else self.signature.model
        return Health(
            status=status,
            model=model,
            worker=os.getpid(),
            loaded=self.loaded,
            reason=getattr(self.engine, "reason", None),
        )

    async def answer(self, scope: Scope, item: BaseModel) -> Response:
        """What the model says of one item."""
        processing = self._processing
        assert processing is not None
        began = time.perf_counter()
        inputs = _encoded(processing, [item])
        encoded = time.perf_counter()
        computed = await self.compute(inputs)
        answered = time.perf_counter()
        (prediction,) = processing.decode(computed.outputs)
        said = prediction.model_dump_json(by_alias=True)[:-1]
        took = 1e3 * (time.perf_counter() - began)
        comma = "," if len(said) > 1 else ""
        response = Response(f'{said}{comma}"latency_ms":{took:.3f}}}', media_type=JSON)
        self.metrics.predicted(1)
        self.count(
            began - scope["state"]["began"],
            encoded - began,
            [computed],
            time.perf_counter() - answered,
        )
        return response

    async def compute(self, inputs: Arrays) -> Computed:
        return await self.engine.infer(inputs, time.monotonic() + self.settings.timeout)

    def count(
        self, parsing: float, encode: float, computed: Sequence[Computed], rest: float
    ) -> None:
        """The stages of a request that succeeded, in seconds."""
        stage = self.metrics.stage
        stage("parsing", parsing)
        stage("tokenising", encode)
        stage("queue", sum(each.queue for each in computed))
        stage("inference", sum(each.infer for each in computed))
        stage("serialisation", rest)


@asynccontextmanager
async def _lifespan(app: FastAPI, service: Service, failed: Failed) -> AsyncIterator[None]:
    loading = asyncio.create_task(_load(app, service, failed))
    try:
        if is_replacement():  # its predecessor serves until this one can
            await loading
        yield
    finally:
        loading.cancel()
        await service.engine.close()


async def _load(app: FastAPI, service: Service, failed: Failed) -> None:
    try:
        await service.load(app)
    except Exception as error:  # noqa: BLE001  the service ends here, or says why it does not
        failed(error)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI."""
    return {status: {"model": ErrorAnswer} for status in statuses}


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> Response:
        """Whether the model can be asked now."""
        health = await service.health()
        ready = health.status == "ready"
        headers = None if ready else _retry_after(_LOADING_RETRY)
        return Response(health.model_dump_json(), 200 if ready else 503, headers, JSON)

    @app.get("/livez")
    async def livez() -> Live:
        """Whether this process answers at all."""
        return Live(status="live", worker=os.getpid())

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics of all workers."""
        body, kind = service.metrics.render()
        return Response(body, headers={"content-type": kind})


def _add_placeholders(app: FastAPI) -> None:
    async def not_yet() -> Response:
        raise EngineUnavailable("the model is being loaded", _LOADING_RETRY)

    for path in ("/predict", "/batch_predict"):
        app.add_api_route(path, not_yet, methods=["POST"], include_in_schema=False)


def _add_computing(app: FastAPI, service: Service, processing: Processing, batched: bool) -> None:
    paths = ("/predict", "/batch_predict")
    app.router.routes[:] = [r for r in app.router.routes if getattr(r, "path", "") not in paths]
    errors = documented(400, 401, 408, 413, 422, 429, 500, 503, 504)
    app.add_api_route(
        "/predict",
        predict_route(service, processing),
        methods=["POST"],
        response_model=predict_answer(processing),
        responses=errors,
    )
    app.add_api_route(
        "/batch_predict",
        batch_route(service, processing, batched),
        methods=["POST"],
        response_model=batch_answer(processing),
        responses=errors,
    )
    app.openapi_schema = None  # it may have been asked for already


def predict_route(service: Service, processing: Processing) -> Callable[..., Any]:
    async def predict(request: Request, item: BaseModel) -> Response:
        """What the model says of one item."""
        return await service.answer(request.scope, item)

    predict.__annotations__["item"] = processing.Request
    return predict


def batch_route(service: Service, processing: Processing, batched: bool) -> Callable[..., Any]:
    adapter = TypeAdapter(list[processing.Prediction])  # type: ignore[name-defined]

    async def batch_predict(request: Request, items: list[Any]) -> Response:
        """What the model says of each item, in their order; computed together."""
        began = time.perf_counter()
        small = len(items) <= _INLINE
        groups = [items] if batched else [[item] for item in items]
        inputs = await _run(small, lambda: [_encoded(processing, group) for group in groups])
        encoded = time.perf_counter()
        computed = [await service.compute(each) for each in inputs]
        answered = time.perf_counter()

        def written() -> bytes:
            found = [p for each in computed for p in processing.decode(each.outputs)]
            return adapter.dump_json(found, by_alias=True)

        said = await _run(small, written)
        took = 1e3 * (time.perf_counter() - began)
        tail = f',"latency_ms":{took:.3f},"batch_size":{len(items)}}}'
        response = Response(b'{"predictions":' + said + tail.encode(), media_type=JSON)
        service.metrics.predicted(len(items))
        service.count(
            began - request.scope["state"]["began"],
            encoded - began,
            computed,
            time.perf_counter() - answered,
        )
        return response

    most = service.settings.max_items
    kind = Annotated[list[processing.Item], Field(min_length=1, max_length=most)]  # type: ignore[name-defined]
    batch_predict.__annotations__["items"] = kind
    return batch_predict


async def _run(small: bool, work: Callable[[], Any]) -> Any:
    return work() if small else await asyncio.to_thread(work)


def _encoded(processing: Processing, items: Sequence[Any]) -> Arrays:
    try:
        return processing.encode(items)
    except ValueError as error:
        raise EngineRefused(str(error)) from error


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(EngineUnavailable)
    async def unavailable(request: Request, error: EngineUnavailable) -> Response:
        return _error(request, 503, "unavailable", str(error), _retry_after(error.retry_after))

    @app.exception_handler(EngineRefused)
    async def refused(request: Request, error: EngineRefused) -> Response:
        return _error(request, 422, "refused", str(error))

    @app.exception_handler(DeadlineExceeded)
    async def late(request: Request, error: DeadlineExceeded) -> Response:
        return _error(request, 504, "deadline_exceeded", str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        kind, words = explain(error.errors())
        return _error(request, 422, kind, words)

    @app.exception_handler(HTTPException)
    async def refused_by_framework(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        words = _WORDS.get(status, str(error.detail))
        if status == 413:
            words = f"the body is larger than {app.state.service.settings.max_body} bytes"
        kind = _TYPES.get(status, "refused")
        return _error(request, status, kind, words, dict(error.headers or {}))


def _error(
    request: Request, status: int, kind: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    return error_response(status, kind, message, request_id, headers)
