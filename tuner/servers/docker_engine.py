"""The Docker engine: the way to it, what it refuses, and to whom the things in it belong.

Everything tuner creates there carries a label that names the process it belongs to.
"""

import contextlib
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from tuner.errors import LauncherUnavailable
from tuner.servers.settings import DOCKER

OWNER_LABEL = "io.tuner.owner"
ENGINE_ERRORS = (DockerException, requests.RequestException)
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_LOCAL_HOSTS = ("localhost", "localunixsocket", "127.0.0.1", "::1")


def engine_answers() -> bool:
    """Whether a Docker engine is there (``DOCKER_HOST`` or the default socket); never raises."""
    try:
        with contextlib.closing(_client(DOCKER.probe)) as client:
            return bool(client.ping())
    except ENGINE_ERRORS:
        return False


def image_present(image: str) -> bool:
    """Whether an engine is there and has the image; never raises."""
    try:
        with contextlib.closing(_client(DOCKER.probe)) as client:
            client.images.get(image)
            return True
    except ENGINE_ERRORS:
        return False


def connect() -> Any:
    """A client; LauncherUnavailable if no engine answers, or it is on another machine."""
    try:
        client = _client(DOCKER.call)
    except ENGINE_ERRORS as error:
        raise LauncherUnavailable(
            f"no Docker engine answers at {_host()} ({_message(error)}); start one with "
            "'systemctl start docker' or 'dockerd', check the permissions of its socket, or "
            "choose another --launcher"
        ) from error
    host = urlsplit(client.api.base_url).hostname
    if host not in _LOCAL_HOSTS:
        client.close()
        raise LauncherUnavailable(
            f"the Docker engine at {_host()} is on another machine, and its loopback ports "
            "cannot be reached from here; run tuner on that machine, or attach to a running "
            "server"
        )
    return client


def _host() -> str:
    return os.environ.get("DOCKER_HOST") or _DEFAULT_HOST


def _client(timeout: int) -> Any:
    """``docker.from_env``, which leaves a socket open where nobody answers; so knock first."""
    host = _host()
    if host.startswith("unix://"):
        try:
            with socket.socket(socket.AF_UNIX) as knock:
                knock.settimeout(timeout)
                knock.connect(host.removeprefix("unix://"))
        except OSError as error:
            raise DockerException(error.strerror or str(error)) from error
    return docker.from_env(timeout=timeout)


def ensure_image(client: Any, image: str) -> None:
    """Pull the image if it is not there; LauncherUnavailable if that fails."""
    try:
        try:
            client.images.get(image)
        except ImageNotFound:
            client.images.pull(image)
    except ENGINE_ERRORS as error:
        raise LauncherUnavailable(
            f"the image {image} is not on this machine and cannot be pulled ({_message(error)}); "
            "choose a local image with --image, load this one with 'docker load', or choose "
            "another --launcher"
        ) from error


def maps_users(client: Any) -> bool:
    """Whether user ids in containers are others than outside, as in a rootless engine."""
    options = client.info().get("SecurityOptions") or []
    return any("rootless" in option or "userns" in option for option in options)


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn what the engine or the way to it refuses into LauncherUnavailable."""
    try:
        yield
    except ENGINE_ERRORS as error:
        message = _message(error)
        hint = ""
        if "could not select device driver" in message:
            hint = "; install the NVIDIA container toolkit, or use --gpus none"
        elif "address pools have been fully subnetted" in message or "non-overlapping" in message:
            hint = "; remove unused networks with 'docker network prune'"
        elif "executable file not found" in message:
            hint = (
                "; the image has no tritonserver on its PATH, so choose a Triton image with --image"
            )
        elif "bind source path does not exist" in message:
            hint = "; the engine does not see this file system, so the repository must be copied"
        raise LauncherUnavailable(f"{doing}: {message}{hint}") from error


def _message(error: Exception) -> str:
    """The engine's own words, without the request around them."""
    if isinstance(error, APIError) and error.explanation:
        return str(error.explanation)
    return str(error)


