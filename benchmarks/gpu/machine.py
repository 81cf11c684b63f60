"""What the figures were measured on."""

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from tuner.commands.workplace import processor
from tuner.servers.gpu import Gpus
from tuner.version import __version__

PACKAGES = ("torch", "nvidia-pytriton", "tritonclient", "optuna", "numpy", "uvloop")


def has_gpu() -> bool:
    """Whether PyTorch can compute on a GPU here."""
    return torch.cuda.is_available()


def may_have_gpu() -> bool:
    """Whether there is one, even if PyTorch cannot use it: then something is to be mended."""
    driver = shutil.which("nvidia-smi") is not None or Path("/dev/nvidiactl").exists()
    return has_gpu() or driver


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, Any]:
    """Hardware and versions; ``gpu`` is there only where PyTorch can use one."""
    about: dict[str, Any] = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "tuner": __version__,
        **{name: _version(name) for name in PACKAGES},
    }
    if has_gpu():
        with Gpus("all") as gpus:
            about["cuda"] = torch.version.cuda
            about |= {"gpu": "a GPU that NVML does not know"} | gpus.describe()
            about["notes"] = [str(note) for note in gpus.notes()]
    return about
