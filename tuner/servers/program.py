"""Programs as processes of this machine: started on free ports, and ended with all below them."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tuner.cores import run_on
from tuner.errors import ServerFailed, StorageError, write_remedy
from tuner.interrupts import held_back
from tuner.servers.base import (
    Endpoints,
    ResourceUsage,
    Server,
    raise_if_ended,
    tail,
    wait_until,
    with_log,
)
from tuner.servers.process_tree import ProcessTree
from tuner.servers.protection import Protection
from tuner.servers.settings import LAUNCH

_HOST = "127.0.0.1"
_LISTENS = psutil.CONN_LISTEN
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_GROUPS = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")
_PORT_TAKEN = re.compile(r"(address|socket '[^']*') (is )?already in use", re.IGNORECASE)


@dataclass(frozen=True)
class Program:
    """A program to start. ``command`` makes its command line of the endpoints where it is to
    listen: HTTP and, where it has three ``ports``, gRPC and metrics.

    ``is_up`` says whether it answers there; if it does not within ``startup_timeout`` seconds, the
    error is that ``not_up``. ``cores`` may be empty for any. What it leaves in shared memory begins
    with ``shm_prefix``. The secret of its ``protection`` is on the command line, until it is up.
    """

    command: Callable[[Endpoints], Sequence[str]]
    ports: int
    log: Path
    environment: Mapping[str, str]
    is_up: Callable[[Endpoints], bool]
    not_up: str
    startup_timeout: float
    cores: frozenset[int] = frozenset()
    folder: Path | None = None
    shm_prefix: str | None = None
    protection: Protection | None = None


class LocalServer(Server):
    """A process of this machine, with all below it."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        endpoints: Endpoints,
        log: Path,
        shm_prefix: str | None = None,
    ) -> None:
        self.endpoints = endpoints
        self._process = process
        self._log = log
        self._shm_prefix = shm_prefix
        self._tree = ProcessTree(process.pid)
        self._oom_counter = _oom_counter()
        self._oom_kills = _oom_kills(self._oom_counter) or 0

    def exit_reason(self) -> str | None:
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"the server ended with exit code {code}"
        name = signal.Signals(-code).name
        if name == "SIGKILL" and (_oom_kills(self._oom_counter) or 0) > self._oom_kills:
            return "the server was ended by the kernel: the machine was out of memory"
        return f"the server was ended by {name}"

    def log_tail(self) -> str:
        return tail(self._log)

    def listens_everywhere(self) -> bool:
        """Whether each of its endpoints is its own by now."""
        wanted = {self.endpoints.http, self.endpoints.grpc, self.endpoints.metrics} - {None}
        try:
            found = psutil.Process(self._process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        at = {f"{each.laddr[0]}:{each.laddr[1]}" for each in found if each.status == _LISTENS}
        return wanted <= at

    def pids(self) -> tuple[int, ...]:
        if self._process.poll() is not None:
            return ()
        return (self._process.pid, *(child.pid for child in _children(self._process.pid)))

    def usage(self) -> ResourceUsage | None:
        return None if self._process.poll() is not None else self._tree.usage()

    def stop(self) -> None:
        """Kill the process and all below it at once, and remove the shared memory that they leave.

        Asked politely, Triton takes one to five seconds (a second for each Python instance); a
        server that was only measured holds nothing worth that wait.
        """
        with held_back():
            children = _children(self._process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self._process.wait()
            deadline = time.monotonic() + LAUNCH.stop
            while any(_runs(child) for child in children) and time.monotonic() < deadline:
                time.sleep(LAUNCH.stop_poll)
            for leftover in (
                Path("/dev/shm").glob(f"{self._shm_prefix}*") if self._shm_prefix else ()
            ):
                leftover.unlink(missing_ok=True)


def start(program: Program) -> LocalServer:
    """The program once it is up; the caller stops it; it ends with the calling thread, too. Ports
    that were taken meanwhile are replaced by others.

    ServerFailed, with the log's last lines, where it does not come up; StorageError if its log
    cannot be written, OSError if its command cannot be run.
    """
    for attempt in range(1, LAUNCH.port_attempts + 1):
        ports = free_ports(program.ports)
        endpoints = Endpoints(*(f"{_HOST}:{port}" for port in ports), protection=program.protection)
        process = _spawn(program, program.command(endpoints))
        server = LocalServer(process, endpoints, program.log, program.shm_prefix)
        try:
            wait_until(
                server,
                lambda at=endpoints: program.is_up(at) or None,  # type: ignore[misc]
                program.startup_timeout,
                program.not_up,
            )
            if program.ports > 1:
                _await_ports(server)
            if program.protection is not None:
                program.protection.hide(process.pid)
            return server
        except BaseException as error:
            server.stop()
            port_taken = isinstance(error, ServerFailed) and _PORT_TAKEN.search(server.log_tail())
            if not port_taken or attempt == LAUNCH.port_attempts:
                raise
    raise AssertionError("unreachable")


def _await_ports(server: LocalServer) -> None:
    """Triton answers over HTTP before it has tried its last port; where that is taken, it ends a
    moment later, and ServerFailed says so. Services that it was told not to offer are not awaited.
    """
    deadline = time.monotonic() + LAUNCH.listen
    while not server.listens_everywhere() and time.monotonic() < deadline:
        if _PORT_TAKEN.search(server.log_tail()):
            raise ServerFailed(with_log("a port of the server was taken", server))
        raise_if_ended(server)
        time.sleep(LAUNCH.poll)


def _spawn(program: Program, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    try:
        output = program.log.open("wb")
    except OSError as error:
        remedy = write_remedy(error)
        raise StorageError(f"cannot write {program.log}: {error.strerror}; {remedy}") from error
    with output as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(program.environment),
            cwd=program.folder,
            start_new_session=True,
            preexec_fn=partial(_become_child, program.cores),
        )


def _become_child(cores: frozenset[int]) -> None:
    """For the child, before its program: it runs on these cores, on any if there are none, and
    ends with this process.
    """
    run_on(cores)
    end_with_parent(signal.SIGKILL)  # a process that is stopped hears no other


def end_with_parent(sent: signal.Signals) -> None:
    """Have the kernel send this signal to the process when its parent ends, even by SIGKILL."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, sent)


def _oom_counter() -> Path:
    """Where the kernel counts the processes that it ended for lack of memory: those of this
    process's own control group, to which servers belong, too; of the whole machine where it does
    not tell.
    """
    groups = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if controllers == "":  # version 2
                groups.append(_GROUPS / inside / "memory.events")
            elif "memory" in controllers.split(","):
                groups.append(_GROUPS / "memory" / inside / "memory.oom_control")
    return next((each for each in groups if _oom_kills(each) is not None), _MACHINE)


def _oom_kills(counter: Path) -> int | None:
    """How many there were so far; None if it does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in counter.read_text(encoding="ascii").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return None


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
        for listener in sockets:
            listener.bind((_HOST, 0))
        return [listener.getsockname()[1] for listener in sockets]
