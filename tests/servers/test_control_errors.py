"""A server's refusal is shown once, as UTF-8, without the frames of the model's Python."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tuner.errors import ServerFailed
from tuner.load.clients import ask_once
from tuner.load.target import Target, Transport
from tuner.servers.attached import AttachedServer
from tuner.servers.base import Endpoints
from tuner.servers.control import Control

FRAMES = "\n\nAt:\n  /models/m/1/model.py(12): initialize\n"
MESSAGES = ["ValueError: 输入太长", "RuntimeError: mémoire épuisée"]


class Refusing(BaseHTTPRequestHandler):
    """Fails each request with the error that its path or body ends with."""

    error = ""

    def do_POST(self) -> None:
        body = json.dumps({"error": self.error}, ensure_ascii=False).encode()
        self.send_response(400)
        self.send_header("Content-Type", "text/html")  # with no charset: ISO 8859-1 by default
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Logged(AttachedServer):
    log = ""

    def log_tail(self) -> str:
        return self.log


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("error", MESSAGES)
def test_a_refused_model(address: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: "
    monkeypatch.setattr(Refusing, "error", f"{state}{error}{FRAMES};\n")
    escaped = FRAMES.replace("\n", "\\n")
    server = Logged(Endpoints(address))
    server.log = (
        f'E1127 05:00:01.1 9 pb_stub.cc:402] "Failed to initialize stub: {error}{escaped}"\n'
        "E1127 05:00:01.2 9 cuda.cc:7] no CUDA device: driver too old\n"
        f"E1127 05:00:01.3 9 lifecycle.cc:1] \"failed to load 'm': Internal: {error}{escaped}\"\n"
    )
    with Control(server) as control, pytest.raises(ServerFailed) as caught:
        control.load("m", None, 5.0)
    first, *others = str(caught.value).splitlines()
    assert first == f"the server refused: {state}{error}"
    assert others == ["no CUDA device: driver too old"]


@pytest.mark.parametrize("error", MESSAGES)
def test_a_failed_inference(address: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refusing, "error", error + FRAMES)
    with Control(AttachedServer(Endpoints(address))) as control, pytest.raises(ServerFailed) as e:
        control.infer("m", "", b"", 0, 5.0)
    assert str(e.value) == f"the model failed an inference: {error}"


@pytest.mark.parametrize("error", MESSAGES)
def test_a_failed_request_of_the_load(
    address: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusing, "error", error)
    request = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert ask_once(Target(Transport.HTTP, address, (request,)), 5.0) == error
