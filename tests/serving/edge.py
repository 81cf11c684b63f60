"""A small service behind the layers that every service has."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tuner.serving.draining import DrainingProtocol, DrainingServer
from tuner.serving.http_protocol import BoundedProtocol
from tuner.serving.identity import Envelope
from tuner.serving.metrics import Metrics

LARGE = 32 << 20  # bytes of /large: more than the kernel holds for a client that reads nothing


class Gate:
    """Holds requests to /predict back until it is opened."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def passing(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self._open.wait()
        finally:
            self.inside -= 1


def service(metrics: Metrics, *layers: Middleware, gate: Gate | None = None) -> Starlette:
    async def predict(request: Request) -> Response:
        await request.body()
        if gate is not None:
            await gate.passing()
        return JSONResponse({"client": request.scope["state"].get("client")})

    async def slow(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(0.4)
        return JSONResponse({})

    async def broken(request: Request) -> Response:
        raise RuntimeError("a fault of the service")

    async def halfway(request: Request) -> Response:
        async def parts() -> Any:
            yield b"half"
            raise RuntimeError("a fault amid the answer")

        return StreamingResponse(parts())

    async def fine(request: Request) -> Response:
        return JSONResponse({"state": sorted(request.scope["state"])})

    async def large(request: Request) -> Response:
        return Response(bytes(LARGE))

    async def measured(request: Request) -> Response:
        body, kind = metrics.render()
        return Response(body, media_type=kind)

    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/batch_predict", predict, methods=["POST"]),
        Route("/slow", slow, methods=["POST"]),
        Route("/broken", broken),
        Route("/halfway", halfway),
        Route("/large", large),
        Route("/models/{name}", fine),
        Route("/healthz", fine),
        Route("/livez", fine),
        Route("/metrics", measured),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Envelope, metrics=metrics), *layers])


@contextlib.asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Of an application in this process, started and stopped as a server would."""
    told: asyncio.Queue[Any] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan", "state": {}}, told.get, said.put))
    await told.put({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            yield http
    finally:
        await told.put({"type": "lifespan.shutdown"})
        await life


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(app) as http:
            return await http.request(method, path, **options)

    return asyncio.run(once())


def value(metrics: Metrics, line: str) -> float | None:
    """Of one line of /metrics, as ``tuner_in_flight`` or ``name{label="x"}``."""
    for found in metrics.render()[0].decode().splitlines():
        if found.startswith(f"{line} "):
            return float(found.rpartition(" ")[2])
    return None


@contextlib.contextmanager
def served(
    app: Any, protocol: type[BoundedProtocol] = DrainingProtocol, keep_alive: int = 5
) -> Iterator[int]:
    """A uvicorn in a thread; gives its port. ``keep_alive`` is in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            app,
            http=protocol,
            log_config=None,
            lifespan="off",
            ws="none",
            timeout_keep_alive=keep_alive,
        )
        server = DrainingServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def eventually(condition: Callable[[], bool], within: float = 20.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.01)
