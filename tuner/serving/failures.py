"""Every error of a service as an answer in one form."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tuner.serving.engine import (
    DeadlineExceeded,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
)
from tuner.serving.identity import error_response
from tuner.serving.schema import NO_JSON, explain

_ENGINE_ERRORS: dict[type[Exception], tuple[int, str]] = {
    EngineRefused: (422, "refused"),
    EngineFailed: (502, "upstream_failed"),
    EngineUnavailable: (503, "unavailable"),
    DeadlineExceeded: (504, "deadline_exceeded"),
}
_FRAMEWORK_ERRORS = {
    400: ("malformed", NO_JSON),
    404: ("not_found", "there is no such path; see /openapi.json"),
    405: ("method_not_allowed", "this path does not allow this method; see /openapi.json"),
}


def retry_after(seconds: float) -> dict[str, str]:
    """The header, which knows whole seconds only."""
    return {"Retry-After": str(max(1, round(seconds)))}


def handle_errors(app: FastAPI) -> None:
    """Give the application an answer for each kind of error."""

    async def engine_error(request: Request, error: Exception) -> Response:
        status, kind = _ENGINE_ERRORS[type(error)]
        headers = retry_after(error.retry_after) if isinstance(error, EngineUnavailable) else None
        return _answer(request, status, kind, str(error), headers)

    for error_type in _ENGINE_ERRORS:
        app.add_exception_handler(error_type, engine_error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        kind, message = explain(error.errors())
        return _answer(request, 422, kind, message)

    @app.exception_handler(HTTPException)
    async def refused_by_framework(request: Request, error: HTTPException) -> Response:
        kind, message = _FRAMEWORK_ERRORS.get(error.status_code, ("refused", str(error.detail)))
        return _answer(request, error.status_code, kind, message, error.headers)


def _answer(
    request: Request,
    status: int,
    kind: str,
    message: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    return error_response(status, kind, message, request_id, headers)
