"""The command ``tuner serve gateway`` in processes of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving.edge import eventually
from tests.serving.gateway_served import PROCESSING
from tests.serving.gateway_triton import Triton
from tuner.servers.program import free_ports

pytestmark = pytest.mark.triton
ROW = {"INPUT": [1.0] * 16}


@pytest.fixture(scope="module")
def triton(embedded_triton: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with Triton(tmp_path_factory.mktemp("models"), ("emulated_gpu", "text_classifier")) as triton:
        yield triton.start()


@contextmanager
def command(log: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command's process, and where it listens."""
    (port,) = free_ports(1)
    line = (sys.executable, "-m", "tuner", "serve", "gateway", *words, "--port", str(port))
    with log.open("wb") as out, subprocess.Popen(line, stdout=out, stderr=out) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            for each in psutil.Process().children(recursive=True):
                if each.pid == process.pid:
                    process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def post(url: str, body: object, **more: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{url}/predict", json=body, trust_env=False, **more)  # type: ignore[arg-type]


def test_two_workers_serve_and_sigterm_leaves_nothing(triton: Triton, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice:0123456789abcdef\n")
    keys.chmod(0o600)
    words = ("text_classifier", "--triton", triton.grpc, "--processing", PROCESSING)
    more = ("--workers", "2", "--api-keys", str(keys), "--rate-limit", "1000/second")
    with command(tmp_path / "log", *words, *more) as (process, url):
        eventually(lambda: ready(url), 30)
        headers = {"X-API-Key": "0123456789abcdef"}
        assert post(url, {"text": "很好"}, headers=headers).json()["label"] == "positive"
        assert post(url, {"text": "很好"}).status_code == 401
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
        eventually(lambda: not any(each.is_running() for each in below))
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_worker_that_is_killed_is_replaced_even_without_triton(
    triton: Triton, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    nowhere = f"127.0.0.1:{port}"
    with command(tmp_path / "log", "emulated_gpu", "--triton", nowhere) as (process, url):
        eventually(lambda: answers(url) is not None, 30)
        first = answers(url)
        assert first is not None
        os.kill(int(first["worker"]), signal.SIGKILL)
        eventually(lambda: answers(url) not in (None, first), 30)
        second = answers(url)
        assert second is not None
        assert second["worker"] != first["worker"]
        assert second["status"] == "loading"
        assert "not available" in second["reason"]
        assert process.poll() is None


def answers(url: str) -> dict[str, str] | None:
    try:
        return dict(httpx.get(f"{url}/healthz", trust_env=False, timeout=1).json())
    except httpx.TransportError:
        return None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("m", "--triton", "no address"), "not an address"),
        (("m", "--processing", "nowhere.py"), "nowhere.py"),
        (("nowhere/m",), "no folder nowhere/m"),
        (("m", "--api-keys", "nowhere"), "nowhere"),
        (("m", "--rate-limit", "many"), "many"),
        (("m", "--limit-storage", "ftp://x"), "ftp"),
        (("m", "--timeout", "soon"), "soon"),
        (("grpcs://x",), "no folder"),
    ],
)
def test_what_cannot_be_is_said_at_once(words: tuple[str, ...], said: str) -> None:
    from typer.testing import CliRunner

    from tuner.cli.serve import serve

    found = CliRunner().invoke(serve, ["gateway", *words])
    assert found.exit_code == 2, found.output
    assert said in found.output
