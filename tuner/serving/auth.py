"""API keys: who may ask a service."""

import hashlib
import hmac
import logging
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from tuner.errors import UsageError
from tuner.serving.identity import error_response, header
from tuner.serving.metrics import Metrics

ALWAYS_OPEN = ("/healthz", "/livez")

_SHORTEST = 16
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FORM = "write NAME:KEY, or NAME:sha256: and the key's SHA-256 in hexadecimal"
_logger = logging.getLogger("tuner.services")


@dataclass(frozen=True)
class Keys:
    """Names with the SHA-256 of their keys; the keys themselves are not kept."""

    digests: tuple[tuple[str, bytes], ...] = field(repr=False)

    @classmethod
    def load(cls, source: Path | str) -> "Keys":
        """From a file, or from text as an environment variable holds it: one ``NAME:KEY`` or
        ``NAME:sha256:DIGEST`` a line, with comments after ``#`` at a line's start.

        A UsageError names the line at fault and never shows what might be a key.
        """
        if isinstance(source, str):
            return cls._parse(source, "the keys given")
        try:
            text = source.read_text(encoding="utf-8")
            mode = source.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UsageError(f"cannot read the keys in {source}: {reason}") from error
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            _logger.warning("others may read the keys in %s; run: chmod 600 %s", source, source)
        return cls._parse(text, str(source))

    @classmethod
    def _parse(cls, text: str, where: str) -> "Keys":
        found: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, digest = _entry(line, f"{where}, line {number}")
            if name in found:
                raise UsageError(f"{where}, line {number}: a second key for {name}; rename one")
            if digest in found.values():
                raise UsageError(f"{where}, line {number}: {name} has the key of another; make one")
            found[name] = digest
        if not found:
            raise UsageError(f"{where}: there is no key; {_FORM}")
        return cls(tuple(found.items()))

    def name_of(self, key: bytes) -> str | None:
        """Whose key it is. The time that it takes does not depend on the key."""
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self.digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def _entry(line: str, where: str) -> tuple[str, bytes]:
    name, colon, key = line.partition(":")
    name, key = name.strip(), key.strip()
    if not colon or not _NAME.fullmatch(name):
        raise UsageError(f"{where}: no name of letters, digits, dots and dashes; {_FORM}")
    kind, colon, digest = key.partition(":")
    if colon and kind == "sha256":
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"{where}: the digest of {name} is not 64 hexadecimal digits; {_FORM}")
        return name, bytes.fromhex(digest)
    if len(key) < _SHORTEST:
        raise UsageError(
            f"{where}: the key of {name} has {len(key)} characters; "
            f"take at least {_SHORTEST}, as from: openssl rand -hex 24"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"{where}: the key of {name} holds what no HTTP header may; {_FORM}")
    return name, hashlib.sha256(key.encode("ascii")).digest()


class Authorize:
    """Lets through who has a key, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, and puts
    the key's name into the scope's state as ``client``; others get status 401.

    ``/healthz`` and ``/livez`` are open, and the exact paths in ``open_paths`` too.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, metrics: Metrics, open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._open = frozenset((*ALWAYS_OPEN, *open_paths))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        given = _given(scope)
        name = None if given is None else self._keys.name_of(given)
        if name is not None:
            scope["state"]["client"] = name
            await self._app(scope, receive, send)
            return
        self._metrics.rejected("key")
        challenge = 'Bearer realm="tuner"'
        said = "no API key; send it as Authorization: Bearer KEY, or as X-API-Key: KEY"
        if given is not None:
            challenge += ', error="invalid_token"'
            said = "the API key is not known here"
        response = error_response(
            401,
            "unauthorized",
            said,
            scope["state"]["request_id"],
            {"WWW-Authenticate": challenge},
        )
        await response(scope, receive, send)


def _given(scope: Scope) -> bytes | None:
    value = header(scope, b"authorization")
    if value is not None:
        scheme, _, key = value.partition(b" ")
        if scheme.lower() == b"bearer" and key.strip():
            return key.strip()
    return header(scope, b"x-api-key")
