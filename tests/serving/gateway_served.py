"""The gateway as a service: uvicorn in a thread of the tests."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.serving.edge import eventually
from tuner.serving.draining import DrainingProtocol, DrainingServer
from tuner.serving.gateway import create_gateway
from tuner.serving.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
PROCESSING = str(ROOT / "model_repository/text_classifier/processing.py")


@contextmanager
def gateway(triton: str, model: str, ready: bool = True, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a gateway in front of the model on this Triton, ready if it is to be."""
    app = create_gateway(GatewaySettings(triton=triton, model=model, **settings))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            app,
            http=DrainingProtocol,
            log_config=None,
            ws="none",
            proxy_headers=False,
            timeout_graceful_shutdown=5,
        )
        server = DrainingServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        limits = httpx.Limits(max_connections=None)
        try:
            with httpx.Client(base_url=url, trust_env=False, timeout=20, limits=limits) as client:
                eventually(lambda: server.started)
                if ready:
                    eventually(lambda: client.get("/healthz").status_code == 200)
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()
