"""HTTP calls that end: a reply has a time limit, to its last byte, and a limit of its size.

The limits of requests are for each read of the socket alone: a server that sends a byte a second
would keep a call for as long as it likes.
"""

import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from tuner.documents import parse_json
from tuner.security import PLAIN, Security
from tuner.servers.settings import HTTP

_TRITONS = b"/v2/"
_PIECE = 1 << 16
"""Bytes to read at a time: what a server says of its length is not believed."""


@dataclass(frozen=True)
class Reply:
    """A whole reply; what it holds is as the server says, which may be anything."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """DocumentError if it is not JSON."""
        return parse_json(self.content)


class HttpClient:
    """Calls over connections that are kept, with the headers and TLS of ``security``.

    No redirect is followed: another host is not to get the headers.
    """

    def __init__(self, security: Security = PLAIN, tls: bool = False) -> None:
        """UsageError if the file of certificates is unfit."""
        session = requests.Session()
        session.trust_env = False
        session.headers.update({"Accept-Encoding": "identity", **dict(security.headers)})
        session.mount("http://", _Adapter(None))
        if tls:
            session.mount("https://", _Adapter(security))
            session.verify = not security.insecure
            if security.insecure:
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._session = session

    def call(
        self,
        method: str,
        url: str,
        seconds: float,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = HTTP.largest_reply,
    ) -> Reply:
        """The reply, whatever its status, but for redirects.

        requests.RequestException where there is none: Timeout after so many seconds, and
        ConnectionError if it is not HTTP, breaks off, or has more bytes than the limit.
        """
        with _Limits(seconds, limit) as limits:
            try:
                with self._session.request(
                    method,
                    url,
                    json=json,
                    data=data,
                    headers=headers,
                    timeout=seconds,
                    stream=True,
                    allow_redirects=False,
                ) as reply:
                    if reply.is_redirect:
                        raise requests.TooManyRedirects("a redirect", response=reply)
                    pieces = reply.raw.stream(_PIECE, decode_content=False)
                    content = b"".join(pieces)
            except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
                if limits.is_full:
                    raise requests.ConnectionError(
                        f"the reply has more than {limit:,} bytes"
                    ) from error
                if limits.is_over or isinstance(error, urllib3.exceptions.TimeoutError):
                    raise requests.Timeout(f"no whole reply within {seconds:g} s") from error
                if isinstance(error, requests.RequestException):
                    raise
                raise requests.ConnectionError(error) from error
        headers = {name: _as_utf8(value) for name, value in reply.headers.items()}
        return Reply(
            reply.status_code,
            _as_utf8(str(reply.reason or "")),
            CaseInsensitiveDict(headers),
            content,
        )

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> "HttpClient":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def _as_utf8(text: str) -> str:
    """A status line's reason, or a header: http.client decodes them as ISO 8859-1, servers mean
    UTF-8.
    """
    return text.encode("iso-8859-1", errors="replace").decode("utf-8", errors="replace")


class _Limits:
    """Those of the call that this thread makes, told to the sockets that it reads from."""

    _current = threading.local()

    def __init__(self, seconds: float, size: int) -> None:
        self._until = time.monotonic() + seconds
        self._left = size
        self.is_full = self.is_over = False

    @classmethod
    def current(cls) -> "_Limits | None":
        return getattr(cls._current, "limits", None)

    def seconds(self) -> float:
        """Those left; TimeoutError if there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            self.is_over = True
            raise TimeoutError("timed out")
        return left

    def count(self, size: int) -> None:
        """OSError if more bytes came than may come."""
        self._left -= size
        if self._left < 0:
            self.is_full = True
            raise OSError("the reply is too large")

    def __enter__(self) -> "_Limits":
        _Limits._current.limits = self
        return self

    def __exit__(self, *_: object) -> None:
        _Limits._current.limits = None


class _Socket(socket.socket):
    def recv_into(self, *args: Any, **more: Any) -> int:
        limits = _Limits.current()
        if limits is None:
            return super().recv_into(*args, **more)
        self.settimeout(limits.seconds())
        size = super().recv_into(*args, **more)
        limits.count(size)
        return size


class _TlsSocket(ssl.SSLSocket):
    def recv_into(self, *args: Any, **more: Any) -> int:
        limits = _Limits.current()
        if limits is None:
            return super().recv_into(*args, **more)
        self.settimeout(limits.seconds())
        size = super().recv_into(*args, **more)
        limits.count(size)
        return size


def _limited(plain: socket.socket) -> socket.socket:
    """The same connection, with limits."""
    timeout = plain.gettimeout()
    limited = _Socket(fileno=plain.detach())
    limited.settimeout(timeout)
    return limited


def _as_is(request_line: str) -> bytes:
    """A path of Triton's without percent-encoding: it looks for a model by the bytes there."""
    method, target, version = request_line.encode("ascii").split(b" ")
    decoded = unquote_to_bytes(target) if target.startswith(_TRITONS) else target
    if any(byte <= ord(" ") for byte in decoded):  # would end the path, or the line
        decoded = target
    return b" ".join((method, decoded, version))


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _limited(super()._new_conn())

    def _encode_request(self, request: str) -> bytes:
        return _as_is(request)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _limited(super()._new_conn())

    def _encode_request(self, request: str) -> bytes:
        return _as_is(request)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Trusts whom the load processes trust: the system's certificates, not those of requests."""

    def __init__(self, security: Security | None) -> None:
        self._context = None
        if security is not None:
            self._context = security.context()
            self._context.sslsocket_class = _TlsSocket
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        context: dict[str, Any] = {} if self._context is None else {"ssl_context": self._context}
        super().init_poolmanager(*args, **{**more, **context})
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def cert_verify(self, *_: Any) -> None:
        """The context knows."""
