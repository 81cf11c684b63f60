"""What keeps requests from a server, told by real sockets."""

import asyncio
import ssl
from datetime import UTC, datetime

import pytest
import trustme

from tests.load.http2_servers import Talk, served
from tuner.security import Security
from tuner.servers.address import attach
from tuner.servers.connection import refusal, speaks_tls, unreachable

SECRET = "sesame-4711"
KEY = Security((("X-Key", SECRET),))


def reply(head: str, body: str = "") -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()

    return talk


def said_by(talk: Talk) -> str | None:
    with served(("http", talk, None)) as ports:
        return unreachable(attach(f"localhost:{ports['http']}", None, KEY))


def test_one_that_answers_is_reachable() -> None:
    assert said_by(reply("200 OK")) is None


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (
            reply("403 Forbidden", '{"error": "no"}'),
            "authentication at the server failed (HTTP status 403: no); pass",
        ),
        (
            reply("401 Unauthorized"),
            "authentication at the server failed (HTTP status 401); pass the credentials",
        ),
        (reply("403 Forbidden", f"bad {SECRET}"), "HTTP status 403: bad ***"),
        (reply("404 Not Found"), "it replied with HTTP status 404"),
        (reply("400 Bad Request"), "it replied with HTTP status 400"),
    ],
)
def test_what_its_answer_means(talk: Talk, words: str) -> None:
    said = said_by(talk)
    assert said is not None
    assert words in said


def test_headers_do_not_follow_to_another_place() -> None:
    with served(("other", reply("200 OK"), None)) as other:
        place = f"http://127.0.0.1:{other['other']}/v2?key={SECRET}"
        said = said_by(reply(f"308 Permanent Redirect\r\nLocation: {place}"))
    assert said == (f"it redirects to http://127.0.0.1:{other['other']}/v2; use that address")


def test_a_server_that_wants_to_know_the_client_too() -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with served(("http", reply("200 OK"), context)) as ports, ca.cert_pem.tempfile() as file:
        address = f"localhost:{ports['http']}"
        said = unreachable(attach(f"https://{address}", None, Security(ca=file)))
        assert speaks_tls(address)
    assert said is not None
    assert "client certificate, which tuner does not support" in said


def test_a_certificate_that_has_expired() -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)).configure_cert(context)
    with served(("http", reply("200 OK"), context)) as ports, ca.cert_pem.tempfile() as file:
        url = f"https://localhost:{ports['http']}"
        said = unreachable(attach(url, None, Security(ca=file)))
    assert said is not None
    assert "has expired or is not yet valid" in said


def test_nobody_there_speaks_anything() -> None:
    assert speaks_tls("localhost:1") is None


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ("HTTP status 401: who?", True),
        ("HTTP status 403", True),
        ("gRPC status 16: who?", True),
        ("gRPC status 7", True),
        ("This protocol is restricted, expecting header 'x'", True),
        ("HTTP status 4030", False),
        ("gRPC status 71", False),
        ("gRPC status 14", False),
        ("inference request batch-size must be <= 4 for 'm'", False),
    ],
)
def test_a_refusal_is_told_from_other_failures(said: str, is_one: bool) -> None:
    assert (refusal(said) is not None) == is_one
