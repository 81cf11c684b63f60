"""The routes of a service: health, status and metrics, and the model's predictions."""

import os
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from tuner.serving.constants import REQUESTS
from tuner.serving.engine import EngineUnavailable
from tuner.serving.failures import retry_after
from tuner.serving.identity import COMPUTING
from tuner.serving.metrics import Metrics
from tuner.serving.model_service import JSON, LoadedModel, ModelService
from tuner.serving.schema import ErrorAnswer, Health, Live, Status, batch_answer, predict_answer

_ERROR_STATUSES = (400, 408, 413, 422, 500, 503, 504)


def add_watching(app: FastAPI, service: ModelService) -> None:
    """``/healthz``, ``/livez``, ``/status`` and ``/metrics``."""

    @app.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> Response:
        """Readiness: 200 if the model can serve requests now, else 503. Needs no API key."""
        health = await service.health()
        ready = health.status == "ready"
        headers = None if ready else retry_after(REQUESTS.loading_retry)
        return Response(health.model_dump_json(), 200 if ready else 503, headers, JSON)

    @app.get("/livez")
    async def livez() -> Live:
        """Liveness: 200 as long as the process responds. Needs no API key."""
        return Live(status="live", worker=os.getpid())

    @app.get("/status")
    async def status() -> Status:
        """The model, when this worker loaded it, and why it is not ready."""
        return await service.status()

    add_metrics(app, service.metrics)


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """``/metrics`` alone."""

    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Metrics of all workers, in Prometheus' text format."""
        body, kind = metrics.render()
        return Response(body, headers={"content-type": kind})


def add_placeholders(app: FastAPI) -> None:
    """The model's routes until it is loaded: status 503."""

    async def not_yet() -> Response:
        raise EngineUnavailable("the model is loading", REQUESTS.loading_retry)

    for path in COMPUTING:
        app.add_api_route(path, not_yet, methods=["POST"], include_in_schema=False)


def replace_computing(
    app: FastAPI, service: ModelService, model: LoadedModel, statuses: tuple[int, ...]
) -> None:
    """Open ``/predict`` and ``/batch_predict`` with the model's types, in place of the placeholders
    or of another signature's routes. ``statuses`` are errors of this service beside the usual ones.
    """
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", "") not in COMPUTING]
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer} for status in sorted((*_ERROR_STATUSES, *statuses))
    }
    processing = model.processing
    for path, handler, answer in (
        ("/predict", _predict(service, model), predict_answer(processing)),
        ("/batch_predict", _batch_predict(service, model), batch_answer(processing)),
    ):
        app.add_api_route(path, handler, methods=["POST"], response_model=answer, responses=errors)
    app.openapi_schema = None  # it may have been asked for already


def _predict(service: ModelService, model: LoadedModel) -> Callable[..., Any]:
    async def predict(request: Request, item: BaseModel) -> Response:
        """Predict one item."""
        return await service.answer(request.scope, item)

    predict.__annotations__["item"] = model.processing.Request
    return predict


def _batch_predict(service: ModelService, model: LoadedModel) -> Callable[..., Any]:
    async def batch_predict(request: Request, items: list[Any]) -> Response:
        """Predict a list of items; the predictions come in the same order."""
        return await service.answer_batch(request.scope, model, items)

    most = service.settings.max_items
    items = Annotated[list[model.processing.Item], Field(min_length=1, max_length=most)]  # type: ignore[name-defined]
    batch_predict.__annotations__["items"] = items
    return batch_predict
