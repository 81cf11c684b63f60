"""``tuner serve triton``: the embedded Triton with the gateway in front of it."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from tests.serving.served import served, started, wait_for
from tuner.cli.serve import serve
from tuner.errors import UsageError
from tuner.serving.triton import Models

ROOT = Path(__file__).parents[2]
CLASSIFIER = ROOT / "model_repository/text_classifier"
PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")


@contextmanager
def triton(*words: str) -> Iterator["tuple[subprocess.Popen[str], str, str]"]:
    """The process, and the addresses for HTTP and gRPC."""
    with started("triton", *words, *PORTS) as process:
        try:
            assert process.stdout is not None
            log = []
            for line in process.stdout:
                log.append(line)
                if found := re.match(r"Triton serves .*HTTP (\S+), gRPC (\S+), metrics", line):
                    break
            else:
                pytest.fail("".join(log))
            assert any("Started GRPCInferenceService" in line for line in log)
            yield process, found[1], found[2]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.triton
def test_the_gateway_can_be_tried_with_it(embedded_triton: None) -> None:
    with triton(str(CLASSIFIER)) as (process, http, grpc):
        with served("gateway", f"{CLASSIFIER}/", "--triton", grpc) as service:
            reply = service.http.post("/predict", json={"text": "很好"})
            assert reply.json()["label"] == "positive"
        for path in (
            "repository/models/text_classifier/unload",
            "repository/index",
            "systemsharedmemory/region/a/register",
        ):
            assert httpx.post(f"http://{http}/v2/{path}", json={}).status_code == 403
        (server,) = psutil.Process(process.pid).children()
        secret = next(word for word in server.cmdline() if "restricted-api" in word)
        assert secret.endswith("*" * 8)
        below = server.children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        wait_for(lambda: not any(each.is_running() for each in (server, *below)), 20)


@pytest.mark.triton
def test_a_repository_serves_the_models_that_load(embedded_triton: None, tmp_path: Path) -> None:
    for name in ("text_classifier", "broken"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CLASSIFIER, tmp_path / name, ignore=ignore)
    config = tmp_path / "broken/config.pbtxt"
    config.write_text(config.read_text().replace('"text_classifier"', '"broken"'))
    (tmp_path / "broken/1/model.onnx").write_text("no model")
    with triton(str(tmp_path)) as (process, http, _):
        assert httpx.get(f"http://{http}/v2/models/text_classifier/ready").status_code == 200
        assert httpx.get(f"http://{http}/v2/models/broken/ready").status_code == 400
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_wrong_words_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in (
            (("--http-port", str(port)), f"cannot listen on 127.0.0.1:{port}"),
            (("--host", "0.0.0.0", *PORTS), "--allow-unauthenticated"),
            (("--host", "no.such.host.invalid", *PORTS), "--host no.such.host"),
        ):
            done = CliRunner().invoke(serve, ["triton", str(CLASSIFIER), *words])
            assert done.exit_code == 2
            assert message in " ".join(done.output.split())


def test_models_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Models.find(str(CLASSIFIER)) == Models(CLASSIFIER.parent, "text_classifier")
    assert Models.find(str(CLASSIFIER.parent)) == Models(CLASSIFIER.parent, None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no \./model_repository"):
        Models.find(None)
    shutil.copytree(CLASSIFIER, tmp_path / "model_repository/text_classifier")
    assert Models.find(None) == Models(tmp_path / "model_repository", None)
