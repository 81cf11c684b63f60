"""The deadline of a run: one clock for everything that waits on its behalf."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tuner.errors import OutOfTime

OUT_OF_TIME = "the time limit was reached before it was measured"


class Deadline:
    """The time by which everything must be done; none until one is set."""

    def __init__(self) -> None:
        self._at = math.inf

    def set(self, seconds: float) -> None:
        """Set it to this number of seconds from now; +inf: no deadline."""
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self._at - time.monotonic())

    def bound(self, seconds: float) -> float:
        """This number of seconds, or those that are left if fewer."""
        return min(seconds, self.left)

    def require(self, seconds: float = 0.0) -> None:
        """OutOfTime unless more than this number of seconds is left."""
        if self.left <= seconds:
            raise OutOfTime(OUT_OF_TIME)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Allow at most this number of seconds for what is done in the context."""
        before = self._at
        self._at = min(before, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._at = before
