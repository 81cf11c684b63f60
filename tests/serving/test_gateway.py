"""The gateway in front of a real Triton, as its callers see it."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnxruntime
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from tokenizers import Tokenizer

from tests.serving.edge import eventually
from tests.serving.gateway_served import PROCESSING, ROOT, gateway
from tests.serving.gateway_triton import Triton
from tests.serving.openapi import check_openapi
from tests.serving.test_tracing import Collector

pytestmark = pytest.mark.triton
MODEL = ROOT / "model_repository/text_classifier"
TEXTS = [
    "房间很干净，服务员也很热情。",
    "太差了，再也不来",
    "书的质量不错",
    "屏幕有坏点，退货",
    "一般",
]
KEY = "0123456789abcdef0123"
BEARER = {"Authorization": f"Bearer {KEY}"}
ROW = {"INPUT": [float(number) for number in range(16)]}


@pytest.fixture(scope="module")
def texts(triton: Triton) -> Iterator[httpx.Client]:
    with gateway(triton.grpc, "text_classifier", processing=PROCESSING) as client:
        yield client


@pytest.fixture(scope="module")
def tensors(triton: Triton) -> Iterator[httpx.Client]:
    with gateway(triton.grpc, "emulated_gpu") as client:
        yield client


def bare(texts: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Token numbers, and the logits of the bare ONNX model."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    encoded = [tokenizer.encode(text) for text in texts]
    inputs = {
        "input_ids": np.array([each.ids for each in encoded]),
        "attention_mask": np.array([each.attention_mask for each in encoded]),
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    logits = onnxruntime.InferenceSession(MODEL / "1/model.onnx", options).run(["logits"], inputs)
    assert isinstance(logits[0], np.ndarray)
    return inputs["input_ids"], logits[0]


def test_a_text_has_the_label_of_the_bare_model(texts: httpx.Client) -> None:
    _, logits = bare(TEXTS)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (MODEL / "labels.txt").read_text().split()
    for text, share in zip(TEXTS, shares, strict=True):
        reply = texts.post("/predict", json={"text": text})
        assert reply.status_code == 200, reply.text
        assert reply.json()["label"] == labels[int(share.argmax())]
        assert reply.json()["confidence"] == pytest.approx(share.max(), rel=1e-3)
        assert reply.json()["latency_ms"] > 0


def test_a_batch_above_the_models_largest_keeps_its_order(texts: httpx.Client) -> None:
    singly = [texts.post("/predict", json={"text": text}).json()["label"] for text in TEXTS]
    reply = texts.post("/batch_predict", json=TEXTS * 14)
    assert reply.status_code == 200, reply.text
    assert [each["label"] for each in reply.json()["predictions"]] == singly * 14


def test_without_a_processing_the_tensors_are_the_models_own(triton: Triton) -> None:
    tokens, logits = bare(TEXTS)
    items = [
        {"input_ids": row.tolist(), "attention_mask": (row != 0).astype(int).tolist()}
        for row in tokens
    ]
    with gateway(triton.grpc, "text_classifier") as client:
        found = client.post("/batch_predict", json=items).json()["predictions"]
    np.testing.assert_allclose([each["logits"] for each in found], logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "text", ["a fine hotel", "🙂", "ﷺ\u202e\u0000x", "x" * 10_000, "Ελληνικά и русский", "\ud83d"]
)
def test_any_text_is_answered_or_refused_with_reason(texts: httpx.Client, text: str) -> None:
    reply = texts.post("/predict", content=json.dumps({"text": text}), headers=as_json())
    assert reply.status_code == (422 if text == "\ud83d" else 200), reply.text


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b'{"text": ""}', 422, "invalid"),
        (b'{"text": "  "}', 422, "invalid"),
        (b'{"text": 3}', 422, "invalid"),
        (b'{"words": "a"}', 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b"", 422, "invalid"),
        (b'{"text": "a"', 422, "malformed"),
        (b"\xff\xfe", 422, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b'{"text": "' + b"a" * (1 << 20) + b'"}', 413, "too_large"),
        (b'{"text": "' + b"a" * 20_000 + b'"}', 422, "invalid"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_form(
    texts: httpx.Client, body: bytes, status: int, kind: str
) -> None:
    reply = texts.post("/predict", content=body, headers=as_json())
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["type"] == kind
    assert reply.json()["error"]["message"]
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def as_json() -> dict[str, str]:
    return {"Content-Type": "application/json"}


def test_types_come_from_the_models_metadata(tensors: httpx.Client) -> None:
    reply = tensors.post("/predict", json=ROW)
    assert reply.json()["OUTPUT"] == ROW["INPUT"]
    schema = tensors.get("/openapi.json").json()
    tensor = schema["components"]["schemas"]["Tensors"]["properties"]["INPUT"]
    assert tensor["minItems"] == tensor["maxItems"] == 16
    assert tensor["items"]["type"] == "number"
    statuses = schema["paths"]["/predict"]["post"]["responses"]
    assert {"200", "401", "413", "422", "429", "502", "503", "504"} <= set(statuses)
    for wrong in ({"INPUT": [1.0] * 15}, {"INPUT": ["a"] * 16}, {"OTHER": [1.0] * 16}):
        assert tensors.post("/predict", json=wrong).status_code == 422


def test_texts_and_optional_tensors_pass_through(triton: Triton) -> None:
    with gateway(triton.grpc, "kinds") as client:
        full = {"TEXT": ["好"], "BRAIN": [1.0, 2.0], "HALF": [1.0, 2.0, 3.0], "FLAG": [True]}
        found = client.post("/predict", json=full).json()
        assert {name: found[f"{name}_OUT"] for name in full} == full
        failed = client.post("/predict", json={**full, "TEXT": ["fail"]})
        assert failed.status_code == 502
        assert "told to fail" in failed.json()["error"]["message"]


def test_only_who_has_a_key_is_let_in(
    triton: Triton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice:{KEY}\n")
    file.chmod(0o600)
    with gateway(triton.grpc, "emulated_gpu", api_keys=file) as client:
        assert_guarded(client)
    monkeypatch.setenv("TUNER_API_KEYS", f"alice:{KEY}")
    with gateway(triton.grpc, "emulated_gpu") as client:
        assert_guarded(client)


def assert_guarded(client: httpx.Client) -> None:
    for headers in ({}, {"X-API-Key": KEY[:-1]}, {"Authorization": "Basic eDp5"}):
        reply = client.post("/predict", json=ROW, headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
    assert client.post("/predict", json=ROW, headers=BEARER).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 401


def test_a_rate_is_a_keys_own(triton: Triton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_API_KEYS", f"alice:{KEY}\nbob:{KEY}b")
    with gateway(triton.grpc, "emulated_gpu", rate_limit="5/minute") as client:
        replies = [client.post("/predict", json=ROW, headers=BEARER) for _ in range(7)]
        assert [each.status_code for each in replies] == [200] * 5 + [429] * 2
        assert int(replies[-1].headers["retry-after"]) >= 1
        bob = {"X-API-Key": f"{KEY}b"}
        assert client.post("/predict", json=ROW, headers=bob).status_code == 200


def test_time_that_is_over_is_status_504(triton: Triton) -> None:
    with gateway(triton.grpc, "emulated_gpu", timeout=0.003) as client:
        codes: list[int] = []
        while 504 not in codes and len(codes) < 50:  # on a busy machine, reading takes the time
            reply = client.post("/predict", json=ROW)
            codes.append(reply.status_code)
    assert set(codes) <= {408, 504}
    assert codes[-1] == 504
    assert reply.json()["error"]["type"] == "deadline_exceeded"


def test_where_triton_is_slow_more_is_turned_away_at_once(triton: Triton) -> None:
    with gateway(triton.grpc, "emulated_gpu", max_in_flight=2) as client:
        triton.pause(True)
        try:
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(client.post, "/predict", json=ROW) for _ in range(8)]
                eventually(lambda: sum(each.done() for each in asked) == 6)
                triton.pause(False)
                replies = [each.result() for each in asked]
        finally:
            triton.pause(False)
        statuses = sorted(each.status_code for each in replies)
        assert statuses == [200] * 2 + [503] * 6
        shed = next(each for each in replies if each.status_code == 503)
        assert shed.json()["error"]["type"] == "overloaded"
        assert int(shed.headers["retry-after"]) >= 1
        assert client.post("/predict", json=ROW).status_code == 200


def test_clients_that_leave_hold_nothing(tensors: httpx.Client) -> None:
    body = json.dumps(ROW).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    address = (tensors.base_url.host, tensors.base_url.port)
    for sent in (b"", body[:10], body):  # amid the head, amid the body, before the answer
        for _ in range(20):
            with socket.create_connection(address) as connection:
                length = f"Content-Length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head if not sent else head + length + sent)
    eventually(lambda: in_flight(tensors) == 1)  # the question itself
    assert tensors.post("/predict", json=ROW).status_code == 200


def in_flight(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("tuner_in_flight ")).split()[1])


def test_stages_are_counted(tensors: httpx.Client) -> None:
    tensors.post("/predict", json=ROW)
    text = tensors.get("/metrics").text
    for stage in ("parsing", "tokenising", "queue", "inference", "serialisation"):
        assert f'tuner_stage_seconds_count{{stage="{stage}"}}' in text


def test_what_its_openapi_promises_holds(texts: httpx.Client, tensors: httpx.Client) -> None:
    for client in (texts, tensors):
        check_openapi(str(client.base_url).rstrip("/"))


def test_a_trace_reaches_from_the_caller_to_triton(triton: Triton) -> None:
    found, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(found, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    caller = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    try:
        with gateway(triton.grpc, "emulated_gpu", otel_endpoint=f"http://127.0.0.1:{port}") as http:
            assert http.post("/predict", json=ROW, headers=caller).status_code == 200
    finally:
        server.stop(None).wait()
    ours = [span for span, _ in found.spans if span.trace_id.hex() == "ab" * 16]
    assert any(span.name == "POST /predict" for span in ours)
    assert any("ModelInfer" in span.name for span in ours)
