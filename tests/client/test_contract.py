"""What every client must do: blocking or asynchronous, over gRPC or HTTP, against a real Triton."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tuner.client import AsyncTritonClient, TritonClient
from tuner.client.errors import (
    ClientError,
    InvalidInput,
    Refused,
    ServerError,
    Timeout,
    Unavailable,
)
from tuner.errors import UsageError
from tuner.servers import program
from tuner.servers.base import Server, ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

pytestmark = pytest.mark.triton
SECONDS = 60.0
Outputs = dict[str, np.ndarray[Any, Any]]


class Loop:
    """An event loop in a thread of its own, so that both kinds of client are called alike."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking:
    """An AsyncTritonClient with the methods of a TritonClient."""

    def __init__(self, loop: Loop, *args: Any, **more: Any) -> None:
        self._loop = loop
        self._client = AsyncTritonClient(*args, **more)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **more: self._loop.run(method(*args, **more))


Make = Callable[..., Any]


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(
    params=["blocking-grpc", "blocking-http", "asyncio-grpc", "asyncio-lean", "asyncio-http"]
)
def make_at(request: pytest.FixtureRequest, loop: Loop) -> Iterator[Make]:
    """Makes clients of one kind: ``(server, model, **options)``."""
    kind, _, protocol = request.param.partition("-")
    made: list[Any] = []

    def make(server: Server, model: str, **more: Any) -> Any:
        address = server.endpoints.http if protocol == "http" else server.endpoints.grpc
        args = address, model
        more["protocol"] = protocol
        client = Blocking(loop, *args, **more) if kind == "asyncio" else TritonClient(*args, **more)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def make(make_at: Make, triton: Server) -> Make:
    return lambda model, **more: make_at(triton, model, **more)


@pytest.fixture(scope="module")
def tokens() -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).integers(1, 3000, (70, 128))


@pytest.fixture(scope="module")
def expected(models: Path, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logits of the bare ONNX model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(models / "text_classifier/1/model.onnx", options)
    inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    logits = session.run(["logits"], inputs)[0]
    assert isinstance(logits, np.ndarray)
    return logits


def inputs_of(tokens: np.ndarray[Any, Any]) -> Outputs:
    return {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}


def gpu_inputs(items: int = 1) -> Outputs:
    return {"INPUT": np.arange(16 * items, dtype=np.float32).reshape(items, 16)}


def test_signature_is_the_models(make: Make) -> None:
    signature = make("text_classifier").signature()
    assert signature.model == "text_classifier"
    assert signature.max_batch_size == 32
    assert [(s.name, s.datatype, s.dims) for s in signature.inputs] == [
        ("input_ids", "INT64", (128,)),
        ("attention_mask", "INT64", (128,)),
    ]
    assert [(s.name, s.dims) for s in signature.outputs] == [("logits", (2,))]


def test_description_knows_versions_and_state(make: Make) -> None:
    found = make("text_classifier").describe()
    assert found.versions == ("1",)
    assert not found.stateful


def test_a_batch_is_answered_as_the_bare_model_does(
    make: Make, tokens: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]
) -> None:
    outputs = make("text_classifier").infer(inputs_of(tokens[:5]), request_id="a-1")
    assert outputs["logits"].dtype == np.float32
    np.testing.assert_allclose(outputs["logits"], expected[:5], rtol=1e-4, atol=1e-5)


def test_one_item_has_no_batch_dimension(
    make: Make, tokens: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]
) -> None:
    item = {"input_ids": tokens[0].tolist(), "attention_mask": [1] * 128}
    logits = make("text_classifier").predict(item)["logits"]
    assert logits.shape == (2,)
    np.testing.assert_allclose(logits, expected[0], rtol=1e-4, atol=1e-5)


def test_many_items_are_split_and_keep_their_order(
    make: Make, tokens: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]
) -> None:
    items = [inputs_of(row) for row in tokens]
    answers = make("text_classifier", channels=2).predict_batch(items)
    logits = np.stack([answer["logits"] for answer in answers])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_no_items_are_no_answers(make: Make) -> None:
    assert make("text_classifier").predict_batch([]) == []


def test_types_that_need_care_come_back_as_they_went(make: Make) -> None:
    text = np.array([["好", b"\x00\xff"], ["", "a" * 300]], dtype=object)
    inputs = {
        "TEXT": text,
        "BRAIN": np.array([[1.0, -2.5], [np.inf, 3.1415927]], np.float32),
        "HALF": np.array([[1, 2, 65504], [0, -1, 0.1]], np.float16),
        "FLAG": np.array([[True], [False]]),
    }
    outputs = make("kinds").infer(inputs)
    assert outputs["TEXT_OUT"].tolist() == [["好".encode(), b"\x00\xff"], [b"", b"a" * 300]]
    assert outputs["BRAIN_OUT"].tolist() == [[1.0, -2.5], [np.inf, 3.140625]]
    np.testing.assert_array_equal(outputs["HALF_OUT"], inputs["HALF"])
    np.testing.assert_array_equal(outputs["FLAG_OUT"], inputs["FLAG"])


