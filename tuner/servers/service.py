"""HTTP services as processes of this machine: started on a free port, awaited, and stopped."""

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tuner.errors import DocumentError, ServerFailed
from tuner.scratch import owned_environment, scratch_folder
from tuner.servers.http_client import HttpClient
from tuner.servers.program import LocalServer, Program, start
from tuner.servers.settings import HTTP


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


def tuner_command(*arguments: str) -> tuple[str, ...]:
    """This installation's ``tuner`` with these arguments."""
    return (sys.executable, "-m", "tuner", *arguments)


@contextmanager
def launch_service(spec: ServiceSpec) -> Iterator[LocalServer]:
    """A service that is ready; at the end it is gone, with all of its processes.

    ServerFailed if its command cannot be run or, with the log's last lines, it does not come up.
    """
    server = _start(spec)
    try:
        yield server
    finally:
        server.stop()
        scratch_folder("service").cleanup()  # making one removes those of the killed


def _start(spec: ServiceSpec) -> LocalServer:
    seen: dict[str, set[str]] = defaultdict(set)
    program = Program(
        command=lambda endpoints: spec.command(int(endpoints.http.rpartition(":")[2])),
        ports=1,
        log=spec.log,
        environment={**owned_environment(), **spec.environment},
        is_up=lambda endpoints: _all_ready(spec, endpoints.http, seen[endpoints.http]),
        not_up="the service was not ready",
        startup_timeout=spec.startup_timeout,
        cores=spec.cores,
        folder=spec.folder,
    )
    try:
        return start(program)
    except OSError as error:
        raise ServerFailed(f"cannot run {error.filename}: {error.strerror or error}") from error


def _all_ready(spec: ServiceSpec, address: str, seen: set[str]) -> bool:
    """Whether all workers have been ready by now; ``seen`` are those that were before.

    The kernel spreads connections over workers, so that several are asked in one look.
    """
    for _ in range(spec.workers):
        worker = ready_worker(address, spec.ready)
        if worker is None:
            return False
        seen.add(worker)
        if worker == "" or len(seen) >= spec.workers:
            return True
    return False


def ready_worker(address: str, path: str) -> str | None:
    """Which worker is ready, asked over a connection of its own; empty if the answer names none;
    None if none is ready.
    """
    with HttpClient() as client:
        try:
            reply = client.call("GET", f"http://{address}{path}", HTTP.service_ready)
        except requests.RequestException:
            return None
    if not reply.ok:
        return None
    with contextlib.suppress(DocumentError, AttributeError):
        return str(reply.json().get("worker", ""))
    return ""
