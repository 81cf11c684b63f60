"""Answers before the whole body has come: nothing more of it is read."""

import time
from collections.abc import Iterator

import pytest
from starlette.middleware import Middleware

from tests.serving.edge import served, service
from tests.serving.raw import PIECE, post, raw
from tuner.serving.auth import KeyAuthentication, Keys
from tuner.serving.metrics import Metrics

KEY = "0123456789abcdef"
OFFERED = 400 << 20  # bytes that a client would send
TAKEN = 32 << 20  # bytes at most: what lies in the kernel's buffers counts as sent


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    metrics = Metrics()
    keys = Middleware(KeyAuthentication, Keys.load(f"a:{KEY}"), metrics)
    with served(service(metrics, keys)) as port:
        yield port


@pytest.mark.parametrize(
    ("field", "piece"),
    [
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (PIECE, b"a" * PIECE)),
        (f"Content-Length: {OFFERED}", b"a" * PIECE),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/nowhere"])
def test_without_a_key_no_more_of_the_body_is_read(
    port: int, path: str, field: str, piece: bytes
) -> None:
    with raw(port) as client:
        client.send(post(path, field))
        assert client.flood(piece, OFFERED) < TAKEN
        answer = client.last_answer()
    assert answer.status == 401
    assert answer.error() == "unauthorized"


@pytest.mark.parametrize("late", [0, 3 * PIECE])
def test_who_still_sends_gets_to_see_the_answer(port: int, late: int) -> None:
    with raw(port) as client:
        client.send(post("/predict", f"Content-Length: {PIECE + late + 1}"), b"a" * PIECE)
        time.sleep(0.2)  # the answer is there, and the connection would be reset
        client.send(b"a" * late)
        time.sleep(0.2)
        assert client.last_answer().status == 401


def test_who_goes_on_sending_is_cut_soon(port: int) -> None:
    with raw(port) as client:
        client.send(post("/predict", f"Content-Length: {OFFERED}"))
        assert client.trickle_until_cut(b"a", 0.2) < 6.0


@pytest.mark.parametrize(
    ("path", "status"), [("/nowhere", 404), ("/metrics", 405), ("/healthz", 405)]
)
def test_no_answer_waits_for_a_body(port: int, path: str, status: int) -> None:
    with raw(port) as client:
        client.send(post(path, f"X-API-Key: {KEY}", "Content-Length: 100"), b"half")
        assert client.last_answer().status == status


def test_a_body_that_came_leaves_the_connection_open(port: int) -> None:
    with raw(port) as client:
        for _ in range(3):
            client.send(post("/predict", "Content-Length: 2"), b"{}")
            answer = client.answer()
            assert answer.status == 401
            assert "connection" not in answer.headers
        client.send(post("/predict", f"X-API-Key: {KEY}", "Content-Length: 2"), b"{}")
        assert client.answer().status == 200
        client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert "connection" not in client.answer().headers


def test_who_waits_to_be_asked_for_the_body_is_not_asked_without_a_key(port: int) -> None:
    ask = ("Content-Length: 2", "Expect: 100-continue")
    with raw(port) as client:
        client.send(post("/predict", *ask))
        assert client.last_answer().status == 401
    with raw(port) as client:
        client.send(post("/predict", f"X-API-Key: {KEY}", *ask))
        assert client.answer().status == 100
        client.send(b"{}")
        answer = client.answer()
        assert answer.status == 200
        assert "connection" not in answer.headers
