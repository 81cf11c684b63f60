"""The launcher that an experiment asks for, or the best one that this machine has."""

from dataclasses import replace
from typing import Literal

from tuner.cores import Cores
from tuner.errors import LauncherUnavailable, UsageError
from tuner.servers import local
from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import Endpoints, Launcher
from tuner.servers.docker import ContainerSpec, DockerLauncher
from tuner.servers.docker_engine import engine_answers, image_present, offers_gpus
from tuner.servers.local import LocalLauncher

LauncherKind = Literal["docker", "local", "attached"]


def choose(wanted: str, image: str, url: str | None) -> LauncherKind:
    """``auto``: the endpoint at ``url`` if there is one; else Docker where an engine answers and
    has the image; else a local server.
    """
    match wanted:
        case "docker" | "local" | "attached":
            return wanted
        case "auto":
            if url is not None:
                return "attached"
            if engine_answers() and image_present(image):
                return "docker"
            if local.is_available():
                return "local"
            raise LauncherUnavailable(
                "there is no Triton to launch. Either install the embedded one: "
                "pip install 'triton-tuner[local]'; or start a Docker engine and get the image: "
                f"docker pull {image}; or attach to a running server: --launcher attached --url "
                "HOST:8000"
            )
    raise UsageError(f"launcher {wanted!r} is none of auto, docker, local, attached")


def make_launcher(
    kind: LauncherKind, container: ContainerSpec, endpoints: Endpoints | None, cores: Cores | None
) -> Launcher:
    """``container`` holds also what local servers need: environment and arguments; its ``gpus`` may
    be ``auto``, and its cores are those of ``cores``. ``endpoints`` are those to attach to.
    """
    match kind:
        case "docker":
            gpus = container.gpus
            if gpus == "auto":
                gpus = "all" if offers_gpus() else "none"
            serving = cores.serving if cores else frozenset()
            return DockerLauncher(replace(container, gpus=gpus, cores=serving))
        case "local":
            return LocalLauncher(container.server_args, container.environment, cores)
        case "attached":
            if endpoints is None:
                raise UsageError("--launcher attached needs --url HOST:PORT of the HTTP service")
            return AttachedLauncher(endpoints)
