"""The command ``tuner serve gateway`` in processes of its own."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.serving.gateway_served import PROCESSING
from tests.serving.gateway_triton import Triton
from tests.serving.served import served, wait_for
from tuner.servers.program import free_ports

pytestmark = pytest.mark.triton


def test_two_workers_serve_who_has_a_key(triton: Triton, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice:0123456789abcdef\n")
    keys.chmod(0o600)
    words = ("text_classifier", "--triton", triton.grpc, "--processing", PROCESSING)
    more = ("--workers", "2", "--api-keys", str(keys), "--rate-limit", "1000/second")
    with served("gateway", *words, *more, end=signal.SIGTERM) as service:
        wait_for(lambda: len(service.workers()) == 2)
        headers = {"X-API-Key": "0123456789abcdef"}
        answer = service.http.post("/predict", json={"text": "很好"}, headers=headers)
        assert answer.json()["label"] == "positive"
        assert service.http.post("/predict", json={"text": "很好"}).status_code == 401


def test_a_worker_that_is_killed_is_replaced_even_without_triton() -> None:
    (port,) = free_ports(1)
    words = ("gateway", "emulated_gpu", "--triton", f"127.0.0.1:{port}")
    with served(*words, ready=False) as service:

        def health() -> dict[str, str]:
            return dict(service.http.get("/healthz").json())

        wait_for(lambda: bool(health()))
        first = health()
        # Stopped, it is asked whether it is alive and does not answer; it dies with that open.
        os.kill(int(first["worker"]), signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(int(first["worker"]), signal.SIGKILL)
        wait_for(lambda: health()["worker"] != first["worker"])
        assert health()["status"] == "loading"
        wait_for(lambda: "not available" in service.http.get("/status").json()["reason"])
        assert service.process.poll() is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("m", "--triton", "no address"), "not a valid address"),
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
