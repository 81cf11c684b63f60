"""Who is told what happens while a command runs; ``tuner.cli`` has views that print it."""

from typing import Protocol

from tuner.deployments.subjects import Subject
from tuner.measurement.draft import Phase
from tuner.measurement.session import Progress
from tuner.records.comparison import Swap
from tuner.records.results import Evaluation, ProbeRecord
from tuner.records.run import Run


class Audience(Progress, Protocol):
    """``known`` are the evaluations of earlier sessions, if a run is resumed; ``notes`` say what
    limits the worth of all that follows.
    """

    def begins(self, run: Run, about: str, known: list[Evaluation], notes: list[str]) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...

    def search_ended(self, reason: str, confirms: bool) -> None: ...


class Watcher(Audience, Protocol):
    """Who is told what happens in a comparison."""

    def swapping(self, title: str, rate: float) -> None: ...

    def swapped(self, swap: Swap) -> None: ...


class Silent:
    """A watcher that keeps everything to itself."""

    def begins(self, run: Run, about: str, known: list[Evaluation], notes: list[str]) -> None: ...

    def launching(self, subject: Subject, phase: Phase) -> None: ...

    def turning(self, subject: Subject, number: int) -> None: ...

    def leaving(self, subject: Subject) -> None: ...

    def verifying(self, subject: Subject, rate: float) -> None: ...

    def probing(self, what: str, rate: float | None) -> None: ...

    def probed(self, record: ProbeRecord) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...

    def search_ended(self, reason: str, confirms: bool) -> None: ...

    def noted(self, note: str) -> None: ...

    def swapping(self, title: str, rate: float) -> None: ...

    def swapped(self, swap: Swap) -> None: ...
