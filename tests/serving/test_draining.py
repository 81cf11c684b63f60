"""The end of a service: what reached it is answered, and it says that it ends."""

import os
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.serving.raw import raw
from tests.serving.served import Served, served, wait_for
from tuner.serving.constants import WORKERS

pytestmark = pytest.mark.slow

CLASSIFIER = str(Path(__file__).parents[2] / "model_repository/text_classifier")
SECONDS = 20.0


class Clients:
    """Threads that send requests until no connection can be made any more."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[int] = Counter()
        self.lost: list[str] = []
        self.last: list[str | None] = []
        self._url = url
        kinds = [(True, 0.005)] * 3 + [(True, 0.3)] * 3 + [(False, 0.005)] * 3
        self._threads = [threading.Thread(target=self._send, args=kind) for kind in kinds]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _send(self, keeps_alive: bool, pause: float) -> None:
        headers = {} if keeps_alive else {"Connection": "close"}
        transport = httpx.HTTPTransport(verify=False)
        last: str | None = None
        with httpx.Client(base_url=self._url, headers=headers, transport=transport) as http:
            while True:
                try:
                    reply = http.post("/predict", json={"text": "好"})
                except httpx.ConnectError:
                    break
                except httpx.TransportError as error:
                    self.lost.append(repr(error))
                    break
                self.answers[reply.status_code] += 1
                last = reply.headers.get("connection")
                time.sleep(pause)
        self.last.append(last)


def stopped(service: Served, sent: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
    """Exit code, and the seconds that it took to end."""
    began = time.monotonic()
    service.process.send_signal(sent)
    code = service.process.wait(SECONDS)
    return code, time.monotonic() - began


@pytest.mark.parametrize("attempt", range(10))
def test_no_request_is_lost_at_the_end(attempt: int) -> None:
    with served("fastapi", CLASSIFIER, "--workers", "2", end=None) as service:
        wait_for(lambda: len(service.workers()) == 2)
        clients = Clients(service.url)
        clients.start()
        time.sleep(0.5 + attempt / 100)
        code, took = stopped(service)
        clients.join()
    assert code == 0
    assert clients.lost == []
    assert set(clients.answers) == {200}
    assert set(clients.last) == {"close"}
    assert took < 10.0, "it does not wait for --graceful"


def test_it_drains_where_nobody_reads_what_it_says() -> None:
    with served("fastapi", CLASSIFIER, end=None) as service:
        assert service.process.stdout is not None
        service.process.stdout.close()
        clients = Clients(service.url)
        clients.start()
        time.sleep(0.5)
        code, _ = stopped(service)
        clients.join()
    assert code == 0
    assert clients.lost == []


def test_a_replacement_that_cannot_start_leaves_the_others_at_work(tmp_path: Path) -> None:
    model = Path(shutil.copytree(CLASSIFIER, tmp_path / "text_classifier"))
    with served("fastapi", str(model), "--workers", "2") as service:
        killed, left = service.all_workers(2)
        (model / "1" / "model.onnx").rename(model / "1" / "away")
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: set(service.workers()) == {left})
        time.sleep(1.0)
        assert service.http.post("/predict", json={"text": "好"}).status_code == 200
        (model / "1" / "away").rename(model / "1" / "model.onnx")
        wait_for(lambda: len(service.workers()) == 2)


def test_while_it_drains_it_accepts_connections_and_is_not_ready() -> None:
    with served("fastapi", CLASSIFIER, "--drain-delay", "2s", end=None) as service:
        service.process.send_signal(signal.SIGTERM)
        assert "SIGTERM" in service.wait_for_line("stopping on")
        time.sleep(0.2)
        health = service.http.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        assert service.http.get("/livez").status_code == 200
        assert service.http.post("/predict", json={"text": "好"}).status_code == 200
        assert service.process.wait(SECONDS) == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with served("fastapi", CLASSIFIER, "--drain-delay", "60s", end=None) as service:
        service.process.send_signal(signal.SIGINT)
        service.wait_for_line("stopping on SIGINT")
        code, took = stopped(service)
    assert code == 128 + signal.SIGTERM
    assert took < 20.0, "it would drain for a minute"


def test_a_connection_without_a_request_gets_one_answered() -> None:
    get = (b"GET /healthz HTTP/1.1\r\n", b"Host: a\r\n\r\n")
    with served("fastapi", CLASSIFIER, end=None) as service, ExitStack() as stack:
        port = int(service.url.rpartition(":")[2])
        idle, new, slow = (stack.enter_context(raw(port)) for _ in range(3))
        idle.send(*get)
        assert idle.answer().status == 200
        service.process.send_signal(signal.SIGTERM)
        slow.send(get[0])
        time.sleep(WORKERS.drain / 2)
        for client in (idle, new):
            client.send(*get)
            answer = client.last_answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
        time.sleep(WORKERS.drain)
        slow.send(get[1])
        assert slow.last_answer().status == 503
        assert service.process.wait(SECONDS) == 0
