"""HTTP services as processes of this machine: started on a free port, ready, and ended."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import requests

from tuner.errors import ServerFailed
from tuner.scratch import scratch_folder
from tuner.servers.base import Endpoints
from tuner.servers.local import LocalServer, free_ports, start_as_child, stop

_HOST = "127.0.0.1"
_PORT_ATTEMPTS = 3
_TAKEN = "address already in use"


@dataclass(frozen=True)
class ServiceSpec:
    """A service to start. ``command`` makes its command line of the port that it is to listen on.

    It is ready once ``ready`` answers with 2xx and, where its answers name their ``worker``, so
    many ``workers`` have done so. ``startup_timeout`` is in seconds. It runs on ``cores``; on any
    if there are none.
    """

    command: Callable[[int], tuple[str, ...]]
    log: Path
    ready: str = "/healthz"
    workers: int = 1
    startup_timeout: float = 120.0
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    cores: frozenset[int] = frozenset()


def tuner_command(*words: str) -> tuple[str, ...]:
    """This installation's ``tuner`` with these words."""
    return (sys.executable, "-m", "tuner", *words)


@contextmanager
def launch_service(spec: ServiceSpec) -> Iterator[LocalServer]:
    """A service that is ready; at the end it is gone, with all of its processes.

    ServerFailed where its command cannot be run or, with the log's last lines, it does not come up.
    """
    process, server = _start(spec)
    try:
        yield server
    finally:
        stop(process)
        scratch_folder("service").cleanup()  # making one removes those of the killed


def _start(spec: ServiceSpec) -> "tuple[subprocess.Popen[bytes], LocalServer]":
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        (port,) = free_ports(1)
        process = _spawn(spec, port)
        server = LocalServer(process, Endpoints(f"{_HOST}:{port}"), spec.log)
        try:
            _wait_until_ready(server, spec)
        except BaseException as error:
            stop(process)
            taken = isinstance(error, ServerFailed) and _TAKEN in server.log_tail().lower()
            if taken and attempt < _PORT_ATTEMPTS:
                continue
            raise
        return process, server
    raise AssertionError("unreachable")


def _spawn(spec: ServiceSpec, port: int) -> "subprocess.Popen[bytes]":
    command = spec.command(port)
    environment = {**os.environ, "TUNER_END_WITH_PARENT": "1", **spec.environment}
    try:
        with spec.log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=spec.folder,
                start_new_session=True,
                preexec_fn=partial(start_as_child, spec.cores),
            )
    except OSError as error:
        raise ServerFailed(f"cannot run {command[0]}: {error.strerror or error}") from error


def _wait_until_ready(server: LocalServer, spec: ServiceSpec) -> None:
    deadline = time.monotonic() + spec.startup_timeout
    seen: set[str] = set()
    while True:
        worker = ready_worker(server.endpoints.http, spec.ready)
        if worker is not None:
            seen.add(worker)
        if worker == "" or len(seen) >= spec.workers:
            return
        reason = server.exit_reason()
        if reason is None and time.monotonic() < deadline:
            time.sleep(0.01 if seen else 0.05)
            continue
        what = reason or f"the service was not ready within {spec.startup_timeout:g} s"
        raise ServerFailed("\n".join(filter(None, (what, server.log_tail()))))


def ready_worker(address: str, path: str, key: str = "worker", timeout: float = 2.0) -> str | None:
    """Which worker says that it is ready, over a connection of its own, or another word that it
    says under ``key``; empty where the answer names none; None where none is ready.
    """
    with requests.Session() as session:
        session.trust_env = False
        try:
            reply = session.get(f"http://{address}{path}", timeout=timeout)
        except requests.RequestException:
            return None
    if not reply.ok:
        return None
    with contextlib.suppress(ValueError, AttributeError):
        return str(reply.json().get(key, ""))
    return ""
