"""One container as a server: its end, its log, its processes and its addresses."""

import contextlib
import signal
from http import HTTPStatus
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from tuner.errors import StorageError
from tuner.servers.base import Endpoints, ResourceUsage, Server, tail
from tuner.servers.control import is_live
from tuner.servers.docker_engine import ENGINE_ERRORS, engine_errors
from tuner.servers.docker_usage import usage_of
from tuner.servers.protection import Protection
from tuner.units import format_size

LOOPBACK = "127.0.0.1"
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
"""Triton's own defaults, inside the container."""
_SIGNALLED = 128
"""A container that a signal ended exits with this and the signal's number, as in a shell."""


class DockerServer(Server):
    """``network`` is the one that tuner shares with the container; ``shares_processes`` says
    whether tuner sees the processes of the engine's machine.
    """

    def __init__(
        self,
        container: Any,
        log: Path,
        network: str | None = None,
        shares_processes: bool = False,
        protection: Protection | None = None,
    ) -> None:
        self._protection = protection
        self._container = container
        self._log = log
        self._network = network
        self._shares_processes = shares_processes

    def exit_reason(self) -> str | None:
        with engine_errors("cannot inspect the server's container"):
            try:
                self._container.reload()
            except NotFound:
                return "the server's container was removed"
        state = self._container.attrs["State"]
        if state["Running"] or state["Status"] == "created":
            return None
        if state["OOMKilled"]:
            limit = self._container.attrs["HostConfig"]["Memory"]
            return "out of memory" + (f" (limit {format_size(limit)})" if limit else "")
        code = int(state["ExitCode"])
        with contextlib.suppress(ValueError):
            return f"the server was ended by {signal.Signals(code - _SIGNALLED).name}"
        return f"the server ended with exit code {code}"

    def log_tail(self) -> str:
        self.save_log()
        return tail(self._log)

    def save_log(self) -> None:
        """Write all that the server has logged so far to the log file."""
        with engine_errors("cannot read the server's log"):
            try:
                text = self._container.logs()
            except NotFound:
                return
            except APIError as error:
                if error.status_code == HTTPStatus.CONFLICT:  # it is being removed
                    return
                raise
        try:
            self._log.write_bytes(text)
        except OSError as error:
            raise StorageError(f"cannot write the server's log {self._log}: {error}") from error

    def pids(self) -> tuple[int, ...]:
        """Empty even if the engine's machine has no ``ps``."""
        if not self._shares_processes:
            return ()
        try:
            rows = self._container.top(ps_args="-eo pid")["Processes"]
        except ENGINE_ERRORS:
            return ()
        return tuple(int(row[0]) for row in rows or ())

    def usage(self) -> ResourceUsage | None:
        try:
            return usage_of(self._container.stats(stream=False, one_shot=True))
        except (*ENGINE_ERRORS, ValueError):  # ValueError: an answer cut short is not JSON
            return None

    def find_live_endpoints(self) -> Endpoints | None:
        """The server's addresses, as of the engine's answer to the last ``exit_reason``."""
        addresses = _addresses(self._container, self._network, self._protection)
        return next(filter(is_live, addresses), None)


def _addresses(
    container: Any, network: str | None, protection: Protection | None
) -> list[Endpoints]:
    """Addresses of the server, best first; empty while the engine has not set it up."""
    settings = container.attrs["NetworkSettings"]
    addresses = []
    host = settings["Networks"].get(network, {}).get("IPAddress") if network else None
    if host:
        ports = (f"{host}:{port}" for port in PORTS.values())
        addresses.append(Endpoints(*ports, protection=protection))
    bindings = settings["Ports"] or {}
    published = [b[0]["HostPort"] for port in PORTS.values() if (b := bindings.get(f"{port}/tcp"))]
    if len(published) == len(PORTS):
        ports = (f"{LOOPBACK}:{port}" for port in published)
        addresses.append(Endpoints(*ports, protection=protection))
    return addresses
