"""What all containers of a launcher have in common; apart from them, since Docker's package is slow
to import.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tuner.errors import UsageError
from tuner.experiment.model import DEFAULT_IMAGE
from tuner.text import shown

Transfer = Literal["auto", "mount", "copy"]
GPU_IDS = "ids such as 0,1 (indices), GPU-… (UUIDs) or MIG-… (slices)"
"""The forms that Docker, NVML and CUDA_VISIBLE_DEVICES accept, for messages."""

_GPU_ID = re.compile(r"[0-9]+(:[0-9]+)?|(GPU|MIG)-[\w/-]+")


def check_gpu_ids(gpus: str) -> list[str]:
    """The ids of ``--gpus``, empty for auto, all and none; UsageError if they have no such form."""
    if gpus in ("auto", "all", "none"):
        return []
    ids = [gpu.strip() for gpu in gpus.split(",")]
    if not all(map(_GPU_ID.fullmatch, ids)):
        raise UsageError(f"--gpus {shown(gpus)} is not valid; write auto, all, none, or {GPU_IDS}")
    return ids


@dataclass(frozen=True)
class ContainerSpec:
    """``gpus`` is ``none``, ``all`` or a list of ids like ``0,1``. ``transfer`` says how servers
    get the repository: ``auto`` copies it where tuner itself runs in a container. ``cores`` may be
    empty for any.
    """

    image: str = DEFAULT_IMAGE
    gpus: str = "none"
    shm_size: int = 2**30
    """Bytes of /dev/shm: Docker's own 64 MiB are too few for the Python backend's tensors."""
    memory_limit: int | None = None
    """Bytes; None is nine tenths of the memory of the engine's machine."""
    pids_limit: int = 4096
    """Threads, as the engine counts them: far above what Triton starts, below what harms others."""
    environment: Mapping[str, str] = field(default_factory=dict)
    server_args: tuple[str, ...] = ()
    transfer: Transfer = "auto"
    cores: frozenset[int] = frozenset()
