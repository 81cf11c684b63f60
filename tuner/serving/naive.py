"""FastAPI (naive): a service as most tutorials write it, for comparison only.

What is wrong with it: the endpoint is ``async`` and computes on the event loop, so that one request
at a time is served and no other is even read meanwhile; ONNX Runtime takes all cores for each of
them, and lets its threads spin on them in between; nothing bounds what waits, or for how long.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from starlette.middleware import Middleware
from starlette.responses import Response

from tuner.model.config import read_config
from tuner.model.signature import Signature
from tuner.serving.api import end_process
from tuner.serving.docs import add_docs
from tuner.serving.draining import is_draining
from tuner.serving.fastapi import load_model
from tuner.serving.identity import Envelope
from tuner.serving.loading import find_processing
from tuner.serving.metrics import Metrics
from tuner.serving.model_service import JSON
from tuner.serving.routes import add_metrics
from tuner.serving.schema import Health, batch_answer, predict_answer
from tuner.serving.settings import FastApiSettings
from tuner.version import __version__


def create_naive(settings: FastApiSettings) -> FastAPI:
    """The same routes and answers as the production service, but not its errors."""
    service = NaiveService(settings)
    app = FastAPI(
        title=f"{settings.model.name}, served by FastAPI (naive)",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=service.lifespan,
        middleware=[Middleware(Envelope, metrics=service.metrics)],
    )
    add_docs(app)
    processing = service.processing

    async def predict(request: Request, item: Any) -> Any:
        (prediction,), took = service.answer(request, [item])
        return {**prediction.model_dump(by_alias=True), "latency_ms": took}

    async def batch_predict(request: Request, items: Any) -> Any:
        predictions, took = service.answer(request, items)
        rows = [prediction.model_dump(by_alias=True) for prediction in predictions]
        return {"predictions": rows, "latency_ms": took, "batch_size": len(items)}

    predict.__annotations__["item"] = processing.Request
    batch_predict.__annotations__["items"] = list[processing.Item]  # type: ignore[name-defined]
    app.post("/predict", response_model=predict_answer(processing))(predict)
    app.post("/batch_predict", response_model=batch_answer(processing))(batch_predict)
    app.get("/healthz")(service.health)
    add_metrics(app, service.metrics)
    return app


class NaiveService:
    """The model, and the seconds that its requests take."""

    def __init__(self, settings: FastApiSettings) -> None:
        signature = Signature.of_config(read_config(settings.model))
        self.processing = find_processing(settings.model, settings.processing)(signature)
        self.metrics = Metrics()
        self._settings = settings

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        try:
            self._model = load_model(self._settings, naive=True)
        except Exception as error:  # noqa: BLE001  the service ends here, and says why
            end_process(error)
        yield

    def answer(self, request: Request, items: list[Any]) -> tuple[list[Any], float]:
        """Predictions, and the milliseconds they took."""
        began = time.perf_counter()
        try:
            inputs = self.processing.encode(items)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        encoded = time.perf_counter()
        outputs = self._model.compute(inputs)
        computed = time.perf_counter()
        predictions = self.processing.decode(outputs)
        ended = time.perf_counter()
        self.metrics.predicted(
            len(items),
            parsing=began - request.scope["state"]["began"],
            tokenising=encoded - began,
            queue=0.0,
            inference=computed - encoded,
            serialisation=ended - computed,
        )
        return predictions, 1e3 * (ended - began)

    async def health(self) -> Response:
        draining = is_draining()
        health = Health(status="draining" if draining else "ready", worker=os.getpid())
        return Response(health.model_dump_json(), 503 if draining else 200, media_type=JSON)
