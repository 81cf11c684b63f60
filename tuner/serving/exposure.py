"""Who can reach a service: API keys beyond loopback, and trusted proxies."""

import ipaddress
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from tuner.errors import UsageError


def _network(text: str) -> str:
    """As ``ADDRESS/BITS``; a ValueError says what is wrong with it."""
    return str(ipaddress.ip_network(text.strip()))


Proxy = Annotated[str, AfterValidator(_network)]
"""Address or network of a proxy. There is no ``*``: from everybody, the header says anything."""


def trusted_networks(proxies: Iterable[str]) -> list[str]:
    """The networks as a socket sees them: one that listens on ``::`` gives addresses of IPv4 as
    ``::ffff:192.0.2.1`` (RFC 4291, 2.5.5.2).
    """
    networks = [ipaddress.ip_network(proxy) for proxy in proxies]
    mapped = [
        f"::ffff:{each.network_address}/{96 + each.prefixlen}"
        for each in networks
        if each.version == 4
    ]
    return [*map(str, networks), *mapped]


def require_keys(address: str, remedy: str) -> None:
    """UsageError if a socket bound to this address is reached from other machines."""
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return
    raise UsageError(
        f"other machines can reach {address}, and the service has no API keys: {remedy}; listen "
        "on --host 127.0.0.1; or give --allow-unauthenticated to serve anyone"
    )
