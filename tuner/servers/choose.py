"""Chooses the launcher that an experiment names, or the best one on this machine."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tuner.cores import Cores
from tuner.errors import LauncherUnavailable, UsageError
from tuner.servers import embedded, local
from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import Endpoints, Launcher
from tuner.servers.container_spec import ContainerSpec
from tuner.servers.local import LocalLauncher

LauncherKind = Literal["docker", "local", "attached"]
_SOCKET = Path("/var/run/docker.sock")


def choose(wanted: str, image: str, url: str | None) -> LauncherKind:
    """``auto``: the endpoint at ``url`` if there is one; else Docker if an engine answers and has
    the image; else a local server.
    """
    match wanted:
        case "docker" | "local" | "attached":
            return wanted
        case "auto":
            if url is not None:
                return "attached"
            if _docker_has(image):
                return "docker"
            if local.is_available():
                return "local"
            raise LauncherUnavailable(
                f"there is no Triton to launch. The embedded one: {embedded.remedy()}. Or start a "
                f"Docker engine and get the image: docker pull {image}. Or attach to a running "
                "server: --launcher attached --url HOST:8000"
            )
    raise UsageError(f"unknown launcher {wanted!r}; choose auto, docker, local or attached")


def make_launcher(
    kind: LauncherKind, container: ContainerSpec, endpoints: Endpoints | None, cores: Cores | None
) -> Launcher:
    """``container`` holds also what local servers need: environment and arguments; its ``gpus`` may
    be ``auto``, and its cores are those of ``cores``. ``endpoints`` are those to attach to.
    """
    match kind:
        case "docker":
            from tuner.servers.docker import DockerLauncher
            from tuner.servers.docker_engine import offers_gpus

            gpus = container.gpus
            if gpus == "auto":
                gpus = "all" if offers_gpus() else "none"
            serving = cores.serving if cores else frozenset()
            return DockerLauncher(replace(container, gpus=gpus, cores=serving))
        case "local":
            return LocalLauncher(container.server_args, container.environment, cores)
        case "attached":
            if endpoints is None:
                raise UsageError(
                    "--launcher attached needs the address of the HTTP service: add --url HOST:PORT"
                )
            return AttachedLauncher(endpoints)


def _docker_has(image: str) -> bool:
    """Whether an engine answers and has the image. Docker's package takes a while to import: where
    no address is given and there is no socket, there is no engine to ask.
    """
    if not os.environ.get("DOCKER_HOST") and not _SOCKET.exists():
        return False
    from tuner.servers.docker_engine import engine_answers, image_present

    return engine_answers() and image_present(image)
