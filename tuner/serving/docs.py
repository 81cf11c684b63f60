"""``/docs``: Swagger UI out of an installed package, so that the page asks no other host.

The page itself tells nothing of the model and needs no API key; ``/openapi.json``, which it reads,
does.
"""

import importlib.util
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, HTMLResponse, Response

PACKAGE = "fastapi_offline"
"""It carries the files of Swagger UI; nothing of its code is used."""
_OWN = ("page.js", "page.css")
_BUNDLED = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
DOCS_PATHS = ("/docs", *(f"/docs/{name}" for name in (*_OWN, *_BUNDLED)))

_PAGE = Path(__file__).parent / "docs_page"
# Swagger UI writes styles into elements, and has icons as data.
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
_HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
_MISSING = """<!DOCTYPE html><title>API documentation</title>
<p>This page needs the package fastapi-offline: <code>pip install 'triton-tuner[serve]'</code>.
The API is described in <a href="openapi.json">openapi.json</a>, too.</p>"""


def add_docs(app: FastAPI) -> None:
    """``/docs`` with its files. The application itself is made with ``docs_url=None``."""
    bundled = _bundled_files()
    if bundled is None:
        app.add_api_route("/docs", _missing, include_in_schema=False)
        return
    files = {"/docs": _PAGE / "index.html"}
    files |= {f"/docs/{name}": _PAGE / name for name in _OWN}
    files |= {f"/docs/{name}": bundled / name for name in _BUNDLED}
    for path, file in files.items():
        app.add_api_route(path, _sending(file), include_in_schema=False)


def declare_keys(app: FastAPI, open_paths: tuple[str, ...]) -> None:
    """Say in the application's OpenAPI how an API key is sent, and that these paths need none."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {})["securitySchemes"] = {
            "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "Bearer": {"type": "http", "scheme": "bearer"},
        }
        schema["security"] = [{"ApiKey": []}, {"Bearer": []}]
        for path in open_paths:
            for operation in schema["paths"].get(path, {}).values():
                operation["security"] = []
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _bundled_files() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "static"


def _sending(file: Path) -> Any:
    async def send() -> Response:
        return FileResponse(file, headers=_HEADERS)

    return send


async def _missing() -> Response:
    return HTMLResponse(_MISSING, 501, headers=_HEADERS)
