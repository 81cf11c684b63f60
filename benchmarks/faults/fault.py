"""A fault: what it does, when, and what may come of it."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from benchmarks.faults.place import LOCAL, Place
from benchmarks.faults.session import Session
from tuner.records.results import Cause

INTERRUPTED, MISSING, USAGE, OK = 130, 3, 2, 0
"""Exit codes of tuner."""
KILLED = -9


@dataclass(frozen=True)
class Moment:
    """At random within ``spread`` seconds of what the command says first of this ``line``; of its
    start where that is empty.
    """

    line: str
    spread: float

    def wait(self, session: Session, rng: random.Random) -> None:
        """Missed where the command ends before."""
        session.await_line(self.line)
        session.sleep(rng.uniform(0.0, self.spread))


STARTED = Moment("", 2.5)
AT_WORK = Moment(r"\] run ", 1.0)
CALIBRATING = Moment(r"\] calibrating", 4.0)
LAUNCH = Moment(r"\] trial ", 0.3)
TRIAL = Moment(r"\] trial ", 5.0)
REPORT = Moment(r"\] search ended", 0.7)
ROUND = Moment(r"\] round ", 3.0)
ANY = (STARTED, AT_WORK, TRIAL, REPORT)
SEARCHING = (AT_WORK, TRIAL, REPORT)


@dataclass
class Scene:
    """One fault in the doing. What a strike sees go wrong is ``seen``."""

    place: Place
    rng: random.Random
    session: Session | None = None
    seen: list[str] = field(default_factory=list)
    at: float = 0.0
    """When it was done (monotonic clock)."""

    @property
    def command(self) -> Session:
        """The command that runs."""
        assert self.session is not None, "this is done before the command starts"
        return self.session


Strike = Callable[[Scene], AbstractContextManager[None]]
"""Entered at the moment; left once the command has ended, to repair what was broken."""


@contextmanager
def nothing(_: Place) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Fault:
    """``does`` says it in words.

    It is done at one of ``moments``, or before the command starts if there are none. The command
    ends within ``limit`` seconds of it with one of the ``codes``; other codes than 0 are told in
    words that match ``says``. Evaluations may fail for one of the ``causes`` in words that match
    ``why``; with ``fails``, at least one of them does. ``setting`` is around all of it.

    ``kind`` says what is run: a search, or a comparison.
    """

    name: str
    does: str
    strike: Strike
    moments: tuple[Moment, ...] = (TRIAL,)
    codes: tuple[int, ...] = (OK,)
    says: str = ""
    causes: tuple[Cause | None, ...] = ()
    why: str = ""
    fails: bool = False
    limit: float = 60.0
    setting: Callable[[Place], AbstractContextManager[None]] = nothing
    words: tuple[str, ...] = ()
    """More of the command line."""
    launcher: tuple[str, ...] = LOCAL
    kind: str = "search"
    trials: int = 3
    """Of which two are on record; the last one may be over before it is struck."""
    needs: frozenset[str] = frozenset()
    """Of ``docker``, ``mounts`` and ``cc``."""
