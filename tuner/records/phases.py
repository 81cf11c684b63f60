"""How long each phase of a run took, as seconds of wall time that add up over its sessions."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from tuner.records.results import Record

Phase = Literal[
    "start", "calibration", "simulation", "trials", "confirmation", "verification", "report"
]
Part = Literal["launches", "warm_up"]
PHASES: tuple[Phase, ...] = get_args(Phase)
PARTS: tuple[Part, ...] = get_args(Part)


class TimeBudget(Record):
    """Seconds of each phase of a run; phases do not overlap.

    ``start`` lasts until the first server is launched: imports, load processes, Optuna's study.
    ``simulation`` is that of the space, ``trials`` is the rest of a search, or what ``tuner
    measure`` measures. ``verification`` is the test of a recommended or given rate. ``launches``
    (until servers answered an inference, changes in place included) and ``warm_up`` are parts of
    these phases.
    """

    start: float = 0.0
    calibration: float = 0.0
    simulation: float = 0.0
    trials: float = 0.0
    confirmation: float = 0.0
    verification: float = 0.0
    report: float = 0.0
    launches: float = 0.0
    warm_up: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of all phases together."""
        return sum(seconds for _, seconds in self.phases())

    def phases(self) -> list[tuple[Phase, float]]:
        """Seconds by phase, in the order of a run."""
        return [(name, getattr(self, name)) for name in PHASES]

    @classmethod
    def sum(cls, budgets: Iterable["TimeBudget"]) -> "TimeBudget":
        """The sum of all phases."""
        known = list(budgets)
        return cls(**{n: sum(getattr(b, n) for b in known) for n in (*PHASES, *PARTS)})


class PhaseClock:
    """Counts the seconds of each phase of a run, for one process.

    ``enter`` begins the next phase; ``phase`` is one inside of it, whose seconds count for it
    alone. Before the first phase and after ``stop`` nothing counts.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._stack: list[Phase] = []
        self._seconds = dict.fromkeys((*PHASES, *PARTS), 0.0)

    def enter(self, phase: Phase, since: float | None = None) -> None:
        """End the phase before and begin this one; it began at ``since`` (monotonic clock)."""
        self._settle()
        self._stack = [phase]
        if since is not None:
            self._since = since

    def stop(self) -> None:
        self._settle()
        self._stack = []

    @property
    def current(self) -> Phase | None:
        """The phase at hand."""
        return self._stack[-1] if self._stack else None

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """A phase within the one at hand, which goes on afterwards."""
        self._settle()
        outer, self._stack = self._stack, [*self._stack, phase]
        try:
            yield
        finally:
            self._settle()
            self._stack = outer

    @contextmanager
    def part(self, part: Part) -> Iterator[None]:
        """A part of whatever phase is at hand."""
        began = self._now()
        try:
            yield
        finally:
            self._seconds[part] += self._now() - began

    def take(self) -> TimeBudget:
        """The seconds since the last call."""
        self._settle()
        budget = TimeBudget.model_validate(self._seconds)
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        return budget

    def _settle(self) -> None:
        now = self._now()
        if self._stack:
            self._seconds[self._stack[-1]] += now - self._since
        self._since = now
