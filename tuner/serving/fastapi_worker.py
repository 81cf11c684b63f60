"""The app in the workers of ``tuner serve fastapi``, made as for production.

The event loop is never blocked, threads add up to the cores, and what cannot be served in time is
turned away. It computes each request by itself: batching is what Triton adds.
"""

from fastapi import FastAPI

from tuner.serving.api import AppOptions, create_app
from tuner.serving.fastapi import load_model
from tuner.serving.loading import find_processing
from tuner.serving.local import LocalEngine
from tuner.serving.metrics import Metrics
from tuner.serving.model_service import ModelService
from tuner.serving.naive import create_naive
from tuner.serving.settings import FastApiSettings
from tuner.serving.shedding import Places, shedding
from tuner.serving.supervise import end_with_supervisor


def app_from_environment() -> FastAPI:
    """The service that the environment describes: production, or naive."""
    end_with_supervisor()
    settings = FastApiSettings.from_environment()
    return create_naive(settings) if settings.naive else create_service(settings)


def create_service(settings: FastApiSettings) -> FastAPI:
    """The service; TunerError if the model's own processing cannot be loaded."""
    places, metrics = Places(settings.queue + 1), Metrics()
    engine = LocalEngine(lambda: load_model(settings), settings.concurrency, places)
    make_processing = find_processing(settings.model, settings.processing)
    service = ModelService(engine, make_processing, settings, metrics)
    early, late = shedding(places, metrics)
    options = AppOptions(
        title=f"{settings.model.name}, served by FastAPI", middleware=[early], admission=[late]
    )
    return create_app(service, options)
