"""``tuner serve triton``: a Triton server on this machine, to try the gateway without Docker.

It serves inference, health and metadata. What changes the server (loading models, shared memory,
trace and log settings) needs a secret that is drawn for each start and given to nobody.
"""

import math
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tuner.errors import LauncherUnavailable, RepositoryError, ServerFailed, UsageError
from tuner.experiment.find import find_model
from tuner.scratch import owned_name, scratch_folder
from tuner.servers import embedded
from tuner.servers.base import Endpoints
from tuner.servers.control import is_live
from tuner.servers.embedded import Binary
from tuner.servers.environment import server_environment
from tuner.servers.leftovers import SERVERS, remove_leftovers
from tuner.servers.program import LocalServer, end_with_parent
from tuner.servers.protection import Protection
from tuner.serving.constants import TRITON
from tuner.serving.exposure import require_keys
from tuner.serving.listener import bind
from tuner.serving.settings import TritonSettings
from tuner.serving.signals import SignalQueue, queued_signals

_ENDING = (signal.SIGINT, signal.SIGTERM)
_SERVICES = ("http", "grpc", "metrics")


@dataclass(frozen=True)
class Models:
    """A model repository, and the one model of it to serve; all of them if ``name`` is None."""

    repository: Path
    name: str | None

    @classmethod
    def find(cls, given: str | None) -> "Models":
        """``given`` is a repository, or a model as other commands find it; by default it is
        ./model_repository. RepositoryError if there is none.
        """
        repository = Path(given or "model_repository")
        if next(repository.glob("*/config.pbtxt"), None) is not None:
            return cls(repository.resolve(), None)
        if given is None:
            raise RepositoryError(
                "there is no ./model_repository with models; give a model or a repository, as in: "
                "tuner serve triton text_classifier"
            )
        folder = find_model(given)
        return cls(folder.parent, folder.name)

    def __str__(self) -> str:
        return f"model {self.name}" if self.name else f"models of {self.repository}"

    def arguments(self) -> tuple[str, ...]:
        """Of tritonserver. If it is to serve all models, those that do not load are left out."""
        if self.name is None:
            return ("--load-model=*", "--exit-on-error=false")
        return (f"--load-model={self.name}",)


def serve_triton(settings: TritonSettings) -> int:
    """Serve until SIGINT or SIGTERM, with Triton's log on stdout and stderr; the exit code.

    UsageError if an address is not available, ServerFailed if Triton ends by itself.
    """
    models = Models.find(settings.model)
    endpoints = _endpoints(settings)
    remove_leftovers()
    with scratch_folder("triton") as folder, queued_signals(_ENDING) as signals:
        protection = Protection("model")
        shm_prefix = f"{owned_name(SERVERS)}-"
        binary = _binary(Path(folder))
        process = _spawn(binary, _command(binary, models, endpoints, protection, shm_prefix))
        server = LocalServer(process, endpoints, Path(folder) / "log", shm_prefix)
        try:
            return _run(_Running(server, process, signals), models, protection)
        finally:
            server.stop()


@dataclass(frozen=True)
class _Running:
    """A Triton that runs, and the signals that are to end it."""

    server: LocalServer
    process: "subprocess.Popen[bytes]"
    signals: SignalQueue

    def wait(self, is_over: Callable[[], bool], seconds: float) -> signal.Signals | None:
        """The signal that came before it was over; None if it is, or if the time is."""
        deadline = time.monotonic() + seconds
        while not is_over() and time.monotonic() < deadline:
            received = self.signals.wait(_ENDING, TRITON.poll)
            if received is not None:
                return received
        return None

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def is_live(self) -> bool:
        return self.has_ended() or is_live(self.server.endpoints)


def _run(triton: _Running, models: Models, protection: Protection) -> int:
    received = triton.wait(triton.is_live, math.inf)
    if received is None and not triton.has_ended():
        protection.hide(triton.process.pid)
        _announce(models, triton.server.endpoints)
        received = triton.wait(triton.has_ended, math.inf)
    if received is None:
        raise ServerFailed(f"{triton.server.exit_reason()}; its log is above")
    with suppress(OSError):  # nobody may listen any more
        print(f"stopping Triton on {received.name}; a second signal ends it at once", flush=True)
    triton.process.terminate()
    second = triton.wait(triton.has_ended, TRITON.end)
    return 0 if second is None else 128 + second


def _endpoints(settings: TritonSettings) -> Endpoints:
    """Where Triton is to listen. UsageError if a port is taken, or if other machines reach it and
    nobody has allowed that.
    """
    _require_address(settings.host)
    ports = []
    for name in _SERVICES:
        with bind(settings.host, getattr(settings, f"{name}_port"), f"--{name}-port") as listener:
            address, bound = listener.getsockname()
        if not settings.allow_unauthenticated:
            require_keys(address, "Triton has none, so let 'tuner serve gateway' ask for them")
        ports.append(bound)
    return Endpoints(*(f"{settings.host}:{port}" for port in ports))


def _require_address(host: str) -> None:
    """UsageError if the host has none that Triton listens on."""
    try:
        socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(
            f"--host {host} has no IPv4 address: {error.strerror}; write 127.0.0.1, or "
            "0.0.0.0 for all addresses of this machine"
        ) from error


def _binary(folder: Path) -> Binary:
    """The tritonserver on the PATH, else the embedded one."""
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return Binary(Path(on_path), (), {})
    return embedded.assemble(folder)


def _command(
    binary: Binary, models: Models, endpoints: Endpoints, protection: Protection, shm_prefix: str
) -> tuple[str, ...]:
    addresses = [(name, *getattr(endpoints, name).rsplit(":", 1)) for name in _SERVICES]
    return (
        str(binary.path),
        f"--model-repository={models.repository}",
        "--model-control-mode=explicit",  # the secret protects it; "none" cannot serve one model
        *models.arguments(),
        *(f"--{name}-address={host}" for name, host, _ in addresses),
        *(f"--{name}-port={port}" for name, _, port in addresses),
        f"--exit-timeout-secs={TRITON.exit_timeout}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        *binary.args,
        *protection.arguments(),
    )


def _spawn(binary: Binary, command: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    """In a session of its own: a terminal's Ctrl-C reaches tuner alone, which ends it."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=server_environment(binary.environment, {}),
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGKILL),
        )
    except OSError as error:
        raise LauncherUnavailable(f"cannot run {binary.path}: {error.strerror}") from error


def _announce(models: Models, endpoints: Endpoints) -> None:
    name = models.name or "MODEL"
    print(
        f"Triton serves {models}: HTTP {endpoints.http}, gRPC {endpoints.grpc}, metrics "
        f"{endpoints.metrics}/metrics; try: tuner serve gateway {name} --triton {endpoints.grpc}",
        flush=True,
    )
