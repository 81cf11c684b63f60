"""Bodies that are too large or too slow, and that hold nothing on their way."""

import json
import threading
import time
from collections.abc import Iterator

import pytest
from starlette.middleware import Middleware

from tests.serving.edge import eventually, served, service, value
from tests.serving.raw import PIECE, post, raw
from tuner.serving.body import BodyLimit
from tuner.serving.metrics import Metrics
from tuner.serving.shedding import LoadShedding, Places

METRICS = Metrics()
MOST = 200_000
PLACES = 2
TIMEOUT = 4.0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    places = Places(PLACES)
    layers = (
        Middleware(LoadShedding, places, METRICS, takes_place=False),
        Middleware(BodyLimit, most=MOST, timeout=TIMEOUT),
        Middleware(LoadShedding, places, METRICS),
    )
    with served(service(METRICS, *layers)) as port:
        yield port


@pytest.mark.parametrize(
    ("field", "piece"),
    [("Content-Length: 1000", b"a"), ("Transfer-Encoding: chunked", b"1\r\na\r\n")],
)
def test_the_time_limit_covers_the_whole_body(port: int, field: str, piece: bytes) -> None:
    with raw(port) as client:
        client.send(post("/predict", field))
        assert TIMEOUT - 0.2 < client.trickle(piece, 0.1) < TIMEOUT + 10
        answer = client.last_answer()
    assert answer.status == 408
    assert answer.error() == "body_timeout"
    assert f"{TIMEOUT:g} s" in json.loads(answer.body)["error"]["message"]


def test_bodies_on_their_way_take_no_place(port: int) -> None:
    ended: list[int] = []

    def dawdle() -> None:
        with raw(port) as client:
            client.send(post("/predict", "Content-Length: 1000"))
            client.trickle(b"a", 0.1)
            ended.append(client.answer().status)

    slow = [threading.Thread(target=dawdle) for _ in range(20 * PLACES)]
    for thread in slow:
        thread.start()
    eventually(lambda: value(METRICS, "tuner_in_flight") == len(slow))
    with raw(port) as client:
        client.send(post("/predict", "Content-Length: 2"), b"{}")
        assert client.answer().status == 200
    assert not ended
    for thread in slow:
        thread.join(20)
    assert ended == [408] * len(slow)


@pytest.mark.parametrize(
    ("field", "piece"),
    [
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (PIECE, b"a" * PIECE)),
        (f"Content-Length: {400 << 20}", b"a" * PIECE),
    ],
)
def test_a_body_has_a_limit(port: int, field: str, piece: bytes) -> None:
    with raw(port) as client:
        client.send(post("/predict", field))
        assert client.flood(piece, 400 << 20) < 32 << 20
        answer = client.last_answer()
    assert answer.status == 413
    assert answer.error() == "too_large"


def test_a_body_in_time_and_size_comes_whole(port: int) -> None:
    with raw(port) as client:
        client.send(post("/predict", f"Content-Length: {MOST}"))
        for _ in range(4):
            client.send(b"a" * (MOST // 4))
            time.sleep(0.1)
        answer = client.answer()
    assert answer.status == 200
    assert "connection" not in answer.headers
