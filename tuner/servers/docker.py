"""Servers as Docker containers, each hardened, on addresses of this machine alone, and removed.

Where tuner and the engine see the same files, the repository is mounted read-only. Where they do
not (tuner runs in a container and has the engine's socket), it is copied once per launcher into a
volume, which servers get read-only.

Requests go to ports published on loopback, or, where tuner itself runs in a container, to the
server's own address on the network that both share. A published port may pass through a proxy
process of the engine; what that costs (about 0.1 ms) is part of what is measured.
"""

import contextlib
import os
import signal
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig, Mount

from tuner.cores import listed
from tuner.errors import (
    LauncherUnavailable,
    RepositoryError,
    ServerFailed,
    StorageError,
    UsageError,
)
from tuner.experiment.model import DEFAULT_IMAGE
from tuner.servers.base import Endpoints, Launcher, Server, ServerSpec, Usage, tail
from tuner.servers.control import is_live
from tuner.servers.docker_engine import (
    ENGINE_ERRORS,
    OWNER_LABEL,
    Owner,
    connect,
    engine_answers,
    engine_errors,
    ensure_image,
    fresh_name,
    image_present,
    maps_users,
    own_container,
    own_network,
    remove_leftovers,
)
from tuner.servers.docker_usage import usage_of
from tuner.units import format_size

__all__ = ["DEFAULT_IMAGE", "DockerLauncher", "DockerServer", "engine_answers", "image_present"]

_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
_LOOPBACK = "127.0.0.1"
_MODELS = "/models"
_START_ATTEMPTS = 3
_LOG_LIMITS = {"max-size": "32m", "max-file": "2"}

Transfer = Literal["auto", "mount", "copy"]


class DockerServer(Server):
    def __init__(self, container: Any, log: Path, shares_processes: bool) -> None:
        self._container = container
        self._log = log
        self._shares_processes = shares_processes

    def exit_reason(self) -> str | None:
        with engine_errors("cannot look at the server's container"):
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
            return f"the server was ended by {signal.Signals(code - 128).name}"
        return f"the server ended with exit code {code}"

    def log_tail(self) -> str:
        self.save_log()
        return tail(self._log)

    def save_log(self) -> None:
        """Write all that the server has said so far to the log file."""
        with engine_errors("cannot read the server's log"):
            try:
                text = self._container.logs()
            except NotFound:
                return
        try:
            self._log.write_bytes(text)
        except OSError as error:
            raise StorageError(f"cannot write the server's log {self._log}: {error}") from error

    def pids(self) -> tuple[int, ...]:
        return _processes(self._container) if self._shares_processes else ()

    def usage(self) -> Usage | None:
        try:
            return usage_of(self._container.stats(stream=False, one_shot=True))
        except (*ENGINE_ERRORS, ValueError):  # ValueError: an answer cut short is not JSON
            return None


