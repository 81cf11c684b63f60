"""Protects the servers that tuner starts from other users of this machine.

Triton has no users: whoever reaches its port may load a model, which runs as the user that started
the server, or map shared memory. Its restricted protocols ask for a header: tuner draws a secret
for each launch, and leaves open only what load needs.

https://github.com/triton-inference-server/server/blob/main/docs/customization_guide/inference_protocols.md
"""

import contextlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuner.security import Security

Opened = Literal["inference", "model", "all"]
"""What a server allows everybody: inference and health; also the model's metadata, configuration
and statistics; or everything."""
_KEY = "tuner-secret"
_GRPC_PREFIX = "triton-grpc-protocol-"
_CHANGES = ("shared-memory", "model-repository", "trace", "logging")
_DESCRIPTIONS = ("metadata", "model-config", "statistics")
_ARGUMENTS = (47, 48)
"""Fields of /proc/PID/stat behind the name: where the command line begins and ends in memory."""


@dataclass(frozen=True)
class Protection:
    """The secret of one server, which never goes to its clients: they may ask for inferences and
    its health, and where it ``opens`` them, for what it says of its model, or for all.
    """

    opens: Opened
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def arguments(self) -> tuple[str, ...]:
        """Flags of tritonserver."""
        if self.opens == "all":
            return ()
        groups = _CHANGES if self.opens == "model" else (*_CHANGES, *_DESCRIPTIONS)
        rule = f"{','.join(groups)}:{_KEY}={self.secret}"
        return (f"--http-restricted-api={rule}", f"--grpc-restricted-protocol={rule}")

    def http(self) -> Security:
        """For calls of the control API over HTTP."""
        return Security(((_KEY, self.secret),))

    def grpc_headers(self) -> dict[str, str]:
        """The same over gRPC."""
        return {_GRPC_PREFIX + _KEY: self.secret}

    def hide(self, pid: int) -> None:
        """Remove the secret from the command line that all users see, once it has been read; where
        the kernel does not let us, it stays.
        """
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            fields = stat.rpartition(")")[2].split()
            begin, end = (int(fields[place - 2]) for place in _ARGUMENTS)
            with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
                memory.seek(begin)
                words = memory.read(end - begin)
                found = words.find(self.secret.encode())
                while found >= 0:
                    memory.seek(begin + found)
                    memory.write(b"*" * len(self.secret))
                    found = words.find(self.secret.encode(), found + 1)
