"""Until when work may take: one clock for all that wait on behalf of a run."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tuner.errors import OutOfTime

OUT_OF_TIME = "the time limit came before it was measured"


class Deadline:
    """A moment by which all has to be done; there is none until one is set."""

    def __init__(self) -> None:
        self._at = math.inf

    def set(self, seconds: float) -> None:
        """It is so many seconds from now; +inf: there is none."""
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self._at - time.monotonic())

    def bound(self, seconds: float) -> float:
        """So many seconds, or those that are left."""
        return min(seconds, self.left)

    def require(self, seconds: float = 0.0) -> None:
        """OutOfTime unless more than so many seconds are left."""
        if self.left <= seconds:
            raise OutOfTime(OUT_OF_TIME)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """At most so many seconds for what is done meanwhile."""
        before = self._at
        self._at = min(before, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._at = before
