"""API keys: who may use a service."""

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
from tuner.serving.constants import REQUESTS
from tuner.serving.identity import header, turn_away
from tuner.serving.metrics import Metrics

ALWAYS_OPEN = ("/healthz", "/livez")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FORM = "write NAME:KEY, or NAME:sha256: and the key's SHA-256 in hexadecimal"
_logger = logging.getLogger("tuner.services")


@dataclass(frozen=True)
class Keys:
    """Names with the SHA-256 of their keys; the keys themselves are not kept."""

    digests: tuple[tuple[str, bytes], ...] = field(repr=False)

    @classmethod
    def load(cls, source: Path | str, warn: bool = True) -> "Keys":
        """From a file, or from text as an environment variable holds it: one ``NAME:KEY`` or
        ``NAME:sha256:DIGEST`` a line, with comments after ``#`` at a line's start.

        If others may read the file, that is logged, unless ``warn`` is False. A UsageError names
        the line at fault and never shows what might be a key.
        """
        if isinstance(source, str):
            return cls._parse(source, "the keys given")
        try:
            text = source.read_text(encoding="utf-8")
            mode = source.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UsageError(f"cannot read the keys in {source}: {reason}") from error
        if warn and mode & (stat.S_IRGRP | stat.S_IROTH):
            _logger.warning("others may read the keys in %s; run: chmod 600 %s", source, source)
        return cls._parse(text, str(source))

    @classmethod
    def _parse(cls, text: str, source: str) -> "Keys":
        digests: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            place = f"{source}, line {number}"
            name, digest = _entry(line, place)
            if name in digests:
                raise UsageError(f"{place}: a second key for {name}; rename one")
            if digest in digests.values():
                raise UsageError(
                    f"{place}: {name} has the same key as another name; generate a new one"
                )
            digests[name] = digest
        if not digests:
            raise UsageError(f"{source}: there is no key; {_FORM}")
        return cls(tuple(digests.items()))

    def name_of(self, key: bytes) -> str | None:
        """Whose key it is. The time that it takes does not depend on the key."""
        digest = hashlib.sha256(key).digest()
        owner = None
        for name, known in self.digests:
            if hmac.compare_digest(digest, known):
                owner = name
        return owner


def _entry(line: str, place: str) -> tuple[str, bytes]:
    name, colon, key = line.partition(":")
    name, key = name.strip(), key.strip()
    if not colon or not _NAME.fullmatch(name):
        raise UsageError(f"{place}: no name of letters, digits, dots and dashes; {_FORM}")
    kind, colon, digest = key.partition(":")
    if colon and kind == "sha256":
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"{place}: the digest of {name} is not 64 hexadecimal digits; {_FORM}")
        return name, bytes.fromhex(digest)
    if len(key) < REQUESTS.shortest_key:
        raise UsageError(
            f"{place}: the key of {name} has {len(key)} characters; "
            f"take at least {REQUESTS.shortest_key}, as from: openssl rand -hex 24"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"{place}: the key of {name} holds what no HTTP header may; {_FORM}")
    return name, hashlib.sha256(key.encode("ascii")).digest()


class KeyAuthentication:
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
        key = _key(scope)
        name = None if key is None else self._keys.name_of(key)
        if name is not None:
            scope["state"]["client"] = name
            await self._app(scope, receive, send)
            return
        self._metrics.rejected("key")
        challenge = 'Bearer realm="tuner"'
        message = "missing API key; send Authorization: Bearer KEY or X-API-Key: KEY"
        if key is not None:
            challenge += ', error="invalid_token"'
            message = "unknown API key"
        headers = {"WWW-Authenticate": challenge}
        await turn_away(scope, receive, send, 401, "unauthorized", message, headers)


def _key(scope: Scope) -> bytes | None:
    value = header(scope, b"authorization")
    if value is not None:
        scheme, _, key = value.partition(b" ")
        if scheme.lower() == b"bearer" and key.strip():
            return key.strip()
    return header(scope, b"x-api-key")
