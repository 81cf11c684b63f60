"""Servers as Docker containers, each hardened, on addresses of this machine alone, and removed.

Where tuner and the engine see the same files, the repository is mounted read-only. If they do not
(tuner runs in a container and has the engine's socket), it is copied once per launcher into a
volume, which servers get read-only.

Requests go to ports published on loopback, or, where tuner itself runs in a container, to the
server's own address on the network that both share. A published port may pass through a proxy
process of the engine; what that costs (about 0.1 ms) is part of what is measured.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig

from tuner.cores import listed
from tuner.errors import CandidateError, LauncherUnavailable, RepositoryError
from tuner.interrupts import held_back
from tuner.model.files import is_public
from tuner.servers.base import Launcher, Server, ServerSpec, wait_until
from tuner.servers.container_spec import ContainerSpec, check_gpu_ids
from tuner.servers.docker_container import LOOPBACK, PORTS, DockerServer
from tuner.servers.docker_engine import (
    ENGINE_ERRORS,
    OWNER_LABEL,
    ContainerOwner,
    connect,
    engine_errors,
    ensure_image,
    fresh_name,
    maps_users,
    own_container,
    own_network,
    remove_leftovers,
)
from tuner.servers.docker_repository import MODELS, RepositoryMounts
from tuner.servers.protection import Protection
from tuner.servers.settings import DOCKER, LAUNCH

__all__ = ["ContainerSpec", "DockerLauncher"]
_NOBODY = 65534
_APART = {"com.docker.network.bridge.enable_icc": "false"}
"""Containers of the network do not reach each other."""


class DockerLauncher(Launcher):
    """Starts each server in a container of its own and removes it, whatever happens.

    Where tuner runs in a container, servers join its first network, and a copied repository does
    not follow later changes of its files. Elsewhere they get a network of their own. Containers,
    volumes and networks of tuner processes that have ended are removed at the start.
    """

    name = "docker"

    def __init__(self, spec: ContainerSpec) -> None:
        self._spec = spec
        devices = device_requests(spec.gpus)
        self._client = connect()
        try:
            with engine_errors("cannot prepare the Docker engine"):
                self._own = own_container(self._client)
                self._owner = ContainerOwner.here(self._own.id if self._own else "")
                self._network = own_network(self._own)
                self._maps_users = maps_users(self._client)
                memory = spec.memory_limit or _memory_share(self._client)
                remove_leftovers(self._client, self._owner)
            ensure_image(self._client, spec.image)
        except BaseException:
            self._client.close()
            raise
        copies = spec.transfer == "copy" or (spec.transfer == "auto" and self._own is not None)
        self._mounts = RepositoryMounts(self._client, spec.image, self._owner.text(), copies)
        self._options = {**_common_options(spec, memory), "device_requests": devices}
        self._apart: Any = None  # the network of its servers
        self._apart_lock = threading.Lock()

    def gpus(self) -> str:
        if self._own is not None and self._spec.gpus != "all" and "-" not in self._spec.gpus:
            return "none"  # in a container GPUs may be numbered anew
        return self._spec.gpus

    def describe(self) -> Mapping[str, str]:
        with engine_errors("cannot describe the image"):
            image = self._client.images.get(self._spec.image)
            digests = image.attrs.get("RepoDigests") or []
            return {
                "launcher": self.name,
                "image": self._spec.image,
                "image_id": str(image.id),
                **({"image_digest": str(digests[0])} if digests else {}),
                "engine": f"Docker {self._client.version()['Version']}",
            }

    def close(self) -> None:
        try:
            self._mounts.close()
        finally:
            if self._apart is not None:
                with contextlib.suppress(*ENGINE_ERRORS):  # else the next start removes it
                    self._apart.remove()
            self._client.close()

    @contextmanager
    def launch(self, spec: ServerSpec) -> Iterator[Server]:
        name = fresh_name()
        try:
            yield self._start(spec, name)
        except CandidateError:  # an engine that is gone may be what failed it, and is then raised
            self._discard(name, spec.log)
            raise
        except BaseException:
            with contextlib.suppress(LauncherUnavailable):  # what came first is what counts
                self._discard(name, spec.log)
            raise
        self._discard(name, spec.log)

    def _start(self, spec: ServerSpec, name: str) -> DockerServer:
        repository = spec.repository.resolve()
        if not repository.is_dir():
            raise RepositoryError(f"the model repository {repository} is not a folder")
        protection = Protection(spec.opens)
        for attempt in range(1, LAUNCH.port_attempts + 1):
            try:
                with engine_errors(f"cannot start a server of the image {self._spec.image}"):
                    container = self._create(spec, repository, name, protection)
                    container.start()
                break
            except LauncherUnavailable as error:
                if attempt == LAUNCH.port_attempts or not self._may_succeed(error):
                    raise
                self._discard(name, spec.log)
        server = DockerServer(container, spec.log, self._network, self._own is None, protection)
        server.endpoints = wait_until(
            server, server.find_live_endpoints, spec.startup_timeout, "the server was not live"
        )
        server.save_log()
        return server

    def _may_succeed(self, error: LauncherUnavailable) -> bool:
        """Whether another attempt may: a port was taken, or files have to be copied from now on."""
        text = str(error)
        unseen = "bind source path does not exist" in text
        if unseen and self._spec.transfer != "mount" and not self._mounts.copies:
            self._mounts.copies = True
            return True
        return "already allocated" in text or "already in use" in text

    def _create(self, spec: ServerSpec, repository: Path, name: str, protection: Protection) -> Any:
        command = [
            "tritonserver",
            f"--model-repository={MODELS}",
            "--model-control-mode=explicit",
            *(f"--{service}-address=0.0.0.0" for service in PORTS),
            *(f"--{service}-port={port}" for service, port in PORTS.items()),
            "--allow-metrics=true",
            f"--metrics-interval-ms={LAUNCH.metrics_interval}",
            f"--exit-timeout-secs={LAUNCH.exit_timeout}",
            *protection.arguments(),
            *self._spec.server_args,
            *spec.server_args,
        ]
        identity, private = {}, False
        if not self._maps_users:
            uid, gid, groups = _identity(repository)
            identity = {"user": f"{uid}:{gid}", "group_add": groups}
            private = uid == _NOBODY and not is_public(repository)
            if private and self._spec.transfer == "mount":
                raise RepositoryError(
                    f"{repository} belongs to root and is not readable by other users, and the "
                    "server does not run as root. Make it readable (chmod -R o+rX), or let "
                    "tuner copy the files"
                )
        return self._client.containers.create(
            self._spec.image,
            command,
            name=name,
            labels={OWNER_LABEL: self._owner.text()},
            mounts=self._mounts.mounts(repository, spec.model, private),
            **identity,
            **self._wiring(),
            **self._options,
        )

    def _wiring(self) -> dict[str, Any]:
        if self._network is not None:
            return {"network": self._network}
        with self._apart_lock:
            if self._apart is None or not _is_there(self._apart):
                labels = {OWNER_LABEL: self._owner.text()}
                self._apart = self._client.networks.create(
                    fresh_name(), driver="bridge", options=_APART, labels=labels
                )
        ports = {f"{port}/tcp": (LOOPBACK, None) for port in PORTS.values()}
        return {"network": self._apart.name, "ports": ports}

    def _discard(self, name: str, log: Path) -> None:
        """Kill the container, keep its log, and remove it with its volumes."""
        with held_back(), engine_errors(f"cannot remove the container {name}"):
            try:
                container = self._client.containers.get(name)
            except NotFound:
                return
            try:
                with contextlib.suppress(APIError):  # it has ended
                    container.kill()
                DockerServer(container, log).save_log()
            finally:
                _remove(container)


def _is_there(network: Any) -> bool:
    """Whether nobody has removed it, as ``docker network prune`` does between two servers."""
    try:
        network.reload()
    except NotFound:
        return False
    return True


def _memory_share(client: Any) -> int | None:
    """Bytes that a server may use where nobody says; None if the engine does not tell."""
    total = client.info().get("MemTotal")
    return int(DOCKER.memory_share * total) if total else None


def _common_options(spec: ContainerSpec, memory: int | None) -> dict[str, Any]:
    """Options of the engine that are the same for all servers: limits, hardening, environment."""
    invisible = {"NVIDIA_VISIBLE_DEVICES": "void"} if spec.gpus == "none" else {}
    log_limits = {"max-size": DOCKER.log_size, "max-file": DOCKER.log_files}
    return {
        "shm_size": spec.shm_size,
        "pids_limit": spec.pids_limit,
        "mem_limit": memory,
        "memswap_limit": memory,
        **({"cpuset_cpus": listed(spec.cores)} if spec.cores else {}),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # exec: packed Python environments
        "log_config": LogConfig(type=LogConfig.types.JSON, config=log_limits),
        # Servers run under a user id without a name or a home; libraries ask for both.
        "environment": {"HOME": "/tmp", "USER": "tuner", **invisible, **spec.environment},
    }


def _remove(container: Any) -> None:
    """With its volumes; somebody else may be about to, or have done so."""
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise


def device_requests(gpus: str) -> list[DeviceRequest]:
    if gpus == "none":
        return []
    capabilities = [["gpu"]]
    if gpus == "all":
        return [DeviceRequest(count=-1, capabilities=capabilities)]
    return [DeviceRequest(device_ids=check_gpu_ids(gpus), capabilities=capabilities)]


def _identity(repository: Path) -> tuple[int, int, list[int]]:
    """User, group and further groups whose files the server may read.

    It is the user that runs tuner or, where that is root, the repository's owner; never root: a
    flaw of the engine or the kernel would make it root outside.
    """
    if os.getuid() != 0:
        return os.getuid(), os.getgid(), os.getgroups()
    status = repository.stat()
    if status.st_uid == 0:
        return _NOBODY, _NOBODY, []
    return status.st_uid, status.st_gid, []
