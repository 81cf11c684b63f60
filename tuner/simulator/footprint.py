"""How much memory a candidate needs, fitted to what servers held; and which do not fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.model.space import MAX_BATCH_SIZE
from tuner.records.results import Window

GPU_MEMORY = "gpu_memory"
READ: dict[str, Callable[[Window], int | None]] = {
    "memory": lambda window: window.memory,
    GPU_MEMORY: lambda window: window.gpu_memory,
}


@dataclass(frozen=True)
class Footprint:
    """Bytes: of the server, of each instance, and of each item of an instance's largest batch; of
    GPU memory, on each device.
    """

    quantity: str
    base: float
    per_instance: float
    per_item: float

    @classmethod
    def fit(cls, windows: Sequence[Window], quantity: str) -> "Footprint | None":
        """Least squares with no part below zero; None if nothing was read on two counts of
        instances, so that an instance's share is not known.
        """
        from scipy.optimize import nnls  # slow to import: a first server is launched meanwhile

        seen = [(w, value) for w in windows if (value := READ[quantity](w)) is not None]
        counts = [_share(quantity, w.instances, w.devices) for w, _ in seen]
        if len(set(counts)) < 2:
            return None
        rows = [(1.0, n, n * _largest(w)) for n, (w, _) in zip(counts, seen, strict=True)]
        values = np.array([value for _, value in seen], dtype=float)
        scale = np.max(rows, axis=0)
        parts, _ = nnls(np.array(rows) / scale, values)
        return cls(quantity, *(float(part) for part in parts / scale))

    def of(self, instances: int, devices: int, largest: int) -> float:
        """Bytes that so many instances in all, on so many devices, with batches up to ``largest``
        need.
        """
        count = _share(self.quantity, instances, devices)
        return self.base + count * (self.per_instance + largest * self.per_item)


def fits(
    windows: Sequence[Window], limits: Mapping[str, float], sizes: Sequence[tuple[int, int, int]]
) -> list[bool]:
    """Of each triple of instances, devices and largest batch, whether it keeps all limits (bytes by
    quantity) as far as is known.
    """
    known = [(Footprint.fit(windows, quantity), limit) for quantity, limit in limits.items()]
    return [
        all(footprint is None or footprint.of(*size) <= limit for footprint, limit in known)
        for size in sizes
    ]


def _share(quantity: str, instances: int, devices: int) -> float:
    return instances / devices if quantity == GPU_MEMORY else instances


def _largest(window: Window) -> int:
    largest = window.settings.get(MAX_BATCH_SIZE)
    return largest if isinstance(largest, int) else 1
