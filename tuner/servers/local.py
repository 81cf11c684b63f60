"""Servers as processes of this machine: a tritonserver on the PATH, or the embedded one."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from tuner.cores import Cores
from tuner.errors import LauncherUnavailable, StorageError
from tuner.scratch import owned_name, scratch_folder
from tuner.servers import embedded
from tuner.servers.base import Endpoints, Launcher, Server, ServerSpec
from tuner.servers.control import is_live
from tuner.servers.environment import server_environment
from tuner.servers.leftovers import SERVERS, remove_leftovers
from tuner.servers.program import LocalServer, Program, start
from tuner.servers.protection import Protection
from tuner.servers.settings import LAUNCH

_SERVICES = ("http", "grpc", "metrics")
_MAPS_MEMORY = ("--allow-client-shm=true",)
"""Since 2.69 servers map no memory of clients without it."""
_HELP_SECONDS = 60.0


def is_available() -> bool:
    """Whether this machine has a tritonserver, on the PATH or embedded."""
    return shutil.which("tritonserver") is not None or embedded.is_installed()


class LocalLauncher(Launcher):
    """Starts ``tritonserver``; a binary on the PATH goes before the embedded one.

    Servers get free ports on loopback. They end with this process, even if it is killed.
    """

    name = "local"

    def __init__(
        self,
        server_args: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        cores: Cores | None = None,
    ) -> None:
        remove_leftovers()
        self._server_args = server_args
        self._changes = dict(environment or {})
        self._stack = ExitStack()
        on_path = shutil.which("tritonserver")
        if on_path is not None:
            self._binary = embedded.Binary(Path(on_path), (), {})
            self._cores = cores.serving if cores else frozenset()
            self._version = "tritonserver on the PATH"
        else:
            self._binary = self._assemble(cores.stubs if cores else frozenset())
            self._cores = cores.server if cores else frozenset()
            self._version = f"nvidia-pytriton {metadata.version('nvidia-pytriton')}"

    def _assemble(self, stub_cores: frozenset[int]) -> embedded.Binary:
        folder = Path(self._stack.enter_context(scratch_folder("triton")))
        try:
            return embedded.assemble(folder, stub_cores)
        except OSError as error:
            self.close()
            raise StorageError(
                f"cannot copy the embedded server to {folder.parent}: {_reason(error)}; free some "
                "disk space, or set TMPDIR to a folder with more"
            ) from error

    def gpus(self) -> str:
        chosen = {**os.environ, **self._changes}.get("CUDA_VISIBLE_DEVICES", "all")
        return chosen.strip() or "none"

    def describe(self) -> Mapping[str, str]:
        return {"launcher": self.name, "server": self._version}

    def reads_in_place(self) -> bool:
        return True

    def shares_memory(self) -> bool:
        return True

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def launch(self, spec: ServerSpec) -> Iterator[Server]:
        server = self._start(spec)
        try:
            yield server
        finally:
            server.stop()

    def _start(self, spec: ServerSpec) -> LocalServer:
        shm_prefix = f"{owned_name(SERVERS)}-"
        protection = Protection(spec.opens)
        program = Program(
            command=lambda endpoints: self._command(spec, endpoints, shm_prefix),
            ports=len(_SERVICES),
            log=spec.log,
            environment=server_environment(self._binary.environment, self._changes),
            is_up=is_live,
            not_up="the server was not live",
            startup_timeout=spec.startup_timeout,
            cores=self._cores,
            shm_prefix=shm_prefix,
            protection=protection,
        )
        try:
            return start(program)
        except FileNotFoundError as error:
            raise LauncherUnavailable(
                f"cannot run {self._binary.path}: {error.strerror}"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot start a server: {error}") from error

    def _command(self, spec: ServerSpec, endpoints: Endpoints, shm_prefix: str) -> tuple[str, ...]:
        addresses = [(name, *getattr(endpoints, name).split(":")) for name in _SERVICES]
        return (
            str(self._binary.path),
            f"--model-repository={spec.repository.resolve()}",
            "--model-control-mode=explicit",
            *(f"--{name}-address={host}" for name, host, _ in addresses),
            *(f"--{name}-port={port}" for name, _, port in addresses),
            f"--metrics-interval-ms={LAUNCH.metrics_interval}",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
            *self._binary.args,
            *(endpoints.protection.arguments() if endpoints.protection else ()),
            *(_MAPS_MEMORY if spec.maps_memory and self._knows(_MAPS_MEMORY[0]) else ()),
            *self._server_args,
            *spec.server_args,
        )

    @lru_cache  # noqa: B019  a launcher lives as long as its run
    def _knows(self, flag: str) -> bool:
        """Whether this version of the server has the flag: an unknown one ends it."""
        name = flag.partition("=")[0]
        try:
            done = subprocess.run(
                [str(self._binary.path), "--help"],
                capture_output=True,
                text=True,
                timeout=_HELP_SECONDS,
                check=False,
                env=server_environment(self._binary.environment, self._changes),
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return name in done.stdout + done.stderr


def _reason(error: OSError) -> str:
    """Of an error that may be a list of those of several files."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])
    return error.strerror or str(error)
