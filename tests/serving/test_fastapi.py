"""The FastAPI service as a user runs it: real processes, real models, swaps and ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import psutil
import pytest
from typer.testing import CliRunner

from tests.serving.openapi import check_openapi
from tests.serving.served import Served, served, wait_for
from tuner.cli.serve import serve
from tuner.model.config import read_config
from tuner.model.signature import Signature
from tuner.serving.loading import find_processing

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLASSIFIER = ROOT / "model_repository" / "text_classifier"
TEXTS = (
    "房间很干净，服务员也很热情。",
    "太差了，再也不来了。",
    "ok",
    "🙂" * 50,
    "a\x00b",
    "\u202eright",
    "好" * 9_999,
)


GATED = """import multiprocessing, pathlib, time


def create(folder, signature):
    while multiprocessing.parent_process() and not (folder / "open").exists():
        time.sleep(0.01)
    return _create(folder, signature)


def _create("""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "text_classifier"
    return Path(shutil.copytree(CLASSIFIER, folder, ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(scope="module")
def made_well(model: Path) -> Iterator[Served]:
    words = ("--max-body", "100KiB", "--max-items", "40", "--timeout", "20s")
    with served("fastapi", str(model), *words) as found:
        yield found


@pytest.fixture(scope="module")
def naive(model: Path) -> Iterator[Served]:
    with served("fastapi", str(model), "--naive") as found:
        yield found


@pytest.fixture(params=["made_well", "naive"])
def service(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    return found


def bare(texts: list[str]) -> Any:
    """Label and confidence by the model itself."""
    processing = find_processing(CLASSIFIER)(Signature.of_config(read_config(CLASSIFIER)))
    session = ort.InferenceSession(str(CLASSIFIER / "1/model.onnx"))
    (logits,) = session.run(["logits"], dict(processing.encode(texts)))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = (CLASSIFIER / "labels.txt").read_text().split()
    return [(names[int(row.argmax())], pytest.approx(float(row.max()), abs=1e-5)) for row in shares]


def test_it_says_what_the_bare_model_says(service: Served) -> None:
    for text, expected in zip(TEXTS, bare(list(TEXTS)), strict=True):
        reply = service.http.post("/predict", json={"text": text})
        assert reply.status_code == 200, reply.text
        answer = reply.json()
        assert (answer["label"], answer["confidence"]) == expected
        assert answer["latency_ms"] > 0


def test_a_batch_keeps_its_order(service: Served) -> None:
    texts = [TEXTS[number % 3] for number in range(39)]  # more than the model takes at once
    items = [text if n % 2 else {"text": text} for n, text in enumerate(texts)]
    reply = service.http.post("/batch_predict", json=items)
    answer = reply.json()
    assert answer["batch_size"] == len(answer["predictions"]) == 39
    for found, expected in zip(answer["predictions"], bare(texts), strict=True):
        assert (found["label"], found["confidence"]) == expected


def test_tokens_beyond_the_length_are_not_read(made_well: Served) -> None:
    def ask(text: str, **more: int) -> float:
        body = {"text": text, **more}
        reply = made_well.http.post("/predict", json=body)
        return float(reply.json()["confidence"])

    assert ask("很好" + "差" * 50, max_length=3) == pytest.approx(ask("很好"), abs=1e-5)
    assert ask("很好" + "差" * 50) != pytest.approx(ask("很好"), abs=1e-3)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/predict", b'{"text": ', 422, "JSON"),
        ("/predict", b"\xff\xfe", 422, "JSON"),
        ("/predict", b"", 422, ""),
        ("/predict", b"[]", 422, ""),
        ("/predict", b'{"text": ""}', 422, "text"),
        ("/predict", b'{"text": "  \\n"}', 422, "text"),
        ("/predict", b'{"text": 5}', 422, "text"),
        ("/predict", b'{"text": "a", "max_length": 0}', 422, "max_length"),
        ("/predict", b'{"text": "a", "max_length": 129}', 422, "max_length"),
        ("/predict", b'{"txt": "a"}', 422, "txt"),
        ("/predict", b'{"text": "\\ud800"}', 422, ""),
        ("/predict", json.dumps({"text": "a" * 10_001}).encode(), 422, "text"),
        ("/predict", b'{"text": "' + b"a" * 200_000 + b'"}', 413, "102400"),
        ("/batch_predict", b"[]", 422, ""),
        ("/batch_predict", json.dumps(["a"] * 41).encode(), 422, ""),
        ("/batch_predict", b'{"text": "a"}', 422, ""),
        ("/nowhere", b"{}", 404, "no such path"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_form(
    made_well: Served, path: str, body: bytes, status: int, words: str
) -> None:
    headers = {"Content-Type": "application/json", "X-Request-ID": "mine-1"}
    reply = made_well.http.post(path, content=body, headers=headers)
    assert reply.status_code == status, reply.text
    answer = reply.json()
    assert set(answer) == {"error", "request_id"}
    assert answer["request_id"] == reply.headers["x-request-id"] == "mine-1"
    assert words in answer["error"]["message"]


def test_a_client_that_leaves_holds_nothing(made_well: Served) -> None:
    host, _, port = made_well.url.removeprefix("http://").partition(":")
    for sent in (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{", b"GET "):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(sent)
    texts = json.dumps(["好" * 500] * 40).encode()
    head = (
        f"POST /batch_predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(texts)}\r\n\r\n".encode()
    )
    for _ in range(20):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(head + texts)
    wait_for(lambda: "tuner_in_flight 1.0" in told(made_well))  # the one that asks
    reply = made_well.http.post("/predict", json={"text": "好"})
    assert reply.status_code == 200


def test_what_its_openapi_promises_holds(made_well: Served) -> None:
    check_openapi(made_well.url)


def told(service: Served) -> str:
    return service.http.get("/metrics").text


def test_stages_are_counted_over_all_workers(model: Path) -> None:
    with served("fastapi", str(model), "--workers", "2", end=signal.SIGINT) as service:
        wait_for(lambda: len(service.workers()) == 2)
        for _ in range(10):
            service.http.post("/predict", json={"text": "好"})
        text = told(service)
    for stage in ("parsing", "tokenising", "queue", "inference", "serialisation"):
        assert f'tuner_stage_seconds_count{{stage="{stage}"}} 10.0' in text
    assert 'tuner_requests_total{route="/predict",status="200"} 10.0' in text


def test_what_would_wait_too_long_is_turned_away_and_counted(model: Path) -> None:
    texts = ["好" * 500] * 40

    def ask(_: int) -> httpx.Response:
        return service.http.post("/batch_predict", json=texts)

    with served("fastapi", str(model), "--queue", "1", "--concurrency", "1") as service:
        with ThreadPoolExecutor(12) as clients:
            replies = list(clients.map(ask, range(12)))
        text = told(service)
        assert service.http.post("/predict", json={"text": "好"}).status_code == 200
    away = [reply for reply in replies if reply.status_code == 503]
    assert {reply.status_code for reply in replies} == {200, 503}
    assert all(reply.json()["error"]["type"] == "overloaded" for reply in away)
    assert all(reply.headers["retry-after"] == "1" for reply in away)
    assert f'tuner_rejected_total{{reason="load"}} {len(away)}.0' in text


def test_until_the_model_is_loaded_it_says_so(model: Path, tmp_path: Path) -> None:
    gated = Path(shutil.copytree(model, tmp_path / "text_classifier"))
    processing = gated / "processing.py"
    text = processing.read_text(encoding="utf-8").replace("def create(", GATED)
    processing.write_text(text, encoding="utf-8")
    with served("fastapi", str(gated), ready=False) as service:
        wait_for(lambda: service.http.get("/livez").status_code == 200)
        health = service.http.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "loading")
        refused = service.http.post("/predict", json={"text": "a"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        (gated / "open").touch()
        wait_for(service.is_ready)
        assert service.http.post("/predict", json={"text": "a"}).status_code == 200


def test_a_swap_under_load_loses_no_request(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "text_classifier"))
    with served("fastapi", str(copy), "--workers", "2", end=signal.SIGTERM) as service:
        before = service.all_workers(2)
        statuses: list[int] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                statuses.append(service.http.post("/predict", json={"text": "好"}).status_code)
                over.wait(0.01)  # the workers that start need the cores, too

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        shutil.copytree(copy / "1", copy / "2")
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(workers := service.workers()) == 2 and not workers & before)
        swapped = len(statuses)
        wait_for(lambda: len(statuses) > swapped + 20)
        over.set()
        for thread in threads:
            thread.join(20)
        assert set(statuses) == {200}
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in before))


def test_a_replacement_that_cannot_load_leaves_the_old_one_at_work(
    model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "text_classifier"))
    with served("fastapi", str(copy)) as service:
        before = service.workers()
        (copy / "2").mkdir()
        (copy / "2/model.onnx").write_bytes(b"no model")
        service.process.send_signal(signal.SIGHUP)
        service.wait_for_line("error: the model cannot be served")
        assert service.workers() == before
        reply = service.http.post("/predict", json={"text": "好"})
        assert reply.status_code == 200


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tuner", "serve", "fastapi", *words]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere",), 2, "there is no model"),
        ((str(CLASSIFIER), "--engine", "tensorflow"), 2, "'auto', 'onnx' or 'torch'"),
        ((str(CLASSIFIER), "--timeout", "soon"), 2, "soon"),
        ((str(CLASSIFIER), "--processing", "none.py"), 2, "none.py"),
        ((str(ROOT / "model_repository/emulated_gpu"),), 2, "nothing to serve it with"),
        (("--help",), 0, "--workers"),
    ],
)
def test_wrong_words_are_told(words: tuple[str, ...], code: int, said: str) -> None:
    done = CliRunner().invoke(serve, ["fastapi", *words], env={"COLUMNS": "100"})
    assert done.exit_code == code, done.output
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_a_port_that_is_taken_is_told(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(str(model), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "already in use" in done.stderr


def test_a_model_that_does_not_load_ends_it_with_the_reason(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "text_classifier"))
    (copy / "1/model.onnx").write_bytes(b"no model")
    done = run(str(copy), "--port", "0", "--workers", "3")
    assert done.returncode == 3
    assert done.stderr.count("ONNX Runtime cannot load") == 1  # of all workers


def test_a_model_of_pytorch_takes_its_tensors(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ROOT / "model_repository/bert_base", tmp_path / "bert_base"))
    config = copy / "config.pbtxt"
    text = config.read_text()
    for key, large, small in (
        ("layers", "12", "1"),
        ("hidden", "768", "32"),
        ("heads", "12", "2"),
        ("intermediate", "3072", "64"),
        ("vocabulary", "21128", "200"),
    ):
        old = f'key: "{key}" value: {{ string_value: "{large}" }}'
        assert old in text
        text = text.replace(old, f'key: "{key}" value: {{ string_value: "{small}" }}')
    config.write_text(text)
    with served("fastapi", str(copy)) as service:
        item = {"input_ids": [5] * 128, "attention_mask": [1] * 128}
        reply = service.http.post("/predict", json=item)
        assert reply.status_code == 200, reply.text
        one = reply.json()["logits"]
        both = service.http.post("/batch_predict", json=[item, item])
        assert [p["logits"] for p in both.json()["predictions"]] == [
            pytest.approx(one, abs=1e-5)
        ] * 2
        wrong = service.http.post("/predict", json={**item, "input_ids": [5] * 127})
        assert wrong.status_code == 422
        outside = service.http.post("/predict", json={**item, "input_ids": [200] * 128})
        assert outside.status_code == 422
