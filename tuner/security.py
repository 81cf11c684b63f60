"""How tuner authenticates to a running server, and verifies that server's identity."""

import hashlib
import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field

from tuner.errors import UsageError
from tuner.text import shortened, shown

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?|")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = {
    *("host", "content-length", "content-type", "transfer-encoding", "connection", "te"),
    "inference-header-content-length",
}
Header = tuple[str, str]
"""Name and value; the value is a secret."""
_HIDDEN = "***"
_SHORT = 4  # a shorter value would be found in half of all words


@dataclass(frozen=True)
class Security:
    """Headers of every request, and whose certificates count.

    ``ca`` is a file of certificates in PEM form that replaces the system's; ``insecure`` takes any
    certificate. The headers' values are secrets: they are neither printed nor recorded.
    """

    headers: tuple[Header, ...] = field(default=(), repr=False)
    ca: str | None = None
    insecure: bool = False

    @classmethod
    def of(
        cls,
        headers: Iterable[Header],
        token_env: str | None = None,
        ca: str | None = None,
        insecure: bool = False,
    ) -> "Security":
        """``token_env`` names the environment variable of a bearer token.

        UsageError if the variable is empty, a header appears twice, or the file contains no
        certificate.
        """
        pairs = list(headers)
        if token_env is not None:
            if not _VARIABLE.fullmatch(token_env):  # perhaps the token itself
                raise UsageError(
                    "--token-env needs the name of an environment variable that contains the token"
                )
            token = os.environ.get(token_env, "").strip()
            if not token:
                raise UsageError(
                    f"--token-env {token_env}: the environment variable {token_env} is not set or "
                    f"empty; set it to the token (export {token_env}=...)"
                )
            if not _VALUE.fullmatch(token):
                raise UsageError(f"--token-env {token_env}: the token must be printable ASCII text")
            if any(name.lower() == "authorization" for name, _ in pairs):
                raise UsageError("use --token-env or a header Authorization, not both")
            pairs.append(("Authorization", f"Bearer {token}"))
        names = [name.lower() for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"the header {shown(twice[0])} appears twice")
        if ca is not None and insecure:
            raise UsageError("use --tls-ca or --tls-insecure, not both")
        security = cls(tuple(pairs), ca, insecure)
        if ca is not None:
            security.context()
        return security

    def context(self, protocol: str | None = None) -> ssl.SSLContext:
        """A context of a TLS client, with ``protocol`` for ALPN; UsageError if the CA's file is
        unfit.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "strerror", None) or error
            if isinstance(error, ssl.SSLError):
                reason = "it contains no certificate in PEM format"
            raise UsageError(f"cannot read --tls-ca {shortened(str(self.ca))}: {reason}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if protocol is not None:
            context.set_alpn_protocols([protocol])
        return context

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the headers, which may be recorded."""
        return tuple(name for name, _ in self.headers)

    def hide(self, text: str) -> str:
        """The text without the headers' values, for what a server says that repeats them."""
        for _, value in self.headers:
            for secret in (value, value.rpartition(" ")[2]):  # with and without "Bearer"
                if len(secret) >= _SHORT:
                    text = text.replace(secret, _HIDDEN)
        return text


PLAIN = Security()


def parse_header(text: str) -> Header:
    """``Name: value``; UsageError, which never repeats the value, where it is not of that form."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon:
        raise UsageError("a --header needs a colon; write it like 'Name: value'")
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise UsageError(
            f"--header {shown(name)} contains characters that are not allowed in headers; write "
            "it like 'Name: value'"
        )
    if name.lower() in _OURS:
        raise UsageError(f"--header {shown(name)} cannot be set: tuner sets it itself")
    return name, value


def hide_variable(text: str) -> str:
    """``NAME=value`` as it may be recorded: the name, and a digest of the value that is too short
    to reveal it, but distinguishes it from other values.
    """
    name, separator, value = text.partition("=")
    if not separator or value.startswith(_HIDDEN):
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{name}={_HIDDEN}{digest[:4]}"


def hide_value(text: str) -> str:
    """A header as it may be recorded: its name."""
    return f"{text.partition(':')[0].strip()}: {_HIDDEN}" if ":" in text else _HIDDEN