class DockerLauncher(Launcher):
    """Starts each server in a container of its own and removes it, whatever happens.

    ``gpus`` is ``none``, ``all`` or a list of ids like ``0,1``. Sizes are in bytes; without a
    ``memory_limit`` a server may use all memory. Where tuner runs in a container, servers join its
    first network, and a copied repository does not follow later changes of its files. Containers
    and volumes that a tuner which no longer runs left behind are removed at the start.
    """

    name = "docker"

    def __init__(
        self,
        *,
        image: str = DEFAULT_IMAGE,
        gpus: str = "none",
        shm_size: int = 2**30,
        memory_limit: int | None = None,
        pids_limit: int = 4096,
        environment: Mapping[str, str] | None = None,
        server_args: tuple[str, ...] = (),
        transfer: Transfer = "auto",
        cores: frozenset[int] = frozenset(),
    ) -> None:
        self._image = image
        self._gpus = gpus
        self._server_args = server_args
        self._volumes: dict[Path, str] = {}
        self._limits = {
            "shm_size": shm_size,
            "pids_limit": pids_limit,
            "mem_limit": memory_limit,
            "memswap_limit": memory_limit,
            "device_requests": _device_requests(gpus),
            **({"cpuset_cpus": listed(cores)} if cores else {}),
        }
        visible = {"NVIDIA_VISIBLE_DEVICES": "void"} if gpus == "none" else {}
        # Servers run under a user id without a name or a home; libraries ask for both.
        self._environment = {"HOME": "/tmp", "USER": "tuner", **visible, **(environment or {})}
        self._client = connect()
        try:
            with engine_errors("cannot prepare the Docker engine"):
                self._own = own_container(self._client)
                self._owner = Owner.here(self._own.id if self._own else "")
                self._copies = transfer == "copy" or (transfer == "auto" and self._own is not None)
                self._may_copy = transfer != "mount"
                self._network = own_network(self._own)
                self._maps_users = maps_users(self._client)
                remove_leftovers(self._client, self._owner)
            ensure_image(self._client, image)
        except BaseException:
            self._client.close()
            raise

    def gpus(self) -> str:
        if self._own is not None and self._gpus != "all" and "-" not in self._gpus:
            return "none"  # in a container GPUs may be numbered anew
        return self._gpus

    def describe(self) -> Mapping[str, str]:
        with engine_errors("cannot describe the image"):
            image = self._client.images.get(self._image)
            digests = image.attrs.get("RepoDigests") or []
            return {
                "launcher": self.name,
                "image": self._image,
                "image_id": str(image.id),
                **({"image_digest": str(digests[0])} if digests else {}),
                "engine": f"Docker {self._client.version()['Version']}",
            }

    def close(self) -> None:
        try:
            with engine_errors("cannot remove a volume"):
                while self._volumes:
                    self._remove_volume(self._volumes.popitem()[1])
        finally:
            self._client.close()

    @contextmanager
    def launch(self, spec: ServerSpec) -> Iterator[Server]:
        name = fresh_name()
        try:
            server = self._start(spec, name)
            yield server
        finally:
            self._discard(name, spec.log)

    def _start(self, spec: ServerSpec, name: str) -> DockerServer:
        repository = spec.repository.resolve()
        if not repository.is_dir():
            raise RepositoryError(f"the model repository {repository} is not a folder")
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                with engine_errors(f"cannot start a server of the image {self._image}"):
                    container = self._create(spec, repository, name)
                    container.start()
                break
            except LauncherUnavailable as error:
                if attempt == _START_ATTEMPTS or not self._can_be_helped(error):
                    raise
                self._discard(name, spec.log)
        server = DockerServer(container, spec.log, shares_processes=self._own is None)
        server.endpoints = self._wait_until_live(container, server, spec)
        server.save_log()
        return server

    def _can_be_helped(self, error: LauncherUnavailable) -> bool:
        """Whether another attempt may succeed: a port was taken, or files have to be copied."""
        text = str(error)
        if "bind source path does not exist" in text and self._may_copy and not self._copies:
            self._copies = True
            return True
        return "already allocated" in text or "already in use" in text

    def _create(self, spec: ServerSpec, repository: Path, name: str) -> Any:
        command = [
            "tritonserver",
            f"--model-repository={_MODELS}",
            "--model-control-mode=explicit",
            *(f"--{service}-address=0.0.0.0" for service in _PORTS),
            *(f"--{service}-port={port}" for service, port in _PORTS.items()),
            "--allow-metrics=true",
            "--metrics-interval-ms=500",
            "--exit-timeout-secs=5",
            *self._server_args,
            *spec.server_args,
        ]
        return self._client.containers.create(
            self._image,
            command,
            name=name,
            labels={OWNER_LABEL: self._owner.text()},
            environment=self._environment,
            mounts=[self._models(repository)],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # exec: packed Python environments
            log_config=LogConfig(type=LogConfig.types.JSON, config=_LOG_LIMITS),
            **({} if self._maps_users else _identity(repository)),
            **self._wiring(),
            **self._limits,
        )

    def _wiring(self) -> dict[str, Any]:
        if self._network is not None:
            return {"network": self._network}
        return {"ports": {f"{port}/tcp": (_LOOPBACK, None) for port in _PORTS.values()}}

    def _models(self, repository: Path) -> Mount:
        if not self._copies:
            return Mount(_MODELS, str(repository), type="bind", read_only=True)
        if repository not in self._volumes:
            volume = fresh_name()
            try:
                self._fill(volume, repository)
            except BaseException:
                self._remove_volume(volume)
                raise
            self._volumes[repository] = volume
        return Mount(_MODELS, self._volumes[repository], type="volume", read_only=True)

    def _fill(self, volume: str, repository: Path) -> None:
        """Copy the repository into a new volume, through a container that is never started."""
        labels = {OWNER_LABEL: self._owner.text()}
        self._client.volumes.create(volume, labels=labels)
        carrier = self._client.containers.create(
            self._image,
            ["true"],
            name=f"{volume}-copy",
            labels=labels,
            mounts=[Mount(_MODELS, volume, type="volume")],
        )
        try:
            with tempfile.TemporaryFile() as archive:
                _pack(repository, archive)
                carrier.put_archive(_MODELS, archive)
        finally:
            carrier.remove(force=True)

    def _remove_volume(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            self._client.volumes.get(name).remove(force=True)

    def _wait_until_live(self, container: Any, server: DockerServer, spec: ServerSpec) -> Endpoints:
        deadline = time.monotonic() + spec.startup_timeout
        while True:
            reason = server.exit_reason()
            for endpoints in () if reason else _addresses(container, self._network):
                if is_live(endpoints):
                    return endpoints
            if reason is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            what = reason or f"the server was not live within {spec.startup_timeout:g} s"
            raise ServerFailed("\n".join(filter(None, (what, server.log_tail()))))

    def _discard(self, name: str, log: Path) -> None:
        """Kill the container, keep its log, and remove it with its volumes."""
        with engine_errors(f"cannot remove the container {name}"):
            try:
                container = self._client.containers.get(name)
            except NotFound:
                return
            try:
                with contextlib.suppress(APIError):  # it has ended
                    container.kill()
                DockerServer(container, log, shares_processes=False).save_log()
            finally:
                with contextlib.suppress(NotFound):
                    container.remove(force=True, v=True)


def _processes(container: Any) -> tuple[int, ...]:
    """Ids on the engine's machine; empty if the container ended, or that machine has no ``ps``."""
    try:
        rows = container.top(ps_args="-eo pid")["Processes"]
    except ENGINE_ERRORS:
        return ()
    return tuple(int(row[0]) for row in rows or ())


def _device_requests(gpus: str) -> list[DeviceRequest]:
    if gpus == "none":
        return []
    capabilities = [["gpu"]]
    if gpus == "all":
        return [DeviceRequest(count=-1, capabilities=capabilities)]
    ids = [each.strip() for each in gpus.split(",")]
    if not all(ids):
        raise UsageError(f"gpus {gpus!r} is not none, all, or a list of ids like 0,1")
    return [DeviceRequest(device_ids=ids, capabilities=capabilities)]


def _identity(repository: Path) -> dict[str, Any]:
    """The user whose files the server may read: without capabilities, root is as any other.

    It is the user that runs tuner or, where that is root, the repository's owner.
    """
    if os.getuid() != 0:
        return {"user": f"{os.getuid()}:{os.getgid()}", "group_add": os.getgroups()}
    status = repository.stat()
    return {"user": f"{status.st_uid}:{status.st_gid}"}


def _pack(repository: Path, archive: Any) -> None:
    """Write a tar archive of the folder's content that every user may read; links are followed."""

    def readable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o111 else 0o644
        return entry

    try:
        with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
            tar.add(repository, arcname=".", filter=readable)
        archive.seek(0)
    except OSError as error:
        raise RepositoryError(f"cannot copy the model repository {repository}: {error}") from error


def _addresses(container: Any, network: str | None) -> list[Endpoints]:
    """Where the server can be reached, best first; empty while the engine has not set it up."""
    settings = container.attrs["NetworkSettings"]
    found = []
    address = settings["Networks"].get(network, {}).get("IPAddress") if network else None
    if address:
        found.append(Endpoints(*(f"{address}:{port}" for port in _PORTS.values())))
    ports = settings["Ports"] or {}
    published = [p[0]["HostPort"] for each in _PORTS.values() if (p := ports.get(f"{each}/tcp"))]
    if len(published) == len(_PORTS):
        found.append(Endpoints(*(f"{_LOOPBACK}:{port}" for port in published)))
    return found
