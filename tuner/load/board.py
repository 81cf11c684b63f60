"""Memory shared by the parent and its workers: one row per request, written as it happens."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import StorageError
from tuner.stats.samples import Floats, Samples

PENDING, OK, FAILED = 0.0, 1.0, 2.0


class Board:
    """Columns ``intended``, ``sent``, ``done`` (seconds, monotonic clock, NaN for not yet) and
    ``status``, each of shape (rows,)."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.rows = rows
        table: Any = np.memmap(path, dtype=np.float64, mode="r+", shape=(4, rows))
        self.intended, self.sent, self.done, self.status = table

    @classmethod
    def create(cls, path: Path, rows: int) -> "Board":
        """A new board, empty; its memory is claimed at once, so that it cannot fail later."""
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 4 * rows * 8)
        except OSError as error:
            raise StorageError(
                f"cannot reserve space for {rows} samples in {path.parent}: {error.strerror}"
            ) from error
        board = cls(path, rows)
        board.intended[:] = board.sent[:] = board.done[:] = np.nan
        board.status[:] = PENDING
        return board

    def samples(self, start: float, until: float = np.inf) -> Samples:
        """Requests that were sent and planned before ``until``; times count from ``start``.

        One that is still without a reply counts as failed, so ask only for such whose bound has
        passed, or once the run is over.
        """
        count = self._sent_so_far()
        keep = self.intended[:count] <= until

        def relative(column: Any) -> Floats:
            return np.asarray(column[:count][keep] - start)

        return Samples(
            relative(self.intended),
            relative(self.sent),
            relative(self.done),
            np.asarray(self.status[:count][keep] == OK),
        )

    def _sent_so_far(self) -> int:
        """Rows are sent in order: where they end is found without reading them all."""
        low, high = 0, self.rows
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if np.isnan(self.sent[middle]) else (middle + 1, high)
        return low
