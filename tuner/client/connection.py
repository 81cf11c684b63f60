"""Where a server is and how it is reached."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import UsageError
from tuner.servers.address import parse_address


@dataclass(frozen=True)
class Tls:
    """Files in PEM form. ``ca`` replaces the system's certificates; ``certificate`` and ``key`` are
    the client's own, for a server that asks for them.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """UsageError if a file cannot be read or holds no certificate."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read the files of {self}: {error}") from error
        return context

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """CA, key and certificate, as gRPC takes them; UsageError if one cannot be read."""
        try:
            files = (self.ca, self.key, self.certificate)
            contents = [None if file is None else file.read_bytes() for file in files]
        except OSError as error:
            raise UsageError(f"cannot read the files of {self}: {error}") from error
        return contents[0], contents[1], contents[2]


@dataclass(frozen=True)
class Connection:
    """``address`` is ``host:port``; the headers' values are secrets and never printed."""

    address: str
    model: str
    tls: Tls | None = None
    channels: int = 1
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    version: str = ""

    @property
    def where(self) -> str:
        return f"{self.model} at {self.address}"

    @classmethod
    def to(
        cls,
        url: str,
        model: str,
        tls: Tls | None = None,
        channels: int = 1,
        headers: Mapping[str, str] | None = None,
        version: str = "",
    ) -> "Connection":
        """``url`` is ``host:port``, or has a scheme, which is over TLS for https and grpcs."""
        if channels < 1:
            raise UsageError(f"channels is {channels}; at least 1 is needed")
        if not model:
            raise UsageError("the model's name is empty; pass the name of its folder")
        address, over_tls = parse_address(url)
        pairs = tuple((name.lower(), value) for name, value in (headers or {}).items())
        return cls(address, model, tls or (Tls() if over_tls else None), channels, pairs, version)
