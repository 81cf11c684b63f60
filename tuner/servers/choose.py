"""The launcher that an experiment asks for, or the best one that this machine has."""

from collections.abc import Mapping
from typing import Literal

from tuner.cores import Cores
from tuner.errors import LauncherUnavailable, UsageError
from tuner.servers import local
from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import Endpoints, Launcher
from tuner.servers.docker import DockerLauncher
from tuner.servers.docker_engine import engine_answers, image_present, offers_gpus
from tuner.servers.local import LocalLauncher

Kind = Literal["docker", "local", "attached"]


def choose(wanted: str, image: str, url: str | None) -> Kind:
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
    kind: Kind,
    *,
    image: str,
    gpus: str,
    shm_size: int,
    environment: Mapping[str, str],
    server_args: tuple[str, ...],
    endpoints: Endpoints | None,
    cores: Cores | None = None,
) -> Launcher:
    """``endpoints`` are those of the server to attach to."""
    match kind:
        case "docker":
            if gpus == "auto":
                gpus = "all" if offers_gpus() else "none"
            return DockerLauncher(
                image=image,
                gpus=gpus,
                shm_size=shm_size,
                environment=environment,
                server_args=server_args,
                cores=cores.serving if cores else frozenset(),
            )
        case "local":
            return LocalLauncher(server_args, environment, cores)
        case "attached":
            if endpoints is None:
                raise UsageError("--launcher attached needs --url HOST:PORT of the HTTP service")
            return AttachedLauncher(endpoints)
