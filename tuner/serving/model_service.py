"""A model's service without its routes: from validated items over an engine to the answer."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, TypeAdapter
from starlette.responses import Response
from starlette.types import Scope

from tuner.model.signature import Arrays, Signature
from tuner.serving.constants import REQUESTS
from tuner.serving.draining import is_draining
from tuner.serving.engine import Computed, Engine, EngineRefused
from tuner.serving.metrics import Metrics
from tuner.serving.processing import Processing
from tuner.serving.schema import Health, Status
from tuner.serving.settings import ServiceSettings

JSON = "application/json"
MakeProcessing = Callable[[Signature], Processing]


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be asked, with its processing, and when it was loaded (ISO 8601)."""

    signature: Signature
    processing: Processing
    predictions: TypeAdapter[list[Any]]
    loaded: str

    @classmethod
    def of(cls, signature: Signature, processing: Processing) -> "LoadedModel":
        adapter = TypeAdapter(list[processing.Prediction])  # type: ignore[name-defined]
        return cls(signature, processing, adapter, datetime.now(UTC).isoformat())


class Timeline:
    """When one request got where, in seconds of ``time.perf_counter``."""

    __slots__ = ("arrived", "computed", "encoded", "parsed")

    def __init__(self, scope: Scope) -> None:
        self.arrived: float = scope["state"]["began"]
        self.parsed = time.perf_counter()
        self.encoded = self.computed = self.parsed

    def deadline(self, timeout: float) -> float:
        """``timeout`` seconds after the request's arrival, in seconds of ``time.monotonic``."""
        return time.monotonic() + timeout - (time.perf_counter() - self.arrived)

    def milliseconds(self) -> float:
        """Since the request was parsed."""
        return 1e3 * (time.perf_counter() - self.parsed)


class ModelService:
    """The engine with what surrounds it; ``model`` is None until it is loaded."""

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
        self.model: LoadedModel | None = None
        self._make_processing = make_processing

    @property
    def request_type(self) -> type[BaseModel] | None:
        """That of ``/predict``; None until the model is loaded."""
        return None if self.model is None else self.model.processing.Request

    async def load(self) -> LoadedModel:
        """Start the engine; what the routes have to know of its model."""
        signature = await self.engine.start()
        processing = await asyncio.to_thread(self._make_processing, signature)
        self.model = LoadedModel.of(signature, processing)
        return self.model

    def reload(self, signature: Signature) -> LoadedModel:
        """The same for a model that came back with another signature."""
        self.model = LoadedModel.of(signature, self._make_processing(signature))
        return self.model

    async def health(self) -> Health:
        if is_draining():
            status = "draining"
        elif self.model is None:
            status = "loading"
        else:
            status = "ready" if await self.engine.is_ready() else "unavailable"
        return Health(status=status, worker=os.getpid())

    async def status(self) -> Status:
        health = await self.health()
        return Status(
            status=health.status,
            worker=health.worker,
            model=None if self.model is None else self.model.signature.model,
            loaded=None if self.model is None else self.model.loaded,
            reason=getattr(self.engine, "reason", None),
        )

    async def answer(self, scope: Scope, item: BaseModel) -> Response:
        """The model's prediction for one item."""
        assert self.model is not None
        processing = self.model.processing
        timeline = Timeline(scope)
        inputs = _encode(processing, [item])
        timeline.encoded = time.perf_counter()
        computed = await self.engine.infer(inputs, timeline.deadline(self.settings.timeout))
        timeline.computed = time.perf_counter()
        (prediction,) = processing.decode(computed.outputs)
        fields = prediction.model_dump_json(by_alias=True)[:-1]
        comma = "," if len(fields) > 1 else ""
        body = f'{fields}{comma}"latency_ms":{timeline.milliseconds():.3f}}}'
        response = Response(body, media_type=JSON)
        self._count(timeline, [computed], 1)
        return response

    async def answer_batch(self, scope: Scope, model: LoadedModel, items: list[Any]) -> Response:
        """The model's predictions for all items, in their order; computed together if the model
        has a batch. ``items`` are of the type that this ``model`` takes.
        """
        timeline = Timeline(scope)
        small = len(items) <= REQUESTS.inline_items
        groups = [items] if model.signature.batched else [[item] for item in items]
        inputs = await _run(small, lambda: [_encode(model.processing, group) for group in groups])
        timeline.encoded = time.perf_counter()
        deadline = timeline.deadline(self.settings.timeout)
        computed = [await self.engine.infer(arrays, deadline) for arrays in inputs]
        timeline.computed = time.perf_counter()
        predictions = await _run(small, lambda: _predictions_json(model, computed))
        rest = f',"latency_ms":{timeline.milliseconds():.3f},"batch_size":{len(items)}}}'
        body = b'{"predictions":' + predictions + rest.encode()
        response = Response(body, media_type=JSON)
        self._count(timeline, computed, len(items))
        return response

    def _count(self, timeline: Timeline, computed: Sequence[Computed], items: int) -> None:
        self.metrics.predicted(
            items,
            parsing=timeline.parsed - timeline.arrived,
            tokenising=timeline.encoded - timeline.parsed,
            queue=sum(result.queue for result in computed),
            inference=sum(result.infer for result in computed),
            serialisation=time.perf_counter() - timeline.computed,
        )


def _encode(processing: Processing, items: Sequence[Any]) -> Arrays:
    try:
        return processing.encode(items)
    except ValueError as error:
        raise EngineRefused(str(error)) from error


def _predictions_json(model: LoadedModel, computed: Sequence[Computed]) -> bytes:
    decode = model.processing.decode
    predictions = [row for result in computed for row in decode(result.outputs)]
    return model.predictions.dump_json(predictions, by_alias=True)


async def _run(inline: bool, work: Callable[[], Any]) -> Any:
    return work() if inline else await asyncio.to_thread(work)
