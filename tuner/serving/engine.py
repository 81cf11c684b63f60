"""What computes: a model in this process, or a Triton server elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tuner.model.signature import Arrays, Signature


class EngineUnavailable(Exception):
    """Nothing can be computed right now; the same request may succeed ``retry_after`` s later."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class EngineRefused(Exception):
    """The request itself is at fault; it would be refused again."""


class EngineFailed(Exception):
    """The server that computes, or the model on it, failed at this request by its own fault."""


class DeadlineExceeded(Exception):
    """No answer came within the request's time."""


@dataclass(frozen=True)
class Computed:
    """Outputs with the batch first; ``queue`` and ``infer`` are the seconds that it waited for its
    turn and was computed, as far as the engine knows by itself; else all of it is in ``infer``.
    """

    outputs: Arrays
    queue: float
    infer: float


class Engine(Protocol):
    """Started and closed by the service; ``infer`` may be called by many tasks at once."""

    async def start(self) -> Signature:
        """Load or connect; what the model takes. Called once, in the background of the service."""

    async def infer(self, inputs: Arrays, deadline: float | None) -> Computed:
        """``deadline`` is in seconds of ``time.monotonic``; None for no limit.

        Raises EngineUnavailable, EngineRefused, EngineFailed or DeadlineExceeded.
        """

    async def is_ready(self) -> bool:
        """Whether it could compute now; quick, and never raises."""

    async def close(self) -> None: ...


def split_rows(inputs: Arrays, rows: int, most: int) -> list[Arrays]:
    """Inputs of ``rows`` rows as parts of at most ``most``, in their order."""
    return [
        {name: array[start : start + most] for name, array in inputs.items()}
        for start in range(0, rows, most)
    ]


def join_rows(parts: Sequence[Arrays]) -> Arrays:
    """The parts' outputs, one after another along the batch."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
