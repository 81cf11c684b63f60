"""What is here, what is missing, and how to get it."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from tuner.errors import LauncherUnavailable
from tuner.load import perf_analyzer
from tuner.resources import bundled
from tuner.servers import embedded
from tuner.servers.docker_engine import engine_answers, image_present, offers_gpus
from tuner.servers.gpu import Gpus
from tuner.serving.supervise import missing_packages
from tuner.version import __version__

_LAUNCHERS = ("embedded Triton", "tritonserver on the PATH", "Triton image")


@dataclass(frozen=True)
class Finding:
    """One thing looked for; ``remedy`` says how to get it where it is missing, ``needed`` whether
    tuner cannot do without.
    """

    name: str
    there: bool
    detail: str
    remedy: str = ""
    needed: bool = False


def examine(image: str) -> list[Finding]:
    return list(_findings(image))


def can_launch(findings: list[Finding]) -> bool:
    """Whether some launcher works here."""
    return any(finding.there for finding in findings if finding.name in _LAUNCHERS)


def _findings(image: str) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("tuner", True, f"{__version__} on Python {python}")
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        "processor cores",
        cores >= 2,
        f"{cores} to use",
        "client and server share one core; figures will be low and noisy",
        needed=True,
    )
    path = shutil.which("tritonserver")
    yield Finding(
        "tritonserver on the PATH", path is not None, path or "", "not needed with another launcher"
    )
    yield from _embedded()
    yield _services()
    yield _perf_analyzer()
    answers = engine_answers()
    yield Finding(
        "Docker engine",
        answers,
        "answers" if answers else "does not answer",
        "install Docker and start its engine; DOCKER_HOST may name another",
    )
    has_image = answers and image_present(image)
    yield Finding("Triton image", has_image, image, f"docker pull {image}")
    gpus = list(_gpus())
    yield from gpus
    if gpus[0].there and answers:
        remedy = "install the NVIDIA Container Toolkit"
        yield Finding("GPUs in Docker", offers_gpus(), "", remedy, needed=True)
    samples = sorted(p.parent.name for p in bundled("model_repository").glob("*/config.pbtxt"))
    yield Finding("sample models", bool(samples), ", ".join(samples), needed=True)
    presets = sorted(p.stem for p in bundled("search_spaces").glob("*.yaml"))
    yield Finding("search spaces", bool(presets), ", ".join(presets), needed=True)


def _embedded() -> Iterator[Finding]:
    there = embedded.is_installed()
    yield Finding(
        "embedded Triton",
        there,
        f"nvidia-pytriton {metadata.version('nvidia-pytriton')}" if there else "",
        embedded.remedy(),
    )
    runtime = importlib.util.find_spec("onnxruntime") is not None
    yield Finding(
        "ONNX Runtime for it",
        runtime,
        metadata.version("onnxruntime") if runtime else "",
        "pip install 'triton-tuner[local]'",
    )


def _services() -> Finding:
    missing = missing_packages()
    version = "" if missing else f"FastAPI {metadata.version('fastapi')}"
    detail = f"{', '.join(missing)} not installed" if missing else version
    return Finding("tuner serve, compare", not missing, detail, "pip install 'triton-tuner[serve]'")


def _perf_analyzer() -> Finding:
    remedy = f"needed for --load-engine perf_analyzer only; name it in {perf_analyzer.VARIABLE}"
    path = perf_analyzer.find()
    if path is None:
        return Finding("perf_analyzer", False, "", remedy)
    try:
        return Finding("perf_analyzer", True, f"{perf_analyzer.version(path)}, {path}")
    except LauncherUnavailable as error:
        return Finding("perf_analyzer", False, str(error), remedy)


def _gpus() -> Iterator[Finding]:
    """The GPUs first; then what limits what can be read of them, and what they are worth."""
    with Gpus("all") as gpus:
        about, notes = gpus.describe(), gpus.notes()
    if not about:
        what, remedy = "none seen", "models run on the processor"
        if notes:
            what, remedy = notes[0].what, notes[0].remedy
        yield Finding("NVIDIA GPU", False, what, remedy)
        return
    memory = f" with {about['gpu_memory']}" if "gpu_memory" in about else ""
    yield Finding(
        "NVIDIA GPU",
        True,
        f"{about['gpu_count']} × {about['gpu']}{memory}, driver {about['gpu_driver']}",
    )
    yield from (
        Finding("GPU fit to measure on", False, n.what, n.remedy, needed=True) for n in notes
    )
