"""Containers, images, networks and the engine that go away under a search."""

import contextlib
import os
import secrets
import select
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound

from benchmarks.faults.fault import ANY, KILLED, MISSING, OK, Fault, Scene
from benchmarks.faults.place import Place
from benchmarks.faults.processes import killed
from tuner.servers.docker_engine import OWNER_LABEL

IMAGE = os.environ.get("TUNER_TEST_IMAGE", "tuner-test-triton:2.51.0")
DOCKER = ("--launcher", "docker", "--image", IMAGE, "--gpus", "none")
_SOCKET = "/var/run/docker.sock"
_NEEDS = frozenset({"docker"})


@contextmanager
def _engine() -> Iterator[Any]:
    with contextlib.closing(docker.from_env()) as client:
        yield client


def left_containers(pids: list[int]) -> list[str]:
    """Containers, volumes and networks of commands that have ended."""
    labelled = {"label": OWNER_LABEL}
    with _engine() as client:
        containers = client.containers.list(all=True, filters=labelled, ignore_removed=True)
        others = (*client.volumes.list(filters=labelled), *client.networks.list(filters=labelled))
        found = [each.name for each in (*containers, *others)]
    return [name for name in found if any(name.startswith(f"tuner-{pid}-") for pid in pids)]


def _await_container(scene: Scene, client: Any) -> Any:
    """The one that runs for the command."""
    while True:
        for each in client.containers.list(filters={"label": OWNER_LABEL}, ignore_removed=True):
            if each.name.startswith(f"tuner-{scene.command.pid}-"):
                return each
        scene.command.sleep(0.05)


@contextmanager
def _container_removed(scene: Scene) -> Iterator[None]:
    with _engine() as client:
        with contextlib.suppress(NotFound, APIError):  # tuner was about to do so itself
            _await_container(scene, client).remove(force=True)
        yield


@contextmanager
def _container_killed(scene: Scene) -> Iterator[None]:
    with _engine() as client:
        with contextlib.suppress(NotFound, APIError):
            _await_container(scene, client).kill()
        yield


@contextmanager
def _network_gone(scene: Scene) -> Iterator[None]:
    """The container is cut off, and the network that tuner made for it is removed."""
    with _engine() as client:
        container = _await_container(scene, client)
        with contextlib.suppress(NotFound, APIError):
            for name in container.attrs["NetworkSettings"]["Networks"]:
                network = client.networks.get(name)
                network.disconnect(container, force=True)
                network.remove()
        yield


@contextmanager
def _own_tag(place: Place) -> Iterator[None]:
    """The image has another name here, which can be taken away. What is gone on with knows it by
    this one, too.
    """
    name, tag = "tuner-faults", secrets.token_hex(4)
    place.launcher = tuple(f"{name}:{tag}" if word == IMAGE else word for word in place.launcher)
    place.renamed = {IMAGE: f"{name}:{tag}"}
    with _engine() as client:
        client.images.get(IMAGE).tag(name, tag=tag)
        try:
            yield
        finally:
            with contextlib.suppress(NotFound):
                client.images.remove(f"{name}:{tag}", force=True)


@contextmanager
def _image_gone(scene: Scene) -> Iterator[None]:
    (name,) = scene.place.renamed.values()
    with _engine() as client:
        client.images.remove(name, force=True)
        yield
        client.images.get(IMAGE).tag(*name.split(":"))


class Way:
    """A socket in front of the engine's own, so that one search can be cut off from an engine that
    others go on using.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open()

    def _open(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                theirs, _ = listener.accept()
                ours = socket.socket(socket.AF_UNIX)
                ours.connect(_SOCKET)
                self._pairs.append((theirs, ours))
                threading.Thread(target=_copy, args=(theirs, ours), daemon=True).start()

    def cut(self) -> None:
        """Nobody answers there any more, and who was being answered is hung up on."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self._path.unlink()
        for pair in self._pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def open_again(self) -> None:
        self._open()


def _copy(one: socket.socket, other: socket.socket) -> None:
    """Both ways, until one of them ends."""
    with one, other, contextlib.suppress(OSError):
        while True:
            for ready in select.select([one, other], [], [])[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                (other if ready is one else one).sendall(data)


@contextmanager
def _own_way(place: Place) -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="way-")  # a socket's path is short
    place.way = Way(Path(folder) / "engine")
    place.variables["DOCKER_HOST"] = f"unix://{folder}/engine"
    try:
        yield
    finally:
        place.way.cut()
        shutil.rmtree(folder)


@contextmanager
def _engine_restarted(scene: Scene) -> Iterator[None]:
    """As a restart does: containers end, and for a while nobody answers."""
    way = scene.place.way
    with _engine() as client:
        container = _await_container(scene, client)
        way.cut()
        with contextlib.suppress(NotFound, APIError):
            container.kill("SIGTERM")
    time.sleep(scene.rng.uniform(0.5, 5.0))
    way.open_again()
    yield


def _fault(name: str, does: str, strike: Any, **more: Any) -> Fault:
    usual = {"launcher": DOCKER, "needs": _NEEDS, "limit": 90.0}
    return Fault(name, does, strike, **{**usual, **more})


_ENDED = r"container was removed|SIGKILL|exit code \d|SIGTERM|closed the connection"

CONTAINERS = (
    _fault(
        "container-killed",
        "docker kill of the server's container",
        _container_killed,
        causes=("died",),
        why=_ENDED,
    ),
    _fault(
        "container-removed",
        "docker rm -f of the server's container",
        _container_removed,
        causes=("died",),
        why=_ENDED,
    ),
    _fault(
        "network-gone",
        "the network of the container is removed",
        _network_gone,
        causes=("died", None),
        why="did not answer|no reply arrived|stopped answering|requests failed|no request",
    ),
    _fault(
        "image-gone",
        "docker rmi -f of the image",
        _image_gone,
        codes=(MISSING, OK),
        says="(?i)no such image|is not here",
        setting=_own_tag,
    ),
    _fault(
        "engine-restarted",
        "the engine is away for up to 5 s, and its containers end",
        _engine_restarted,
        codes=(MISSING, OK),
        says="engine|container|image",
        causes=("died",),
        why=_ENDED,
        setting=_own_way,
    ),
    _fault(
        "docker-tuner-killed",
        "kill -9 of tuner, whose server is a container",
        killed("tuner"),
        moments=ANY,
        codes=(KILLED,),
    ),
)
