"""Several load processes send what one would."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tuner.load.generator import LoadGenerator
from tuner.load.target import Protocol, Tensor, make_target


class Listener(http.server.ThreadingHTTPServer):
    """Answers all requests, and keeps the last byte of each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.heard: list[int] = []


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append(body[-1])  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Be silent."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_processes_share_the_pool(listener: Listener) -> None:
    """Each request of the pool is sent once in a round, whatever the number of processes."""
    pool = [[Tensor("x", "UINT8", np.array([n], dtype=np.uint8))] for n in range(15)]
    address = f"127.0.0.1:{listener.server_port}"
    with LoadGenerator(workers=3) as generator:
        generator.aim(make_target(Protocol.HTTP, address, "m", pool))
        result = generator.open_loop(np.arange(30) * 0.01, drain=5.0)
    assert result.samples.ok.all()
    assert sorted(listener.heard) == sorted([*range(15), *range(15)])
