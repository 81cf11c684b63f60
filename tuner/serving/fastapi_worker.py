"""What uvicorn's workers of ``tuner serve fastapi`` run."""

from fastapi import FastAPI

from tuner.serving.fastapi import create_service
from tuner.serving.naive import create_naive
from tuner.serving.settings import FastApiSettings
from tuner.serving.supervise import end_with_supervisor


def app_from_environment() -> FastAPI:
    """The service that the environment describes: made well, or as it is often written."""
    end_with_supervisor()
    settings = FastApiSettings.from_environment()
    return create_naive(settings) if settings.naive else create_service(settings)
