"""What is here, what is missing, and how to get it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from tuner import __version__
from tuner.resources import bundled
from tuner.servers import embedded
from tuner.servers.docker_engine import engine_answers, image_present, offers_gpus


@dataclass(frozen=True)
class Finding:
    """One thing looked for; ``remedy`` says how to get it where it is missing."""

    name: str
    there: bool
    detail: str
    remedy: str = ""


def examine(image: str) -> list[Finding]:
    return list(_findings(image))


def can_launch(findings: list[Finding]) -> bool:
    """Whether some launcher works here."""
    there = {finding.name for finding in findings if finding.there}
    return bool(there & {"embedded Triton", "tritonserver on the PATH", "Triton image"})


def _findings(image: str) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("tuner", True, f"{__version__} on Python {python}")
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        "processor cores",
        cores >= 2,
        f"{cores} to use",
        "client and server share one core; figures will be low and noisy",
    )
    path = shutil.which("tritonserver")
    yield Finding("tritonserver on the PATH", path is not None, path or "", "use one of the others")
    yield from _embedded()
    answers = engine_answers()
    yield Finding(
        "Docker engine",
        answers,
        "answers" if answers else "does not answer",
        "install Docker and start its engine; DOCKER_HOST may name another",
    )
    has_image = answers and image_present(image)
    yield Finding("Triton image", has_image, image, f"docker pull {image}")
    gpu = _gpu()
    yield Finding("NVIDIA GPU", gpu is not None, gpu or "none seen", "models run on the processor")
    if gpu and answers:
        yield Finding("GPUs in Docker", offers_gpus(), "", "install the NVIDIA Container Toolkit")
    samples = sorted(p.parent.name for p in bundled("model_repository").glob("*/config.pbtxt"))
    yield Finding("sample models", bool(samples), ", ".join(samples))
    presets = sorted(p.stem for p in bundled("search_spaces").glob("*.yaml"))
    yield Finding("search spaces", bool(presets), ", ".join(presets))


def _embedded() -> Iterator[Finding]:
    there = embedded.is_installed()
    yield Finding(
        "embedded Triton",
        there,
        f"nvidia-pytriton {metadata.version('nvidia-pytriton')}" if there else "",
        "pip install 'triton-tuner[local]'",
    )
    runtime = importlib.util.find_spec("onnxruntime") is not None
    yield Finding(
        "ONNX Runtime for it",
        runtime,
        metadata.version("onnxruntime") if runtime else "",
        "pip install 'triton-tuner[local]'",
    )


def _gpu() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        result = subprocess.run(
            [program, "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return "; ".join(result.stdout.strip().splitlines()) or None
