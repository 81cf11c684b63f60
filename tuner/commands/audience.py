"""Who is told what happens while a command runs; ``tuner.cli`` has views that print it."""

from typing import Protocol

from tuner.measure.session import Progress
from tuner.records.comparison import Swap
from tuner.records.results import Evaluation
from tuner.records.run import Run


class Audience(Progress, Protocol):
    """``notes`` say what limits the worth of all that follows."""

    def begins(self, run: Run, about: str, resumed: int, notes: list[str]) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...

    def search_ended(self, reason: str, confirms: bool) -> None: ...

    def noted(self, note: str) -> None:
        """What goes otherwise than planned."""


class Watcher(Audience, Protocol):
    """Who is told what happens in a comparison."""

    def swapping(self, title: str, rate: float) -> None: ...

    def swapped(self, swap: Swap) -> None: ...
