"""The HTTP connection to a server, and why it fails: a message with a remedy."""

import contextlib
import re
import socket
import ssl

import requests

from tuner.errors import DocumentError
from tuner.security import Security
from tuner.servers.base import Endpoints
from tuner.servers.http_client import HttpClient, Reply
from tuner.servers.settings import HTTP

HOW_TO_SIGN_IN = (
    "pass the credentials that it expects, with --header 'Name: value' or --token-env NAME"
)
_REFUSED = re.compile(
    r"HTTP status 40[13]\b|gRPC status (7|16)\b|is restricted, expecting header", re.IGNORECASE
)
_FAULTS = {
    r"(hostname|IP address) mismatch|doesn't match": "its certificate is for another host name; "
    "use that name in the address, or --tls-insecure to accept any certificate",
    r"certificate has expired|not yet valid": "its certificate has expired or is not yet "
    "valid; renew it, or use --tls-insecure to accept any certificate",
    r"certificate.verify.failed": "its certificate is not trusted; use --tls-ca FILE with the "
    "certificate of its CA, or --tls-insecure to accept any certificate",
    r"certificate.required|bad.certificate|handshake.failure": "it requires a client "
    "certificate, which tuner does not support, or another TLS version",
}
"""Remedies by patterns of what OpenSSL and requests report; the first that matches counts."""
_NO_TLS = "it does not use TLS on this port; write http:// or, for gRPC, grpc://"
_HANGS_UP = (
    "it closes the connection without a reply; it may require a client certificate, which tuner "
    "does not support"
)
_SPEAKS_TLS = "it uses TLS on this port; write https:// or, for gRPC, grpcs://"


def open_client(endpoints: Endpoints) -> HttpClient:
    """A client of these endpoints; UsageError if the file of certificates is unfit."""
    own = endpoints.protection
    return HttpClient(endpoints.security if own is None else own.http(), bool(endpoints.tls))


def unreachable(endpoints: Endpoints) -> str | None:
    """Why no Triton server answers there, and what to do; None if one does."""
    reason = _unreachable(endpoints)
    return None if reason is None else endpoints.security.hide(reason)


def _unreachable(endpoints: Endpoints) -> str | None:
    with open_client(endpoints) as client:
        try:
            reply = client.call("GET", f"{endpoints.root('http')}/v2/health/live", HTTP.attached)
        except requests.RequestException as error:
            return (
                fault(error, endpoints.http, "http" in endpoints.tls)
                or "check the address, which must be that of its HTTP service"
            )
    if reply.ok:
        return None
    refused = refusal(status_message(reply))
    if refused is None and "http" not in endpoints.tls and speaks_tls(endpoints.http):
        return _SPEAKS_TLS
    return refused or (
        f"it replied with HTTP status {reply.status}; check that the address is that of Triton's "
        "HTTP service"
    )


def status_message(reply: Reply) -> str:
    """``HTTP status 403: …`` with the reply's own message, shortened."""
    return f"HTTP status {reply.status}: {error_message(reply)[: HTTP.shown]}".rstrip(": ")


def error_message(reply: Reply) -> str:
    """The ``error`` of Triton's JSON or, if the reply is not of that format, its text."""
    message = reply.text
    with contextlib.suppress(DocumentError, LookupError, TypeError):
        message = str(reply.json()["error"])
    return message.strip()


def refusal(message: str) -> str | None:
    """What to do where a failure's message is that authentication failed; else None."""
    if not _REFUSED.search(message):
        return None
    return f"authentication at the server failed ({message}); {HOW_TO_SIGN_IN}"


def fault(error: Exception | str, address: str, tls: bool) -> str | None:
    """What is wrong with the connection, and the remedy; None if TLS is not at fault."""
    if isinstance(error, requests.TooManyRedirects):
        target = error.response.headers.get("Location", "") if error.response is not None else ""
        return f"it redirects to {target.partition('?')[0]}; use that address"
    if not tls:
        return _SPEAKS_TLS if speaks_tls(address) else None
    for pattern, remedy in _FAULTS.items():
        if re.search(pattern, str(error), re.IGNORECASE):
            return remedy
    over_tls = speaks_tls(address)
    if over_tls and isinstance(error, requests.ConnectionError):
        return _HANGS_UP
    return _NO_TLS if over_tls is False else None


def speaks_tls(address: str) -> bool | None:
    """Whether a TLS handshake succeeds there, or is refused as TLS does it; None if nothing listens
    or answers in time.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = Security(insecure=True).context()
    try:
        plain = socket.create_connection((host, int(port)), HTTP.live)
    except (OSError, ValueError):
        return None
    with plain:
        try:
            context.wrap_socket(plain, server_hostname=host).close()
        except TimeoutError:
            return None
        except ssl.SSLError as error:
            return "ALERT" in str(error.reason)
        except (OSError, ValueError):
            return False
    return True
