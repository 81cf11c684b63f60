"""A model in this process as an engine; each request is computed as it came, by itself.

What computes is a ``LocalModel``, of ONNX Runtime or PyTorch. Requests are not put together into
batches: that is what Triton does.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from tuner.errors import ModelConfigError, RepositoryError
from tuner.model.signature import Arrays, Signature, TensorSpec
from tuner.serving.compute_pool import ComputePool
from tuner.serving.engine import Computed, EngineRefused, join_rows, split_rows
from tuner.serving.shedding import Places


class LocalModel(Protocol):
    """Used from several threads at once, if it says so by ``concurrency``."""

    signature: Signature
    concurrency: int
    """How many computations at a time are worth while on its device."""

    def compute(self, inputs: Arrays) -> Arrays:
        """At most ``max_batch_size`` rows; or one item, if the model has no batch. Blocks.

        Raises EngineRefused if the inputs are at fault.
        """


class LocalEngine:
    """Loads in a thread; computes on ``concurrency`` threads, or as many as the model says.

    ``places`` are those of one thread, and become more with the others.
    """

    def __init__(
        self, load: Callable[[], LocalModel], concurrency: int | None, places: Places
    ) -> None:
        self._load = load
        self._concurrency = concurrency
        self._places = places
        self._model: LocalModel | None = None
        self._pool: ComputePool | None = None

    async def start(self) -> Signature:
        self._model = await asyncio.to_thread(self._load)
        threads = self._concurrency or self._model.concurrency
        self._pool = ComputePool(threads)
        self._places.most += threads - 1
        return self._model.signature

    async def infer(self, inputs: Arrays, deadline: float | None) -> Computed:
        assert self._model is not None
        assert self._pool is not None
        model = self._model
        outputs, queue, infer = await self._pool.run(lambda: compute_all(model, inputs), deadline)
        return Computed(outputs, queue, infer)

    async def is_ready(self) -> bool:
        return self._pool is not None

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


def compute_all(model: LocalModel, inputs: Arrays) -> Arrays:
    """Any number of rows, in the largest batches that the model takes, in their order; for a model
    without a batch dimension, its one item.
    """
    if not model.signature.batched:
        return model.compute(inputs)
    most = model.signature.max_batch_size
    rows = {len(array) for array in inputs.values()}
    if len(rows) != 1:
        raise EngineRefused(f"the inputs hold different numbers of items: {sorted(rows)}")
    count = rows.pop()
    if count <= most:
        return model.compute(inputs)
    return join_rows([model.compute(part) for part in split_rows(inputs, count, most)])


def share_of_cores(workers: int, threads: int | None) -> int:
    """Computations at a time of one among ``workers``, so that all their threads add up to the
    cores that this process may use; at least one.
    """
    return max(1, len(os.sched_getaffinity(0)) // (workers * (threads or 1)))


def zero_inputs(signature: Signature, specs: Sequence[TensorSpec]) -> Arrays | None:
    """The smallest inputs for a first computation; None if a size or a text is to be chosen."""
    if any(spec.datatype == "BYTES" or min(spec.dims, default=0) < 0 for spec in specs):
        return None
    batch = (1,) if signature.batched else ()
    return {spec.name: np.zeros((*batch, *spec.dims), spec.dtype) for spec in specs}


def newest_version(folder: Path) -> Path:
    """The version folder with the highest number, as Triton serves it; RepositoryError if none."""
    versions = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
    if not versions:
        raise RepositoryError(f"{folder} has no version; put the model's files into {folder / '1'}")
    return max(versions, key=lambda path: int(path.name))


def check_names(kind: str, configured: set[str], existing: set[str], source: Path) -> None:
    """ModelConfigError if config.pbtxt names a tensor that the model itself does not have."""
    missing = sorted(configured - existing)
    if missing:
        raise ModelConfigError(
            f"{source} has no {kind} {', '.join(missing)}, which config.pbtxt names; "
            f"it has {', '.join(sorted(existing))}"
        )
