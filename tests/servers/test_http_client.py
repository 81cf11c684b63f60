"""Calls to servers that never come to an end, say too much, or do not speak HTTP."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import requests

from tuner.servers.http_client import HttpClient, Reply

SECONDS = 0.5
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Talk = Callable[[socket.socket], None]


@contextmanager
def server(talk: Talk) -> Iterator[str]:
    """An address at which this is said to each connection that sent a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while connection.recv(65536):
                    talk(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.close()


def call(talk: Talk, seconds: float = SECONDS, limit: int = 10_000) -> Reply:
    with server(talk) as url, HttpClient() as client:
        return client.call("GET", url, seconds, limit=limit)


def dribble(head: bytes, byte: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            time.sleep(0.02)
            connection.sendall(byte)

    return talk


def flood(head: bytes, piece: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return talk


def say(*parts: bytes) -> Talk:
    return lambda connection: connection.sendall(b"".join(parts))


def test_a_reply_is_read_whole() -> None:
    reply = call(say(HEAD % 6, '{"ö"'.encode(), b"\0"))
    assert (reply.status, reply.ok, reply.content) == (200, True, '{"ö"\0'.encode())


def test_connections_are_kept() -> None:
    peers = []

    def talk(connection: socket.socket) -> None:
        peers.append(connection.getpeername())
        connection.sendall(HEAD % 0)

    with server(talk) as url, HttpClient() as client:
        for _ in range(3):
            client.call("GET", url, SECONDS)
    assert len(set(peers)) == 1


@pytest.mark.parametrize(
    "talk",
    [
        dribble(HEAD % 9000, b"x"),
        dribble(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        dribble(b"", b"H"),
        dribble(CHUNKED, b"1\r\nx\r\n"),
        lambda _: time.sleep(3),
    ],
    ids=["body", "header", "status", "chunks", "nothing"],
)
def test_the_time_limit_holds_for_the_whole_reply(talk: Talk) -> None:
    began = time.monotonic()
    with pytest.raises(requests.Timeout):
        call(talk)
    assert time.monotonic() - began < 4 * SECONDS


@pytest.mark.parametrize(
    "talk",
    [
        flood(HEAD % (1 << 40), bytes(65536)),
        flood(CHUNKED, b"1"),
        flood(CHUNKED, b"100\r\n" + bytes(256) + b"\r\n"),
        flood(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        flood(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", bytes(65536)),
    ],
    ids=["body", "chunk size", "chunks", "headers", "until the end"],
)
def test_the_size_limit_holds_for_the_whole_reply(talk: Talk) -> None:
    with pytest.raises(requests.ConnectionError):
        call(talk, seconds=20)


def test_what_is_compressed_is_not_unpacked() -> None:
    reply = call(say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"))
    assert reply.content == b"abc"


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc",
        CHUNKED + b"xyz\r\n",
        b"HTTP/1.1 nothing\r\n\r\n",
        b"\r\n\r\n",
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_http_is_an_error_of_the_connection(said: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)

    with suppress(requests.RequestException):
        assert call(talk).content in (b"", b"abc")


def test_redirects_are_not_followed() -> None:
    reply = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(requests.TooManyRedirects) as caught:
        call(say(reply))
    assert caught.value.response is not None
    assert caught.value.response.headers["Location"] == "http://elsewhere/"


@pytest.mark.parametrize("words", ["模型失败：显存不足", "modèle indisponible : mémoire épuisée"])
def test_what_a_server_says_is_utf_8(words: str) -> None:
    head = f"HTTP/1.1 500 {words}\r\nX-Reason: {words}\r\nContent-Type: text/plain\r\n"
    body = words.encode()
    answer = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    reply = call(lambda connection: connection.sendall(answer))
    assert reply.text == words
    assert reply.reason == words
    assert reply.headers["x-reason"] == words


def test_bytes_that_are_not_utf_8_do_not_fail() -> None:
    answer = b"HTTP/1.1 500 \xff\r\nContent-Length: 1\r\n\r\n\xff"
    reply = call(lambda connection: connection.sendall(answer))
    assert (reply.reason, reply.text) == ("\ufffd", "\ufffd")
