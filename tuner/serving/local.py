"""A model in this process as an engine; each request is computed as it came, by itself.

What computes is a ``LocalModel``, of ONNX Runtime or PyTorch. Requests are not put together into
batches: that is what Triton does.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from tuner.errors import ModelConfigError, RepositoryError
from tuner.model.signature import Arrays, Signature
from tuner.serving.engine import Computed, EngineRefused
from tuner.serving.turns import Turns


class LocalModel(Protocol):
    """Used from several threads at once, where it says so by ``concurrency``."""

    signature: Signature
    concurrency: int
    """How many computations at a time are worth while on its device."""

    def compute(self, inputs: Arrays) -> Arrays:
        """At most ``max_batch_size`` rows; or one item, where the model has no batch. Blocks.

        Raises EngineRefused where the inputs are at fault.
        """


class LocalEngine:
    """Loads in a thread; computes on ``concurrency`` threads, or as many as the model says."""

    def __init__(
        self, load: Callable[[], LocalModel], concurrency: int | None = None, queue: int = 1024
    ) -> None:
        self._load = load
        self._concurrency = concurrency
        self._queue = queue
        self._model: LocalModel | None = None
        self._turns: Turns | None = None

    async def start(self) -> Signature:
        self._model = await asyncio.to_thread(self._load)
        self._turns = Turns(self._concurrency or self._model.concurrency, self._queue)
        return self._model.signature

    async def infer(self, inputs: Arrays, deadline: float | None) -> Computed:
        assert self._model is not None
        assert self._turns is not None
        model = self._model
        outputs, queue, infer = await self._turns.take(lambda: compute_all(model, inputs), deadline)
        return Computed(outputs, queue, infer)

    async def is_ready(self) -> bool:
        return self._turns is not None

    async def close(self) -> None:
        if self._turns is not None:
            self._turns.close()


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
    parts = [
        model.compute({name: array[first : first + most] for name, array in inputs.items()})
        for first in range(0, count, most)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def newest_version(folder: Path) -> Path:
    """The version folder with the highest number, as Triton serves it; RepositoryError if none."""
    versions = [each for each in folder.iterdir() if each.is_dir() and each.name.isdigit()]
    if not versions:
        raise RepositoryError(f"{folder} has no version; put the model's files into {folder / '1'}")
    return max(versions, key=lambda each: int(each.name))


def check_names(kind: str, asked: set[str], found: set[str], source: Path) -> None:
    """ModelConfigError where config.pbtxt names a tensor that the model itself does not have."""
    missing = sorted(asked - found)
    if missing:
        raise ModelConfigError(
            f"{source} has no {kind} {', '.join(missing)}, which config.pbtxt names; "
            f"it has {', '.join(sorted(found))}"
        )
