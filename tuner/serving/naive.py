"""A FastAPI service as it is often written, to be compared with. Not for use.

What is wrong with it: the endpoint is ``async`` and computes on the event loop, so that one request
at a time is served and no other is even read meanwhile; ONNX Runtime takes all cores for each of
them, and lets its threads spin on them in between; nothing bounds what waits, or for how long.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from starlette.middleware import Middleware

from tuner.model.config import read_config
from tuner.model.signature import Signature
from tuner.serving.api import end_process
from tuner.serving.fastapi import load_model
from tuner.serving.identity import Envelope
from tuner.serving.loading import find_processing
from tuner.serving.local import LocalModel
from tuner.serving.metrics import Metrics
from tuner.serving.schema import Health, batch_answer, predict_answer
from tuner.serving.settings import FastApiSettings


def create_naive(settings: FastApiSettings) -> FastAPI:
    """The same routes and answers as the service that is made well, less its errors."""
    signature = Signature.of_config(read_config(settings.model))
    processing = find_processing(settings.model, settings.processing)(signature)
    metrics = Metrics()
    found: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            found["model"] = load_model(settings, naive=True)
        except Exception as error:  # noqa: BLE001  the service ends here, and says why
            end_process(error)
        found["loaded"] = datetime.now(UTC).isoformat()
        yield

    app = FastAPI(lifespan=lifespan, middleware=[Middleware(Envelope, metrics=metrics)])

    def answer(request: Request, items: list[Any]) -> tuple[list[Any], float]:
        model: LocalModel = found["model"]
        began = time.perf_counter()
        metrics.stage("parsing", began - request.scope["state"]["began"])
        try:
            inputs = processing.encode(items)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        encoded = time.perf_counter()
        outputs = model.compute(inputs)
        computed = time.perf_counter()
        predictions = processing.decode(outputs)
        ended = time.perf_counter()
        metrics.stage("tokenising", encoded - began)
        metrics.stage("queue", 0.0)
        metrics.stage("inference", computed - encoded)
        metrics.stage("serialisation", ended - computed)
        metrics.predicted(len(items))
        return predictions, 1e3 * (ended - began)

    async def predict(request: Request, item: Any) -> Any:
        (prediction,), took = answer(request, [item])
        return {**prediction.model_dump(by_alias=True), "latency_ms": took}

    async def batch_predict(request: Request, items: Any) -> Any:
        predictions, took = answer(request, items)
        found = [each.model_dump(by_alias=True) for each in predictions]
        return {"predictions": found, "latency_ms": took, "batch_size": len(items)}

    predict.__annotations__["item"] = processing.Request
    batch_predict.__annotations__["items"] = list[processing.Item]  # type: ignore[name-defined]
    app.post("/predict", response_model=predict_answer(processing))(predict)
    app.post("/batch_predict", response_model=batch_answer(processing))(batch_predict)

    @app.get("/healthz")
    async def healthz() -> Health:
        name = settings.model.name
        return Health(status="ready", model=name, worker=os.getpid(), loaded=found["loaded"])

    @app.get("/metrics")
    async def told() -> Response:
        body, kind = metrics.render()
        return Response(body, headers={"content-type": kind})

    return app
