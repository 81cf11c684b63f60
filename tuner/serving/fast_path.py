"""The fast path of ``/predict``: what most requests are, past the routing of FastAPI.

FastAPI's own way through routing, dependencies and exceptions takes longer than all else that a
gateway does. A valid request is answered here; every other one goes on to FastAPI, body and all, so
that one place says what is wrong with a request.
"""

from collections.abc import Awaitable, Callable

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tuner.serving.body import again
from tuner.serving.identity import header
from tuner.serving.model_service import ModelService

_PATH = "/predict"
_JSON = b"application/json"
Handler = Callable[[Request, Exception], Awaitable[Response]]


class FastPath:
    """The innermost layer before FastAPI's own."""

    def __init__(self, app: ASGIApp, service: ModelService) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = self._service.request_type
        if kind is None or not _is_predict(scope):
            await self._app(scope, receive, send)
            return
        handlers = scope["app"].exception_handlers
        try:
            body: bytes = (await receive())["body"]  # whole: BodyLimit has read it
            try:
                item = kind.model_validate_json(body)
            except ValidationError:
                await self._app(scope, again(body, receive), send)
                return
            response = await self._service.answer(scope, item)
        except Exception as error:
            handler = _handler(handlers, error)
            if handler is None:
                raise
            response = await handler(Request(scope, receive), error)
        await response(scope, receive, send)


def _is_predict(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["path"] != _PATH or scope["method"] != "POST":
        return False
    return (header(scope, b"content-type") or b"").startswith(_JSON)


def _handler(handlers: dict[type[Exception], Handler], error: Exception) -> Handler | None:
    """That of the error's own class, or of the nearest one above it."""
    of_classes = (handlers.get(error_class) for error_class in type(error).__mro__)
    return next((handler for handler in of_classes if handler is not None), None)
