"""The limits before the application, with clients that break them over real connections."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.serving.edge import LARGE, served, service
from tests.serving.raw import PIECE, post, raw
from tuner.serving.constants import CONNECTIONS
from tuner.serving.draining import DrainingProtocol
from tuner.serving.metrics import Metrics

GET = b"GET /models/a HTTP/1.1\r\nHost: a\r\n"
OFFERED = 400 << 20  # bytes that a client would send
TAKEN = 32 << 20  # bytes at most: what lies in the kernel's buffers counts as sent


class Impatient(DrainingProtocol):
    bounds = replace(CONNECTIONS, head_timeout=1.5, stalled_write=1.0)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(service(Metrics())) as port:
        yield port


@pytest.fixture(scope="module")
def impatient() -> Iterator[int]:
    with served(service(Metrics()), Impatient, keep_alive=1) as port:
        yield port


@pytest.mark.parametrize(("size", "status"), [(8000, 200), (8300, 414), (1 << 20, 414)])
def test_a_url_has_a_limit(port: int, size: int, status: int) -> None:
    with raw(port) as client:
        client.send(b"GET /models/", b"a" * size, b" HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = client.answer() if status == 200 else client.last_answer()
    assert answer.status == status
    assert status == 200 or answer.error() == "url_too_long"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"x: " + b"a" * 30_000, 200),
        (b"x: " + b"a" * 33_000, 431),
        (b"a" * 33_000 + b": x", 431),
        (b"\r\n".join([b"a: b"] * 900), 200),
        (b"\r\n".join([b"a: b"] * 1000), 431),  # 4 kB, and 1000 objects
    ],
)
def test_header_fields_have_a_limit(port: int, fields: bytes, status: int) -> None:
    with raw(port) as client:
        client.send(GET, fields, b"\r\n\r\n")
        answer = client.answer() if status == 200 else client.last_answer()
    assert answer.status == status
    assert status == 200 or answer.error() == "head_too_large"


@pytest.mark.parametrize(
    ("begin", "piece", "status"),
    [
        (b"GET /", b"a" * PIECE, 414),
        (b"GET / HTTP/1.1\r\nx: ", b"a" * PIECE, 431),
        (b"GET / HTTP/1.1\r\n", b"a" * PIECE, 431),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 10_000, 431),
        (b"", b"\r\n" * 30_000, 431),
        (post("/predict", "Transfer-Encoding: chunked") + b"0\r\n", b"a: b\r\n" * 10_000, 431),
        (post("/predict", "Transfer-Encoding: chunked") + b"0\r\nx: ", b"a" * PIECE, 431),
        (post("/predict", "Transfer-Encoding: chunked") + b"1;x=", b"a" * PIECE, 431),
    ],
    ids=["url", "value", "name", "fields", "line ends", "trailers", "trailer", "chunk extension"],
)
def test_what_has_no_end_is_cut_off_early(
    port: int, begin: bytes, piece: bytes, status: int
) -> None:
    with raw(port) as client:
        client.send(begin)
        assert client.flood(piece, OFFERED) < TAKEN
        answer = client.last_answer()
    assert answer.status == status


@pytest.mark.parametrize(
    ("begin", "piece"), [(b"GET /", b"a"), (GET, b"a"), (GET + b"x: ", b"a"), (b"", b"\r\n")]
)
def test_a_head_that_trickles_in_is_408(impatient: int, begin: bytes, piece: bytes) -> None:
    with raw(impatient) as client:
        client.send(begin)
        assert Impatient.bounds.head_timeout - 0.2 < client.trickle(piece, 0.1) < 10
        answer = client.last_answer()
    assert answer.status == 408
    assert answer.error() == "head_timeout"


def test_a_head_after_a_first_request_has_its_time_too(impatient: int) -> None:
    with raw(impatient) as client:
        client.send(GET, b"\r\n")
        assert client.answer().status == 200
        client.send(b"GET /")
        client.trickle(b"a", 0.1)
        assert client.last_answer().status == 408


def test_a_head_in_parts_is_taken(impatient: int) -> None:
    with raw(impatient) as client:
        for _ in range(9):  # all of them together take longer than one may
            for part in (GET[:9], GET[9:], b"x: y\r\n\r\n"):
                time.sleep(0.1)
                client.send(part)
            assert client.answer().status == 200


def test_a_connection_without_a_request_is_closed(impatient: int) -> None:
    with raw(impatient) as client:
        assert client.rest() == b""


def test_a_body_is_not_held_to_the_limits_of_a_head(port: int) -> None:
    body = b"a" * (1 << 20)
    with raw(port) as client:
        client.send(post("/predict", f"Content-Length: {len(body)}"), body)
        assert client.answer().status == 200
        client.send(post("/predict", "Transfer-Encoding: chunked"))
        client.send(b"%x\r\n%b\r\n" % (len(body), body), b"0\r\nChecksum: x\r\n\r\n")
        assert client.answer().status == 200


def test_what_is_no_request_is_400_in_the_form_of_all_errors(port: int) -> None:
    with raw(port) as client:
        client.send(b"what is this\r\n\r\n")
        answer = client.last_answer()
    assert answer.status == 400
    assert answer.error() == "malformed"
    with raw(port) as client:
        client.send(post("/predict", "Transfer-Encoding: chunked"), b"no size\r\n")
        assert client.last_answer().status == 400


@pytest.mark.parametrize("junk", [b"junk\r\n\r\n", GET + b"x: " + b"a" * 40_000 + b"\r\n\r\n"])
def test_the_refusal_of_a_request_is_not_taken_for_the_answer_to_another(
    port: int, junk: bytes
) -> None:
    with raw(port) as client:
        client.send(post("/slow", "Content-Length: 2"), b"{}", junk)
        found = client.rest()
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == [b"200"]


def test_a_flood_of_requests_over_one_connection_is_cut(port: int) -> None:
    with raw(port) as client:
        client.send((GET + b"\r\n") * 10)
        for _ in range(10):
            assert client.answer().status == 200
        many = (GET + b"\r\n") * 5000
        client.flood(many, len(many))
        found = client.rest()
    assert CONNECTIONS.pipelined <= found.count(b"HTTP/1.1 200") < 1000


def test_a_client_that_reads_no_answer_is_cut(impatient: int) -> None:
    with raw(impatient) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(4)
        assert len(client.rest()) < LARGE


def test_a_client_that_reads_slowly_gets_all_of_it(impatient: int) -> None:
    with raw(impatient) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        found = 0
        while part := client.socket.recv(4 << 20):
            found += len(part)
            time.sleep(0.03)
    assert found > LARGE