def fresh_name() -> str:
    """A name for a container or volume of this process."""
    return f"tuner-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class ContainerOwner:
    """The tuner process that a container or volume belongs to.

    A process is the same only if its id, start (ticks since boot), id namespace and boot agree.
    """

    boot: str
    namespace: str
    pid: int
    start: int
    container: str

    @classmethod
    def here(cls, container: str = "") -> "ContainerOwner":
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
        pid = os.getpid()
        return cls(boot, namespace, pid, _start_ticks(pid) or 0, container)

    def text(self) -> str:
        return " ".join((self.boot, self.namespace, str(self.pid), str(self.start), self.container))

    @classmethod
    def parse(cls, text: str) -> "ContainerOwner | None":
        match = re.fullmatch(r"(\S+) (\S+) (\d+) (\d+) (\S*)", text)
        return cls(match[1], match[2], int(match[3]), int(match[4]), match[5]) if match else None

    def is_gone(self, here: "ContainerOwner", client: Any) -> bool:
        """Whether the process has certainly ended, as far as it can be told from ``here``."""
        if self.boot != here.boot:
            return True
        if self.namespace == here.namespace:
            return _start_ticks(self.pid) != self.start
        if not self.container:
            return False
        try:
            return bool(client.containers.get(self.container).status != "running")
        except NotFound:
            return True


def remove_leftovers(client: Any, here: ContainerOwner) -> None:
    """Remove the containers, volumes and networks of tuner processes that have ended. What cannot
    be removed now, since somebody else is about to, is left to the next start.
    """
    labelled = {"label": OWNER_LABEL}
    for container in client.containers.list(all=True, filters=labelled, ignore_removed=True):
        if _is_left_over(container.labels, here, client):
            with contextlib.suppress(APIError):
                container.remove(force=True, v=True)
    for volume in client.volumes.list(filters=labelled):
        if _is_left_over(volume.attrs.get("Labels") or {}, here, client):
            with contextlib.suppress(APIError):
                volume.remove(force=True)
    for network in client.networks.list(filters=labelled):
        if _is_left_over(network.attrs.get("Labels") or {}, here, client):
            with contextlib.suppress(APIError):
                network.remove()


def _is_left_over(labels: Mapping[str, str], here: ContainerOwner, client: Any) -> bool:
    owner = ContainerOwner.parse(labels.get(OWNER_LABEL, ""))
    return owner is not None and owner.is_gone(here, client)


def own_container(client: Any) -> Any:
    """The container that tuner itself runs in, if this engine runs it; else None.

    The engine mounts files of its own over a container's /etc/hostname, from a folder named by the
    container's id.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in mounts.splitlines():
        source, target = line.split()[3:5]
        folder = re.search(r"/([0-9a-f]{64})/", source) if target == "/etc/hostname" else None
        if folder:
            with contextlib.suppress(NotFound):
                return client.containers.get(folder[1])
    return None


def own_network(own: Any) -> str | None:
    """The network to join so that a server can be reached; None if ports are published."""
    if own is None:
        return None
    networks = [str(name) for name in own.attrs["NetworkSettings"]["Networks"]]
    if networks == ["host"]:
        return None
    if not networks or networks == ["none"]:
        raise LauncherUnavailable(
            "tuner runs in a container without a network, so it cannot reach any server; start "
            "the container with a network"
        )
    return networks[0]


def _start_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def offers_gpus() -> bool:
    """Whether an engine is there and can give NVIDIA GPUs to containers; never raises."""
    try:
        with contextlib.closing(_client(DOCKER.probe)) as client:
            info = client.info()
    except ENGINE_ERRORS:
        return False
    devices = info.get("DiscoveredDevices") or []
    return "nvidia" in (info.get("Runtimes") or {}) or any("nvidia" in str(d) for d in devices)
