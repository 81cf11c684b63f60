"""The HTTP connection to a server, and what keeps requests from it: in words, with a remedy."""

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

HOW_TO_SIGN_IN = "give --header 'Name: value' or --token-env NAME as it asks for"
_REFUSED = re.compile(
    r"HTTP status 40[13]\b|gRPC status (7|16)\b|is restricted, expecting header", re.IGNORECASE
)
_FAULTS = {
    r"(hostname|IP address) mismatch|doesn't match": "its certificate is for another host name; "
    "give the name that it is for in the address, or --tls-insecure to take any certificate",
    r"certificate has expired|not yet valid": "its certificate is not valid today; have it "
    "renewed, or give --tls-insecure to take any certificate",
    r"certificate.verify.failed": "its certificate is not trusted; give --tls-ca FILE with the "
    "certificate of who signed it, or --tls-insecure to take any certificate",
    r"certificate.required|bad.certificate|handshake.failure": "it asks for a certificate of the "
    "client, which tuner cannot give, or for another TLS",
}
"""Remedies by patterns of what OpenSSL and requests report; the first that matches counts."""
_NO_TLS = "it does not speak TLS there; write http:// or, for gRPC, grpc://"
_HANGS_UP = (
    "it ends the connection instead of answering; does it ask for a certificate of the client, "
    "which tuner cannot give?"
)
_SPEAKS_TLS = "it speaks TLS there; write https:// or, for gRPC, grpcs://"


def open_client(endpoints: Endpoints) -> HttpClient:
    """A client of these endpoints; UsageError where the file of certificates is unfit."""
    own = endpoints.protection
    return HttpClient(endpoints.security if own is None else own.http(), bool(endpoints.tls))


def unreachable(endpoints: Endpoints) -> str | None:
    """Why no Triton server answers there, and what to do; None where one does."""
    reason = _unreachable(endpoints)
    return None if reason is None else endpoints.security.hide(reason)


def _unreachable(endpoints: Endpoints) -> str | None:
    with open_client(endpoints) as client:
        try:
            reply = client.call("GET", f"{endpoints.root('http')}/v2/health/live", HTTP.attached)
        except requests.RequestException as error:
            return (
                fault(error, endpoints.http, "http" in endpoints.tls)
                or "give the address of its HTTP service"
            )
    if reply.ok:
        return None
    refused = refusal(status_message(reply))
    if refused is None and "http" not in endpoints.tls and speaks_tls(endpoints.http):
        return _SPEAKS_TLS
    return refused or (
        f"the answer there is HTTP status {reply.status}; give the address of its HTTP service"
    )


def status_message(reply: Reply) -> str:
    """``HTTP status 403: …`` with the reply's own message, shortened."""
    message = reply.text
    with contextlib.suppress(DocumentError, LookupError, TypeError):
        message = str(reply.json()["error"])
    return f"HTTP status {reply.status}: {message.strip()[: HTTP.shown]}".rstrip(": ")


def refusal(message: str) -> str | None:
    """What to do where a failure's message is that authentication failed; else None."""
    if not _REFUSED.search(message):
        return None
    return f"authentication at the server failed ({message}); {HOW_TO_SIGN_IN}"


def fault(error: Exception | str, address: str, tls: bool) -> str | None:
    """What is wrong with the connection, and the remedy; None where TLS is not at fault."""
    if isinstance(error, requests.TooManyRedirects):
        target = error.response.headers.get("Location", "") if error.response is not None else ""
        return f"it sends requests elsewhere, to {target.partition('?')[0]}; give that address"
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
    """Whether a TLS handshake succeeds there, or is refused as TLS does it; None where nothing
    listens or answers in time.
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
