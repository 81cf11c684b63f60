"""Clients that keep no rules: bytes over a socket."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PIECE = 64 << 10


@dataclass(frozen=True)
class Answer:
    """One answer out of what came over a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    def error(self) -> str:
        """Its type, out of the form that all errors have."""
        content: dict[str, Any] = json.loads(self.body)
        assert set(content) == {"error", "request_id"}
        assert content["request_id"] == self.headers["x-request-id"]
        return str(content["error"]["type"])


class Raw:
    """A connection; every wait ends after ``seconds``."""

    def __init__(self, port: int, seconds: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._unread = b""

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def flood(self, piece: bytes, most: int) -> int:
        """Bytes of the piece, again and again, that the server took before it cut the connection or
        stopped reading for a second.
        """
        sent = 0
        before, _ = self.socket.gettimeout(), self.socket.settimeout(1.0)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < most:
                sent += self.socket.send(memoryview(piece)[sent % len(piece) :])
        self.socket.settimeout(before)
        return sent

    def trickle(self, piece: bytes, seconds: float, most: float = 20.0) -> float:
        """Seconds in which the piece was sent every so many seconds until there was an answer."""
        began = time.monotonic()
        before, _ = self.socket.gettimeout(), self.socket.settimeout(seconds)
        try:
            while time.monotonic() < began + most:
                with contextlib.suppress(ConnectionError):
                    self.socket.send(piece)
                with contextlib.suppress(TimeoutError):
                    self.socket.recv(1, socket.MSG_PEEK)
                    return time.monotonic() - began
        finally:
            self.socket.settimeout(before)
        raise AssertionError("there was no answer")

    def trickle_until_cut(self, piece: bytes, seconds: float, most: float = 20.0) -> float:
        """Seconds in which the piece could be sent every so many seconds."""
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + most:
                self.socket.send(piece)
                time.sleep(seconds)
        return time.monotonic() - began

    def rest(self) -> bytes:
        """All that comes until the server closes the connection; TimeoutError where it does not."""
        parts = [self._unread]
        with contextlib.suppress(ConnectionError):
            while part := self.socket.recv(PIECE):
                parts.append(part)
        return b"".join(parts)

    def answer(self) -> Answer:
        """The next answer, which has a Content-Length."""
        data = self._unread
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in lines)
        headers = {name.lower(): value for name, _, value in fields}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            body += self._more()
        self._unread = body[length:]
        return Answer(int(first.split()[1]), headers, body[:length])

    def last_answer(self) -> Answer:
        """The next answer, after which the server closes the connection."""
        answer = self.answer()
        assert answer.headers["connection"] == "close"
        assert self.rest() == b""
        return answer

    def _more(self) -> bytes:
        part = self.socket.recv(PIECE)
        assert part, "the connection was closed before there was an answer"
        return part


@contextmanager
def raw(port: int, seconds: float = 20.0) -> Iterator[Raw]:
    connection = Raw(port, seconds)
    with connection.socket:
        yield connection


def post(path: str, *fields: str) -> bytes:
    """The head of a POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *fields]
    return "\r\n".join((*lines, "", "")).encode("latin-1")
