"""Several load processes send what one would."""

import http.server
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.errors import LoadProcessDied
from tuner.goals.sla import Sla
from tuner.load import generator as load_generator
from tuner.load.board import Board
from tuner.load.generator import GeneratorSettings, LoadGenerator
from tuner.load.target import Tensor, Transport, make_target
from tuner.load.worker import ClosedLoop, main
from tuner.stats.estimators import quantile


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
        generator.aim(make_target(Transport.HTTP, address, "m", pool))
        result = generator.open_loop(np.arange(30) * 0.01, drain=5.0)
    assert result.samples.ok.all()
    assert sorted(listener.heard) == sorted([*range(15), *range(15)])


def test_a_load_process_whose_parent_is_gone_ends_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=main, args=(theirs,))
    worker.start()
    theirs.close()
    ours.recv()
    ours.send(make_target(Transport.HTTP, "127.0.0.1:1", "m", [[]]))
    board = Board.create(tmp_path / "board", 10)
    began = time.monotonic()
    ours.send(ClosedLoop(board.path, 10, 1, began, began + 1.0, 0.5))
    ours.close()
    worker.join(20)
    assert worker.exitcode == 0
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_rate_far_beyond_the_client_ends_soon_and_shows_as_lateness(listener: Listener) -> None:
    """Replies are read between sends, and what cannot be sent in time is given up."""
    pool = [[Tensor("x", "UINT8", np.array([0], dtype=np.uint8))]]
    address = f"127.0.0.1:{listener.server_port}"
    sla = Sla.parse("p99<20ms")
    with LoadGenerator(workers=1) as generator:
        generator.aim(make_target(Transport.HTTP, address, "m", pool))
        began = time.monotonic()
        result = generator.open_loop(np.arange(100_000) * 1e-5, drain=1.0)
        assert time.monotonic() - began < 40  # not the minutes that 100,000 replies would take
        after = generator.open_loop(np.arange(20) * 0.01, drain=5.0)
    assert 0 < len(result.samples) < 100_000
    assert (quantile(result.samples.lateness, 0.5) or 0.0) > sla.longest
    assert after.samples.ok.all()


def test_a_run_waits_for_what_is_prepared(listener: Listener) -> None:
    pool = [[Tensor("x", "UINT8", np.array([0], dtype=np.uint8))]]
    address = f"127.0.0.1:{listener.server_port}"
    asked: list[int] = []
    with LoadGenerator(prepared=lambda: asked.append(len(listener.heard))) as generator:
        generator.aim(make_target(Transport.HTTP, address, "m", pool))
        assert not asked
        generator.open_loop(np.arange(3) * 0.01, drain=5.0)
    assert asked == [0]


def test_a_run_waits_for_processes_that_are_still_starting(listener: Listener) -> None:
    pool = [[Tensor("x", "UINT8", np.array([0], dtype=np.uint8))]]
    address = f"127.0.0.1:{listener.server_port}"
    with LoadGenerator(workers=2) as generator:
        generator.aim(make_target(Transport.HTTP, address, "m", pool))
        result = generator.closed_loop(2, 0.1, drain=1.0)
    assert result.samples.ok.any()


def test_processes_that_do_not_come_up_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "SETTINGS", GeneratorSettings(start_timeout=0.0))
    with LoadGenerator() as generator, pytest.raises(LoadProcessDied, match="does not start"):
        generator.closed_loop(1, 0.1, drain=0.1)
