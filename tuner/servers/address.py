"""Parses the addresses of a running server."""

import ipaddress
import re

from tuner.errors import UsageError
from tuner.security import Security
from tuner.servers.base import Endpoints
from tuner.text import shown

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+):([0-9]{1,5})")
_LONGEST_HOST = 253
_TLS = {"http": False, "grpc": False, "https": True, "grpcs": True}
_TLS_PORT = 443
_LAST_PORT = 65535


def attach(url: str, grpc_url: str | None, security: Security) -> Endpoints:
    """The endpoints at these addresses: ``triton:8000``, ``https://triton:8000``, ``grpcs://…``.

    UsageError if one is invalid, or ``security`` needs TLS and no address uses it.
    """
    http, http_tls = parse_address(url)
    grpc, grpc_tls = (None, False) if grpc_url is None else parse_address(grpc_url)
    services = [("http", http_tls), ("grpc", grpc_tls)]
    tls = frozenset(name for name, over_tls in services if over_tls)
    if not tls and (security.ca is not None or security.insecure):
        option = "--tls-insecure" if security.insecure else "--tls-ca"
        raise UsageError(
            f"{option} needs TLS; write --url https://{http} or --grpc-url grpcs://HOST:PORT"
        )
    return Endpoints(http, grpc, tls=tls, security=security)


def parse_address(text: str) -> tuple[str, bool]:
    """``host:port``, and whether it is reached over TLS, as the scheme says.

    TLS has a port of its own where none is given. A password in it is never repeated.
    """
    scheme, separator, rest = text.rpartition("://")
    tls = _TLS.get(scheme.lower()) if separator else False
    rest = rest.rstrip("/")
    if "@" in rest:
        raise UsageError(
            "an address must not contain a password; use --header 'Authorization: Basic ...' "
            "instead"
        )
    if tls and _ADDRESS.fullmatch(f"{rest}:{_TLS_PORT}"):
        rest = f"{rest}:{_TLS_PORT}"
    address = _ADDRESS.fullmatch(rest)
    is_one = address is not None and is_host(address[1].strip("[]"))
    if tls is None or address is None or not is_one or int(address[2]) > _LAST_PORT:
        raise UsageError(
            f"{shown(text.partition('?')[0])} is not a valid address; write it like "
            "localhost:8000 or https://localhost:8000"
        )
    return rest, tls


def is_host(text: str) -> bool:
    """Whether a name can be looked up, or is an IP address: Python fails at a name with parts that
    are empty or too long.
    """
    if ":" in text:
        try:
            return ipaddress.ip_address(text.partition("%")[0]).version == 6
        except ValueError:
            return False
    try:
        is_name = 0 < len(text) <= _LONGEST_HOST and text.isprintable()
        return is_name and len(text.encode("idna")) <= _LONGEST_HOST
    except UnicodeError:
        return False


def is_loopback(address: str) -> bool:
    """Whether ``host:port`` is on this machine, as far as its name tells."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def readable_by_others(endpoints: Endpoints) -> str | None:
    """What to know where headers travel through a network without TLS; None if they do not."""
    for service in ("http", "grpc"):
        address = getattr(endpoints, service)
        if address is None or service in endpoints.tls or is_loopback(address):
            continue
        if endpoints.security.headers:
            return (
                f"{endpoints.security.names[-1]} goes to {endpoints.root(service)} unencrypted; "
                f"write {service}s:// if the server supports TLS"
            )
    return None
