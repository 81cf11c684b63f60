"""The interface of launchers: a running server with its endpoints, which is always stopped."""

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from tuner.errors import LauncherUnavailable, ServerFailed
from tuner.security import PLAIN, Security
from tuner.servers.protection import Opened, Protection
from tuner.servers.settings import LAUNCH

_T = TypeVar("_T")
_UNKNOWN_OPTION = re.compile(r"unrecognized option '?(--[\w-]+)")
_ERROR_LINE = re.compile(r"E\d{4} ")


@dataclass(frozen=True)
class Endpoints:
    """``host:port`` of each service; None if it is not offered. ``tls`` names those of them that
    are reached over TLS; ``security`` holds for all, and ``protection`` lets tuner alone control a
    server of its own.
    """

    http: str
    grpc: str | None = None
    metrics: str | None = None
    tls: frozenset[str] = field(default=frozenset(), kw_only=True)
    security: Security = field(default=PLAIN, kw_only=True)
    protection: Protection | None = field(default=None, kw_only=True)

    def root(self, service: str) -> str:
        """The service's address with its scheme, as in ``https://triton:8000``."""
        scheme = "grpc" if service == "grpc" else "http"
        return f"{scheme}{'s' if service in self.tls else ''}://{getattr(self, service)}"


@dataclass(frozen=True)
class ServerSpec:
    """A Triton server to start: in explicit model control, with no model loaded yet.

    ``repository`` is the folder that holds model folders; it is never written to. ``log`` is the
    file that gets the server's output. ``startup_timeout`` in seconds bounds the time until the
    server answers ``v2/health/live``. It ``opens`` so much to others than tuner. Where requests go
    through shared memory, it ``maps_memory`` of clients.
    """

    repository: Path
    model: str
    log: Path
    startup_timeout: float = 120.0
    server_args: tuple[str, ...] = ()
    opens: Opened = "inference"
    maps_memory: bool = False


@dataclass(frozen=True)
class ResourceUsage:
    """What a server's processes use: ``cpu`` seconds in all since they were started, which never
    get fewer; ``memory`` bytes resident now, None if unknown.

    Memory that processes share counts once where the system tells how much that is.
    """

    cpu: float
    memory: int | None
    processes: int


class Server(ABC):
    """A server that answers ``v2/health/live``."""

    endpoints: Endpoints

    @abstractmethod
    def exit_reason(self) -> str | None:
        """Why the server no longer runs (exit code, signal, out of memory); None while it does."""

    @abstractmethod
    def log_tail(self) -> str:
        """The last lines that the server wrote; empty if there is no log."""

    @abstractmethod
    def pids(self) -> tuple[int, ...]:
        """Processes of this machine that belong to the server; empty if they cannot be seen."""

    def usage(self) -> ResourceUsage | None:
        """What the server uses at this moment; None if it cannot be seen, or has ended.

        Never raises, so that a probe says by itself why a server is gone.
        """
        return None


def raise_if_ended(server: Server) -> None:
    """ServerFailed, with the log's last lines, if the server has ended."""
    reason = server.exit_reason()
    if reason is not None:
        raise ServerFailed(with_log(reason, server))


def with_log(message: str, server: Server) -> str:
    """The message and, below it, the last lines that the server wrote."""
    tail = server.log_tail()
    unknown = _UNKNOWN_OPTION.search(tail)
    hint = ""
    if unknown is not None:
        hint = f"this server does not support {unknown[1]}: use a newer Triton, or remove the flag"
    return "\n".join(filter(None, (message, hint, tail)))


def wait_until(
    server: Server, check: Callable[[], _T | None], timeout: float, condition: str
) -> _T:
    """The first result of ``check`` that is not None; it is called twenty times a second.

    ServerFailed, with the log's last lines, if the server ends first, or the ``condition`` (``the
    server was not live``) persists for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while (result := check()) is None:
        reason = server.exit_reason()
        if reason is None and time.monotonic() < deadline:
            time.sleep(LAUNCH.poll)
            continue
        raise ServerFailed(with_log(reason or f"{condition} within {timeout:g} s", server))
    return result


class Launcher(ABC):
    """Where servers run. ``launch`` may be called again and again; close ends what is left.

    ``launch`` raises LauncherUnavailable if the place itself is at fault (no engine, no image), and
    ServerFailed, with the log's last lines, where the server did not come up.
    """

    name: ClassVar[str]

    @abstractmethod
    def launch(self, spec: ServerSpec) -> AbstractContextManager[Server]:
        """Start a server and wait until it is live; leaving the context stops and removes it."""

    @abstractmethod
    def gpus(self) -> str:
        """The GPUs of this machine that servers see: ``all``, ``none``, or ids in the form of
        CUDA_VISIBLE_DEVICES (``0,1``, ``GPU-…``, ``MIG-…``); ``none``, too, where it is unknown.
        """

    @abstractmethod
    def describe(self) -> Mapping[str, str]:
        """What a record needs to repeat the launch: image and digest, or binary and version."""

    def check(self) -> None:  # noqa: B027  most launchers have nothing to ask before a launch
        """LauncherUnavailable if a launch would fail, as far as that is known without one."""

    def starts_several(self) -> bool:
        """Whether several servers can run at once."""
        return True

    def reads_in_place(self) -> bool:
        """Whether servers read the repository's folder itself: what is written to it later reaches
        them.
        """
        return False

    def shares_memory(self) -> bool:
        """Whether servers see /dev/shm of this machine."""
        return False

    def close(self) -> None:  # noqa: B027  most launchers hold nothing between launches
        """Release what is held between launches."""

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except LauncherUnavailable:
            if error is None:  # else what came first is what counts
                raise


def tail(log: Path) -> str:
    """The last lines of a log file that are not blank or a table's frame; empty if none."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - LAUNCH.log_read))
            text = file.read(LAUNCH.log_read).decode("utf-8", errors="replace")
    except OSError:
        return ""
    text = text.partition("Usage: tritonserver")[0]  # it follows the reason, and is long
    lines = [line.rstrip() for line in text.splitlines() if line.strip(" +-|\t")]
    return "\n".join(lines[-LAUNCH.log_tail :])


def error_lines(text: str) -> list[str]:
    """The last lines of a Triton log that report errors (``E1122 16:31:12.98 …]``), shortened, each
    once.
    """
    errors = [line for line in text.splitlines() if _ERROR_LINE.match(line)]
    distinct = dict.fromkeys(line.partition("] ")[2] or line for line in errors)
    return list(distinct)[-LAUNCH.error_lines :]
