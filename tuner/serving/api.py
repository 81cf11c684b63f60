"""The HTTP service around an engine: its layers, its start and its end."""

import asyncio
import functools
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware
from uvicorn.config import STARTUP_FAILURE

from tuner.errors import TunerError
from tuner.model.signature import Signature
from tuner.serving.auth import ALWAYS_OPEN
from tuner.serving.body import BodyLimit
from tuner.serving.docs import add_docs, declare_keys
from tuner.serving.failures import handle_errors
from tuner.serving.fast_path import FastPath
from tuner.serving.identity import Envelope
from tuner.serving.model_service import ModelService
from tuner.serving.routes import add_placeholders, add_watching, replace_computing
from tuner.serving.settings import FAILURE, is_replacement
from tuner.version import __version__


@dataclass(frozen=True)
class AppOptions:
    """How one service differs from another.

    ``middleware`` comes inside the Envelope that counts requests, before a body is read;
    ``admission`` comes after. ``error_statuses`` are documented beside the usual ones. A worker
    that replaces another waits up to ``takeover`` seconds for its model before it accepts
    connections; without a limit, if None. ``needs_key`` says whether ``middleware`` asks for API
    keys. ``on_close`` is called at the end.
    """

    title: str
    middleware: Sequence[Middleware] = ()
    admission: Sequence[Middleware] = ()
    error_statuses: tuple[int, ...] = ()
    needs_key: bool = False
    takeover: float | None = None
    on_close: Callable[[], None] | None = None


def end_process(error: Exception) -> None:
    """The reason on stderr, and the exit code at which the supervisor gives up as well. Of several
    workers that fail, one says so.
    """
    if _is_first_failure():
        if not isinstance(error, TunerError):
            traceback.print_exception(error)
        print(f"error: the model cannot be served: {error}", file=sys.stderr, flush=True)
    os._exit(STARTUP_FAILURE)


def _is_first_failure() -> bool:
    """Always True for a worker that replaces another: those start one at a time."""
    marker = os.environ.get(FAILURE)
    if marker is None or is_replacement():
        return True
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def create_app(service: ModelService, options: AppOptions) -> FastAPI:
    """The service, which loads its model as soon as it is started, and answers 503 until then.

    The process ends if the model cannot be loaded.
    """
    settings = service.settings
    app = FastAPI(
        title=options.title,
        version=__version__,
        docs_url=None,  # its page would load Swagger UI from another host
        redoc_url=None,
        lifespan=functools.partial(_lifespan, service=service, options=options),
        middleware=[
            Middleware(Envelope, metrics=service.metrics),
            *options.middleware,
            Middleware(BodyLimit, most=settings.max_body, timeout=settings.timeout),
            *options.admission,
            Middleware(FastPath, service=service),
        ],
    )
    handle_errors(app)
    add_watching(app, service)
    add_docs(app)
    add_placeholders(app)
    if options.needs_key:
        declare_keys(app, ALWAYS_OPEN)
    return app


def reload(app: FastAPI, service: ModelService, options: AppOptions, signature: Signature) -> None:
    """Give the routes the types of a model that came back with this signature.

    TunerError if its processing does not take it; the routes stay as they are then.
    """
    replace_computing(app, service, service.reload(signature), options.error_statuses)


@asynccontextmanager
async def _lifespan(
    app: FastAPI, service: ModelService, options: AppOptions
) -> AsyncIterator[None]:
    loading = asyncio.create_task(_load(app, service, options))
    try:
        if is_replacement():  # its predecessor serves until this one can
            await asyncio.wait([loading], timeout=options.takeover)
        yield
    finally:
        loading.cancel()
        await service.engine.close()
        if options.on_close is not None:
            options.on_close()


async def _load(app: FastAPI, service: ModelService, options: AppOptions) -> None:
    try:
        model = await service.load()
        replace_computing(app, service, model, options.error_statuses)
    except Exception as error:  # noqa: BLE001  the service ends here, and says why
        end_process(error)
