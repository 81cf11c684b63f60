"""Servers as processes of this machine: a tritonserver on the PATH, or the embedded one."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from uuid import uuid4

import psutil

from tuner.cores import Cores, run_on
from tuner.errors import LauncherUnavailable, ServerFailed, StorageError
from tuner.scratch import scratch_folder
from tuner.servers import embedded
from tuner.servers.base import Endpoints, Launcher, Server, ServerSpec, Usage, tail
from tuner.servers.control import is_live
from tuner.servers.processes import ProcessTree

_HOST = "127.0.0.1"
_STOP_SECONDS = 10.0
_PORT_ATTEMPTS = 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def is_available() -> bool:
    return shutil.which("tritonserver") is not None or embedded.is_installed()


class LocalServer(Server):
    def __init__(self, process: "subprocess.Popen[bytes]", endpoints: Endpoints, log: Path) -> None:
        self.endpoints = endpoints
        self._process = process
        self._log = log
        self._tree = ProcessTree(process.pid)

    def exit_reason(self) -> str | None:
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"the server ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = " (often: out of memory)" if name == "SIGKILL" else ""
        return f"the server was ended by {name}{hint}"

    def log_tail(self) -> str:
        return tail(self._log)

    def pids(self) -> tuple[int, ...]:
        if self._process.poll() is not None:
            return ()
        return (self._process.pid, *(child.pid for child in _children(self._process.pid)))

    def usage(self) -> Usage | None:
        return None if self._process.poll() is not None else self._tree.usage()


class LocalLauncher(Launcher):
    """Starts ``tritonserver``; a binary on the PATH goes before the embedded one.

    Servers get free ports on loopback. They end with this process, even where it is killed.
    """

    name = "local"

    def __init__(
        self,
        server_args: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        cores: Cores | None = None,
    ) -> None:
        self._server_args = server_args
        self._extra = dict(environment or {})
        self._stack = ExitStack()
        found = shutil.which("tritonserver")
        if found is not None:
            self._binary = embedded.Binary(Path(found), (), {})
            self._cores = cores.serving if cores else frozenset()
            self._version = "tritonserver on the PATH"
        else:
            folder = self._stack.enter_context(scratch_folder("triton"))
            self._binary = embedded.assemble(Path(folder), cores.stubs if cores else frozenset())
            self._cores = cores.server if cores else frozenset()
            self._version = f"nvidia-pytriton {metadata.version('nvidia-pytriton')}"

    def gpus(self) -> str:
        chosen = {**os.environ, **self._extra}.get("CUDA_VISIBLE_DEVICES", "all")
        return chosen.strip() or "none"

    def describe(self) -> Mapping[str, str]:
        return {"launcher": self.name, "server": self._version}

    def shares_memory(self) -> bool:
        return True

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def launch(self, spec: ServerSpec) -> Iterator[Server]:
        shm_prefix = f"tuner-{uuid4().hex[:12]}-"
        process, server = self._start(spec, shm_prefix)
        try:
            yield server
        finally:
            stop(process, shm_prefix)

    def _start(
        self, spec: ServerSpec, shm_prefix: str
    ) -> "tuple[subprocess.Popen[bytes], LocalServer]":
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            http, grpc, metrics = free_ports(3)
            process = self._spawn(spec, shm_prefix, http, grpc, metrics)
            endpoints = Endpoints(f"{_HOST}:{http}", f"{_HOST}:{grpc}", f"{_HOST}:{metrics}")
            server = LocalServer(process, endpoints, spec.log)
            try:
                _wait_until_live(server, spec)
            except BaseException as error:
                stop(process, shm_prefix)
                taken = isinstance(error, ServerFailed) and "already in use" in server.log_tail()
                if taken and attempt < _PORT_ATTEMPTS:
                    continue
                raise
            return process, server
        raise AssertionError("unreachable")

    def _spawn(
        self, spec: ServerSpec, shm_prefix: str, http: int, grpc: int, metrics: int
    ) -> "subprocess.Popen[bytes]":
        command = [
            str(self._binary.path),
            f"--model-repository={spec.repository.resolve()}",
            "--model-control-mode=explicit",
            *(f"--{name}-address={_HOST}" for name in ("http", "grpc", "metrics")),
            f"--http-port={http}",
            f"--grpc-port={grpc}",
            f"--metrics-port={metrics}",
            "--metrics-interval-ms=500",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
            *self._binary.args,
            *self._server_args,
            *spec.server_args,
        ]
        try:
            with spec.log.open("wb") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**_environment(self._binary.environment), **self._extra},
                    start_new_session=True,
                    preexec_fn=partial(start_as_child, self._cores),
                )
        except FileNotFoundError as error:
            raise LauncherUnavailable(f"cannot run {command[0]}: {error.strerror}") from error
        except OSError as error:
            raise StorageError(f"cannot start a server: {error}") from error


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join(
        (str(Path(sys.executable).parent), environment.get("PATH", ""))
    )
    for name, value in changes.items():
        inherited = environment.get(name)
        joins = name.endswith("PATH") and inherited
        environment[name] = os.pathsep.join((value, inherited)) if joins and inherited else value
    return environment


def start_as_child(cores: frozenset[int]) -> None:
    """For a child to run before its program: it runs on these cores, on any if there are none, and
    ends with this process.
    """
    run_on(cores)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_live(server: LocalServer, spec: ServerSpec) -> None:
    deadline = time.monotonic() + spec.startup_timeout
    while not is_live(server.endpoints):
        reason = server.exit_reason()
        if reason is None and time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        what = reason or f"the server was not live within {spec.startup_timeout:g} s"
        raise ServerFailed("\n".join(filter(None, (what, server.log_tail()))))


def stop(process: "subprocess.Popen[bytes]", shm_prefix: str | None = None) -> None:
    """Kill the server and all below it at once, and remove the shared memory that they leave.

    Asked politely, Triton takes one to five seconds (a second for each Python instance); a server
    that was only measured holds nothing worth that wait.
    """
    children = _children(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    deadline = time.monotonic() + _STOP_SECONDS
    while any(_runs(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    for leftover in Path("/dev/shm").glob(f"{shm_prefix}*") if shm_prefix else ():
        leftover.unlink(missing_ok=True)


def _children(pid: int) -> list[psutil.Process]:
    """Processes below this one that still run."""
    try:
        return [child for child in psutil.Process(pid).children(recursive=True) if _runs(child)]
    except psutil.Error:
        return []


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def free_ports(count: int) -> list[int]:
    """So many different ports of loopback that nothing listens on right now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]
