"""The HTTP client: inference requests as whole HTTP/1.1 messages."""

import asyncio
import contextlib
import json
from typing import Any

import httptools

from tuner.load.outcome import MESSAGE_LENGTH, Done
from tuner.load.replies import FIRST_BYTES, check_of
from tuner.load.target import Target
from tuner.load.variation import Varier


class HttpClient:
    """HTTP/1.1 with as many kept-alive connections as there are requests outstanding.

    A server may close an idle connection at the moment when a request goes out on it. If a
    connection that has answered before ends without one byte of a reply, the request is sent once
    more, on a new connection; its latency counts from the first time.
    """

    def __init__(self, target: Target, done: Done) -> None:
        host, _, port = target.address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._ssl = target.security.context("http/1.1") if target.tls else None
        self._requests = target.requests
        self._check = check_of(target.expected)
        self._vary = None if target.variation is None else Varier(target.variation)
        self._done = done
        self._idle: list[_HttpConnection] = []
        self._all: set[_HttpConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def send(self, index: int) -> None:
        if self._idle:
            self._idle.pop().send(index, self._request(index))
        else:
            self._add(index)

    def _request(self, index: int) -> bytes:
        request = self._requests[index % len(self._requests)]
        return request if self._vary is None else self._vary(index, request)

    def _add(self, index: int) -> None:
        task = self._loop.create_task(self._connect_and_send(index))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def close(self) -> None:
        self._closed = True
        for task in tuple(self._connecting):
            task.cancel()
        for connection in tuple(self._all):
            connection.abort()
        await asyncio.sleep(0)

    async def _connect_and_send(self, index: int) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: _HttpConnection(self),
                self._host,
                self._port,
                ssl=self._ssl,
                server_hostname=self._host if self._ssl else None,
            )
        except OSError as error:
            self._done(index, False, str(error))
            return
        connection.send(index, self._request(index))

    def opened(self, connection: "_HttpConnection") -> None:
        self._all.add(connection)

    def fault(self, index: int, first: bytes) -> str | None:
        """What is wrong with a successful reply that begins like that."""
        return None if self._check is None else self._check.http_fault(index, first)

    def finished(self, connection: "_HttpConnection", index: int, message: str | None) -> None:
        """A request is done; ``message`` is None if it succeeded."""
        if connection.may_go_on and not self._closed:
            self._idle.append(connection)
        self._done(index, message is None, message or "")

    def lost(self, connection: "_HttpConnection", index: int, message: str) -> None:
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if index < 0 or self._closed:
            return
        if connection.stale:
            self._add(index)
        else:
            self._done(index, False, message)


class _HttpConnection(asyncio.Protocol):
    """One connection with at most one request outstanding (``index``, or -1)."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._parser = httptools.HttpResponseParser(self)
        self._index = -1
        self._transport: Any = None
        self._first = b""  # bytes of the reply
        self._received = b""
        self._complete: tuple[int, bool] | None = None  # status of the reply, and whether to go on
        self._surplus = False
        self._answered = 0
        self._why = ""
        self.may_go_on = True

    @property
    def stale(self) -> bool:
        """It has answered before, and nothing of the outstanding reply has come."""
        return self._answered > 0 and not self._received

    def send(self, index: int, request: bytes) -> None:
        self._index = index
        self._first = self._received = b""
        self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._client.opened(self)

    def data_received(self, data: bytes) -> None:
        before = self._received
        failed = before and not 200 <= self._parser.get_status_code() < 300
        self._received = before + data if failed else data
        if len(self._first) < FIRST_BYTES:
            self._first = self._first + data if self._first else data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._why = f"the server's reply is not HTTP/1.1: {error}"
            self.may_go_on = False
            self._transport.abort()
            return
        if self._complete is not None:
            self._finish(*self._complete)

    def on_message_begin(self) -> None:
        self._surplus |= self._complete is not None

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:  # the reply itself is still to come
            return
        if self._complete is None:
            self._complete = status, self._parser.should_keep_alive()

    def _finish(self, status: int, goes_on: bool) -> None:
        """A reply is complete. Nothing else came with it, or the connection cannot be trusted: what
        follows would pass for the reply to the next request.
        """
        self._complete = None
        if self._index < 0:  # nobody asked, as where a proxy gives up an idle connection
            self.may_go_on = False
            self._transport.abort()
            return
        index, self._index = self._index, -1
        self._answered += 1
        if not goes_on or self._surplus:
            self.may_go_on = False
            self._transport.close()
        if self._surplus:
            self._client.finished(self, index, "the server sent a reply without a request")
        elif 200 <= status < 300:
            self._client.finished(self, index, self._client.fault(index, self._first))
        else:
            self._client.finished(self, index, _error_text(self._received, status))

    def eof_received(self) -> None:
        self.may_go_on = False

    def connection_lost(self, exc: Exception | None) -> None:
        index, self._index = self._index, -1
        message = self._why or (str(exc) if exc else "the server closed the connection")
        self._client.lost(self, index, message)


class _Body:
    def __init__(self) -> None:
        self.content = b""

    def on_body(self, part: bytes) -> None:
        self.content += part


def _error_text(reply: bytes, status: int) -> str:
    """What an error reply says; parsed anew, since the bodies of successful ones, which may be
    large, are never looked at.
    """
    body_reader = _Body()
    try:
        httptools.HttpResponseParser(body_reader).feed_data(reply)
        body = body_reader.content.decode(errors="replace")
    except httptools.HttpParserError:
        body = reply.rpartition(b"\r\n\r\n")[2].decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        body = str(json.loads(body)["error"])
    body, known = body.strip()[-MESSAGE_LENGTH:], f"HTTP status {status}"
    return f"{known}: {body}" if body and status in (401, 403) else body or known
