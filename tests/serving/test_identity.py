"""Request ids, what is counted, and the answer where something failed."""

import asyncio
import logging
import socket
import string

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.edge import Gate, ask, client, eventually, served, service, value
from tuner.serving.identity import error_response
from tuner.serving.metrics import Metrics

_ALLOWED = string.ascii_letters + string.digits + "._-"
_METRICS = Metrics()
_APP = service(_METRICS)


@given(st.text(_ALLOWED, min_size=1, max_size=128))
def test_a_well_formed_id_is_kept(given_id: str) -> None:
    answer = ask(_APP, "GET", "/models/a", headers={"X-Request-ID": given_id})
    assert answer.headers.get_list("x-request-id") == [given_id]


@given(
    st.one_of(
        st.binary(max_size=200).filter(lambda raw: any(chr(c) not in _ALLOWED for c in raw)),
        st.text(_ALLOWED, min_size=129, max_size=300).map(str.encode),
        st.just(b""),
    )
)
def test_any_other_id_is_replaced(raw: bytes) -> None:
    answer = ask(_APP, "GET", "/models/a", headers=[(b"x-request-id", raw)])
    (found,) = answer.headers.get_list("x-request-id")
    assert len(found) == 32
    assert set(found) <= set(string.hexdigits)


def test_ids_differ() -> None:
    ids = {ask(_APP, "GET", "/models/a").headers["x-request-id"] for _ in range(50)}
    assert len(ids) == 50


def test_the_scope_bears_the_id_and_the_time() -> None:
    assert ask(_APP, "GET", "/models/a").json() == {"state": ["began", "request_id"]}


def test_routes_count_by_template_and_unknown_paths_as_one() -> None:
    metrics = Metrics()
    app = service(metrics)
    for path in ("/models/a", "/models/b", "/nowhere/1", "/nowhere/2", "/predict"):
        ask(app, "GET", path)
    counted = 'tuner_requests_total{{route="{}",status="{}"}}'
    assert value(metrics, counted.format("/models/{name}", 200)) == 2
    assert value(metrics, counted.format("other", 404)) == 2
    assert value(metrics, counted.format("/predict", 405)) == 1
    assert "/nowhere" not in metrics.render()[0].decode()
    assert value(metrics, "tuner_in_flight") == 0


def test_requests_inside_are_in_flight() -> None:
    metrics = Metrics()
    seen = []

    async def run() -> None:
        gate = Gate()
        async with client(service(metrics, gate=gate)) as http:
            task = asyncio.create_task(http.post("/predict"))
            while not gate.inside:
                await asyncio.sleep(0)
            seen.append(value(metrics, "tuner_in_flight"))
            gate.open()
            await task

    asyncio.run(run())
    assert seen == [1]
    assert value(metrics, "tuner_in_flight") == 0


def test_a_fault_becomes_an_answer_with_the_id_and_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    answer = ask(service(metrics), "GET", "/broken", headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "abc-1"
    assert answer.json()["error"]["type"] == "internal"
    assert "a fault of the service" not in answer.text
    (record,) = [r for r in caplog.records if r.name == "tuner.services"]
    assert "abc-1" in record.getMessage()
    assert record.exc_info is not None
    assert value(metrics, 'tuner_requests_total{route="/broken",status="500"}') == 1
    assert value(metrics, "tuner_in_flight") == 0


def test_half_an_answer_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with served(service(metrics)) as port, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{port}/halfway")
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]  # once
    assert record.name == "tuner.services"
    assert value(metrics, 'tuner_requests_total{route="/halfway",status="500"}') == 1


@pytest.mark.parametrize("body", [b"{}", b"{"], ids=["whole body", "half a body"])
def test_a_client_that_leaves_counts_as_499(body: bytes) -> None:
    metrics = Metrics()
    with served(service(metrics)) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
            connection.sendall(head + body)
            eventually(lambda: value(metrics, "tuner_in_flight") == 1)
        eventually(lambda: value(metrics, "tuner_in_flight") == 0)
        assert value(metrics, 'tuner_requests_total{route="/slow",status="499"}') == 1
        assert httpx.post(f"http://127.0.0.1:{port}/slow").status_code == 200
    assert value(metrics, 'tuner_requests_total{route="/slow",status="200"}') == 1


def test_the_form_of_an_error() -> None:
    response = error_response(429, "rate_limited", "slower", "id-1", {"Retry-After": "2"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "2"
    assert response.headers["content-type"] == "application/json"
    expected = b'{"error":{"type":"rate_limited","message":"slower"},"request_id":"id-1"}'
    assert response.body == expected
