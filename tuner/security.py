"""How tuner shows itself to a server that others run, and how it makes sure of that server."""

import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field

from tuner.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?|")
_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "te"}


@dataclass(frozen=True)
class Security:
    """Headers of every request, and whose certificates count.

    ``ca`` is a file of certificates in PEM form that replaces the system's; ``insecure`` takes any
    certificate. The headers' values are secrets: they are neither printed nor recorded.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ca: str | None = None
    insecure: bool = False

    @classmethod
    def of(
        cls,
        headers: Iterable[str],
        token_env: str | None = None,
        ca: str | None = None,
        insecure: bool = False,
    ) -> "Security":
        """Out of texts as a user gives them; ``token_env`` names the variable of a bearer token.

        UsageError where one does not parse, the variable is empty, or the file holds no
        certificate.
        """
        pairs = [parse_header(text) for text in headers]
        if token_env is not None:
            token = os.environ.get(token_env, "").strip()
            if not token:
                raise UsageError(
                    f"--token-env {token_env}: the environment variable {token_env} is not set or "
                    f"empty; set it to the token (export {token_env}=...)"
                )
            if not _VALUE.fullmatch(token):
                raise UsageError(f"--token-env {token_env}: the token is not printable ASCII text")
            if any(name.lower() == "authorization" for name, _ in pairs):
                raise UsageError("give --token-env or a header Authorization, not both")
            pairs.append(("Authorization", f"Bearer {token}"))
        if ca is not None and insecure:
            raise UsageError("give --tls-ca or --tls-insecure, not both")
        security = cls(tuple(pairs), ca, insecure)
        if ca is not None:
            security.context()
        return security

    def context(self, protocol: str | None = None) -> ssl.SSLContext:
        """A context of a TLS client, with ``protocol`` for ALPN; UsageError where the CA's file is
        unfit.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "strerror", None) or error
            if isinstance(error, ssl.SSLError):
                reason = "it holds no certificate in PEM form"
            raise UsageError(f"cannot read --tls-ca {self.ca}: {reason}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if protocol is not None:
            context.set_alpn_protocols([protocol])
        return context

    def verify(self) -> bool | str:
        """What ``requests`` takes as ``verify``."""
        return not self.insecure and (self.ca or True)


PLAIN = Security()


def parse_header(text: str) -> tuple[str, str]:
    """``Name: value``; UsageError, which never repeats the value, where it is not of that form."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon:
        raise UsageError("a --header without a colon; write it like 'Name: value'")
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise UsageError(
            f"--header {name!r} has characters that no header may have; write it like 'Name: value'"
        )
    if name.lower() in _OURS:
        raise UsageError(f"--header {name!r} cannot be given: tuner sets it itself")
    return name, value


def header_name(text: str) -> str:
    """The part of a header that may be recorded."""
    return text.partition(":")[0].strip() if ":" in text else "(no name)"
