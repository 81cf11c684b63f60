"""Triton dies, comes back or was never there, while requests flow to the gateway."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.edge import eventually
from tests.serving.gateway_served import gateway
from tests.serving.gateway_triton import ROOT, Triton
from tuner.model.config import read_config, to_json

pytestmark = pytest.mark.triton
ROW = {"INPUT": [1.0] * 16}


@pytest.fixture
def triton(embedded_triton: None, tmp_path: Path) -> Iterator[Triton]:
    with Triton(tmp_path, ("emulated_gpu",)) as triton:
        yield triton


class Flow:
    """Requests one after another from a few threads, with when they ended and how."""

    def __init__(self, client: httpx.Client, threads: int = 4) -> None:
        self.answers: list[tuple[float, float, httpx.Response]] = []
        self._client = client
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._ends.is_set():
            began = time.monotonic()
            reply = self._client.post("/predict", json=ROW)
            ended = time.monotonic()
            self.answers.append((ended, ended - began, reply))
            time.sleep(0.005)

    def __enter__(self) -> "Flow":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a request hangs"

    def last(self) -> int:
        return self.answers[-1][2].status_code if self.answers else 0


def test_an_outage_is_answered_with_503_and_ends_by_itself(triton: Triton) -> None:
    triton.start()
    with gateway(triton.grpc, "emulated_gpu") as client, Flow(client) as flow:
        eventually(lambda: len(flow.answers) > 20)
        triton.kill()
        eventually(lambda: flow.last() == 503)
        health = client.get("/healthz")
        eventually(lambda: client.get("/healthz").json()["status"] == "unavailable")
        health = client.get("/healthz")
        assert health.status_code == 503
        assert "retry-after" in health.headers
        away = len(flow.answers)
        triton.start()
        back = time.monotonic()
        eventually(lambda: flow.last() == 200)
        assert time.monotonic() - back < 1.5
        assert client.get("/healthz").json()["status"] == "ready"
        eventually(lambda: len(flow.answers) > away + 20)
    statuses = {reply.status_code for _, _, reply in flow.answers}
    assert statuses == {200, 503}
    for _, took, reply in flow.answers:
        assert took < 2
        assert reply.status_code == 200 or int(reply.headers["retry-after"]) >= 1


def test_it_comes_up_before_triton_and_before_the_model(triton: Triton) -> None:
    with gateway(triton.grpc, "emulated_gpu", ready=False) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/healthz").json()["status"] == "loading"
        reply = client.post("/predict", json=ROW)
        assert reply.status_code == 503
        assert reply.headers["retry-after"]
        assert client.get("/openapi.json").status_code == 200
        triton.start(load=False)
        time.sleep(0.3)
        assert client.get("/healthz").json()["status"] == "loading"
        triton.load("emulated_gpu")
        eventually(lambda: client.get("/healthz").status_code == 200, 1.5)
        assert client.post("/predict", json=ROW).json()["OUTPUT"] == ROW["INPUT"]
        assert "Tensors" in client.get("/openapi.json").json()["components"]["schemas"]


def test_a_model_that_comes_back_with_other_tensors_has_other_types(triton: Triton) -> None:
    config = read_config(ROOT / "model_repository/emulated_gpu")
    triton.start()
    with gateway(triton.grpc, "emulated_gpu") as client:
        assert client.post("/predict", json=ROW).status_code == 200
        triton.kill()
        eventually(lambda: client.get("/healthz").status_code == 503)
        config.input[0].dims[0] = config.output[0].dims[0] = 3
        triton.start(load=False).load("emulated_gpu", to_json(config))
        eventually(lambda: client.get("/healthz").status_code == 200)
        assert client.post("/predict", json={"INPUT": [1.0, 2.0, 3.0]}).status_code == 200
        assert client.post("/predict", json=ROW).status_code == 422


def test_a_model_that_is_loaded_anew_loses_no_request(triton: Triton) -> None:
    config = read_config(ROOT / "model_repository/emulated_gpu")
    config.parameters["base_us"].string_value = "1000"
    triton.start()
    with gateway(triton.grpc, "emulated_gpu") as client:
        with Flow(client) as flow:
            eventually(lambda: len(flow.answers) > 20)
            triton.load("emulated_gpu", to_json(config))
            swapped = len(flow.answers)
            eventually(lambda: len(flow.answers) > swapped + 40)
        assert {reply.status_code for _, _, reply in flow.answers} == {200}
