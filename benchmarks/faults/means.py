"""What some faults need of the machine."""

import os
import shutil
import subprocess

from benchmarks.faults.containers import IMAGE
from tuner.servers.docker_engine import image_present


def missing_for(needs: frozenset[str]) -> str | None:
    """What is not here of it; None where all is."""
    there = {"docker": _has_image, "mounts": _can_mount, "cc": lambda: shutil.which("cc")}
    otherwise = {
        "docker": f"no Docker engine with the image {IMAGE}; run tests/setup.sh",
        "mounts": "only root may mount, and not in every container",
        "cc": "no C compiler",
    }
    return next((otherwise[need] for need in sorted(needs) if not there[need]()), None)


def _has_image() -> bool:
    return image_present(IMAGE)


def _can_mount() -> bool:
    """In a namespace of its own, so that nothing is left of it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    words = ("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt")
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
