"""What all containers of a launcher have in common; apart from them, since Docker's package is slow
to import.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tuner.experiment.model import DEFAULT_IMAGE

Transfer = Literal["auto", "mount", "copy"]
GPU_IDS = "ids such as 0,1 (indices), GPU-… (UUIDs) or MIG-… (slices)"
"""The forms that Docker, NVML and CUDA_VISIBLE_DEVICES accept, for messages."""


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