def test_optional_inputs_may_be_left_out(make: Make) -> None:
    client = make("kinds")
    assert list(client.predict({"TEXT": ["a"], "HALF": None})) == ["TEXT_OUT"]
    mixed = [{"TEXT": ["a"]}, {"TEXT": ["b"], "FLAG": [True]}, {"TEXT": ["c", "d"]}]
    answers = client.predict_batch(mixed)
    assert [a["TEXT_OUT"].tolist() for a in answers] == [[b"a"], [b"b"], [b"c", b"d"]]
    assert ["FLAG_OUT" in a for a in answers] == [False, True, False]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "input 'INPUT' is missing"),
        ({"INPUT": np.zeros((1, 16), np.float32), "more": np.zeros(1)}, "no input 'more'"),
        ({"INPUT": np.zeros((1, 16))}, "'INPUT' has type float64; the model takes FP32"),
        ({"INPUT": np.zeros((1, 15), np.float32)}, r"'INPUT' has shape \[1, 15\]"),
        ({"INPUT": np.zeros((0, 16), np.float32)}, "'INPUT' .* at least 1"),
        ({"INPUT": np.float32(1)}, "'INPUT' is a float32"),
    ],
)
def test_what_does_not_fit_is_not_sent(make: Make, inputs: Outputs, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make("emulated_gpu").infer(inputs)


def test_values_that_would_change_are_not_converted(make: Make) -> None:
    client = make("text_classifier")
    for wrong in ([1.5] * 128, [2**70] * 128, ["a"] * 128, [[1], [1, 2]]):
        with pytest.raises(InvalidInput, match="input_ids"):
            client.predict({"input_ids": wrong, "attention_mask": [1] * 128})


def test_a_batch_that_is_too_large_is_refused_by_the_server(make: Make) -> None:
    with pytest.raises(Refused, match="batch-size must be <= 8"):
        make("emulated_gpu").infer(gpu_inputs(9))


def test_an_unknown_model_is_refused_and_not_ready(make: Make) -> None:
    client = make("nosuch")
    with pytest.raises(Refused, match="nosuch"):
        client.infer(gpu_inputs())
    assert not client.is_ready()


def test_a_model_that_fails_says_why(make: Make) -> None:
    with pytest.raises(ServerError, match="it was told to fail"):
        make("kinds").predict({"TEXT": ["fail"]})


def test_an_answer_that_takes_too_long_is_given_up(make: Make) -> None:
    client = make("emulated_gpu", timeout=30)
    client.infer(gpu_inputs())
    began = time.monotonic()
    with pytest.raises(Timeout, match="emulated_gpu"):
        client.infer(gpu_inputs(8), timeout=0.002)
    assert time.monotonic() - began < 1
    assert client.infer(gpu_inputs())["OUTPUT"].shape == (1, 16)


def test_many_threads_or_tasks_share_a_client(make: Make) -> None:
    client = make("emulated_gpu", channels=3)

    def ask(number: int) -> bool:
        inputs = {"INPUT": np.full((1, 16), number, np.float32)}
        return bool((client.infer(inputs)["OUTPUT"] == number).all())

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(ask, range(120)))


def test_wrong_use_is_said(make: Make) -> None:
    with pytest.raises(UsageError, match="channels is 0"):
        make("emulated_gpu", channels=0)
    with pytest.raises(UsageError, match="ftp"):
        TritonClient("a:1", "m", protocol="ftp")  # type: ignore[arg-type]


def test_headers_reach_the_server_and_do_no_harm(make: Make) -> None:
    client = make("emulated_gpu", headers={"X-Trace": "abc"})
    assert client.predict({"INPUT": [0.0] * 16})["OUTPUT"].tolist() == [0.0] * 16


def test_a_cancelled_task_leaves_its_client_usable(triton: Server) -> None:
    async def cancel() -> int:
        assert triton.endpoints.grpc is not None
        async with AsyncTritonClient(triton.endpoints.grpc, "emulated_gpu") as client:
            await client.signature()
            tasks = [asyncio.create_task(client.infer(gpu_inputs())) for _ in range(20)]
            await asyncio.sleep(0.002)
            for task in tasks[1:]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await client.infer(gpu_inputs())
            return sum(isinstance(each, asyncio.CancelledError) for each in ended)

    assert asyncio.run(cancel()) == 19


def test_a_server_that_was_killed_is_unavailable_until_it_is_back(
    embedded_triton: None, models: Path, tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = program.free_ports(3)
    monkeypatch.setattr(program, "free_ports", lambda _: ports)
    spec = ServerSpec(models, "emulated_gpu", tmp_path / "server.log", SECONDS, opens="model")
    with LocalLauncher() as launcher:
        with launcher.launch(spec) as server, Control(server) as control:
            control.load("emulated_gpu", None, SECONDS)
            grpc, http = str(server.endpoints.grpc), server.endpoints.http
            kinds: list[tuple[Any, str, str]] = [
                (TritonClient, grpc, "grpc"),
                (TritonClient, http, "http"),
                (partial(Blocking, loop), grpc, "grpc"),
                (partial(Blocking, loop), grpc, "lean"),
                (partial(Blocking, loop), http, "http"),
            ]
            clients = [
                kind(address, "emulated_gpu", protocol=protocol, timeout=10)
                for kind, address, protocol in kinds
            ]
            for client in clients:
                client.infer(gpu_inputs())
            os.kill(server.pids()[0], signal.SIGKILL)
            for client in clients:
                wait_until(lambda client=client: isinstance(error_of(client), Unavailable))
                assert not client.is_ready()
        with launcher.launch(spec) as server, Control(server) as control:
            control.load("emulated_gpu", None, SECONDS)
            for client in clients:
                wait_until(lambda client=client: error_of(client) is None)
                client.close()


def error_of(client: Any) -> ClientError | None:
    try:
        client.infer(gpu_inputs())
    except ClientError as error:
        return error
    return None


def wait_until(holds: Callable[[], bool], seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)
