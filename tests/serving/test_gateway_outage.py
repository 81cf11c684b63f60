"""Triton dies, comes back or was never there, while requests flow to the gateway."""

import threading
import time

import httpx
import pytest

from tests.serving.edge import eventually
from tests.serving.gateway_served import gateway
from tests.serving.gateway_triton import ROOT, Triton
from tuner.model.config import read_config, to_json

pytestmark = pytest.mark.triton
DEADLINE = 10.0  # the gateway's own, of each request
ROW = {"INPUT": [1.0] * 16}


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


def test_an_outage_is_answered_with_503_and_ends_by_itself(spare: Triton) -> None:
    spare.ensure()
    with gateway(spare.grpc, "emulated_gpu") as client, Flow(client) as flow:
        eventually(lambda: len(flow.answers) > 20)
        spare.kill()
        eventually(lambda: flow.last() == 503)
        eventually(lambda: client.get("/healthz").json()["status"] == "unavailable")
        health = client.get("/healthz")
        assert health.status_code == 503
        assert "retry-after" in health.headers
        away = len(flow.answers)
        spare.ensure()
        eventually(lambda: flow.last() == 200)
        assert client.get("/healthz").json()["status"] == "ready"
        eventually(lambda: len(flow.answers) > away + 20)
    statuses = {reply.status_code for _, _, reply in flow.answers}
    assert statuses == {200, 503}
    for _, took, reply in flow.answers:
        assert took < DEADLINE / 2, "it was waited for Triton"
        assert reply.status_code == 200 or int(reply.headers["retry-after"]) >= 1


def test_it_comes_up_before_triton_and_before_the_model(spare: Triton) -> None:
    spare.stop()
    with gateway(spare.grpc, "emulated_gpu", ready=False) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/healthz").json()["status"] == "loading"
        reply = client.post("/predict", json=ROW)
        assert reply.status_code == 503
        assert reply.headers["retry-after"]
        assert client.get("/openapi.json").status_code == 200
        spare.start()
        eventually(lambda: "unknown model" in client.get("/status").json()["reason"])
        assert client.get("/healthz").json()["status"] == "loading"
        spare.load("emulated_gpu")
        eventually(lambda: client.get("/healthz").status_code == 200)
        assert client.post("/predict", json=ROW).json()["OUTPUT"] == ROW["INPUT"]
        assert "Tensors" in client.get("/openapi.json").json()["components"]["schemas"]


def test_a_model_that_comes_back_with_other_tensors_has_other_types(spare: Triton) -> None:
    config = read_config(ROOT / "model_repository/emulated_gpu")
    spare.ensure()
    with gateway(spare.grpc, "emulated_gpu") as client:
        assert client.post("/predict", json=ROW).status_code == 200
        spare.kill()
        eventually(lambda: client.get("/healthz").status_code == 503)
        config.input[0].dims[0] = config.output[0].dims[0] = 3
        spare.start().load("emulated_gpu", to_json(config))
        eventually(lambda: client.get("/healthz").status_code == 200)
        assert client.post("/predict", json={"INPUT": [1.0, 2.0, 3.0]}).status_code == 200
        assert client.post("/predict", json=ROW).status_code == 422


def test_a_model_that_is_loaded_anew_loses_no_request(spare: Triton) -> None:
    config = read_config(ROOT / "model_repository/emulated_gpu")
    config.parameters["base_us"].string_value = "1000"
    spare.ensure()
    with gateway(spare.grpc, "emulated_gpu") as client:
        with Flow(client) as flow:
            eventually(lambda: len(flow.answers) > 20)
            spare.load("emulated_gpu", to_json(config))
            swapped = len(flow.answers)
            eventually(lambda: len(flow.answers) > swapped + 40)
        assert {reply.status_code for _, _, reply in flow.answers} == {200}
