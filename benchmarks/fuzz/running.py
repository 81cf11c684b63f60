"""One reader with many inputs: what it raised, how long it took, how much memory."""

import contextlib
import mmap
import os
import resource
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz.inputs import make
from benchmarks.fuzz.readers import Reader
from tuner.errors import TunerError

LONGEST_MESSAGE = 8000
"""Characters of an error: a screen or two, though twenty lines may be wrong in one file."""
_KEPT = 20
"""Failures that are told of one reader; others of their kind are counted."""
_PROGRESS = struct.Struct("<q")


class TooSlow(BaseException):
    """An input took longer than it may; no reader catches it."""


@dataclass(frozen=True)
class Failure:
    """What went wrong with an input; ``place`` is where it was raised."""

    number: int
    kind: str
    message: str
    place: str


@dataclass
class Outcome:
    """``refused`` of ``inputs`` were errors of tuner's own; ``slowest`` is in seconds of the
    processor, of the input ``slowest_number``; ``peak`` and ``at_start`` are bytes of the process.
    """

    inputs: int = 0
    refused: int = 0
    foreign: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_number: int = 0
    at_start: int = 0
    peak: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add(self, failure: Failure) -> None:
        """Count a failure, and keep it if it is the first of its kind."""
        self.foreign += 1
        known = any(
            (each.kind, each.place) == (failure.kind, failure.place) for each in self.failures
        )
        if not known and len(self.failures) < _KEPT:
            self.failures.append(failure)


class Progress:
    """The number of the input at work, in a file that another process sees."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(_PROGRESS.pack(-1))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _PROGRESS.size)

    def set(self, number: int) -> None:
        _PROGRESS.pack_into(self._map, 0, number)

    def get(self) -> int:
        return int(_PROGRESS.unpack_from(self._map)[0])


def run(
    reader: Reader, seed: int, numbers: range, limit: float, progress: Progress | None = None
) -> Outcome:
    """Read these inputs, each in so many seconds of the processor at most."""
    outcome = Outcome(at_start=_memory())
    began = time.monotonic()
    with at_work() as folder:
        for number in numbers:
            if progress is not None:
                progress.set(number)
            raw = make(reader.seeds, reader.words, seed, number)
            since = time.process_time()
            failure, refused = _read(reader, raw, folder, number, limit)
            took = time.process_time() - since
            outcome.inputs += 1
            outcome.refused += refused
            if failure is not None:
                outcome.add(failure)
            if took > outcome.slowest:
                outcome.slowest, outcome.slowest_number = took, number
    outcome.seconds, outcome.peak = time.monotonic() - began, _memory()
    return outcome


def _read(
    reader: Reader, raw: bytes, folder: Path, number: int, limit: float
) -> tuple[Failure | None, bool]:
    """What went wrong, if anything, and whether the input was refused as it should be."""
    try:
        with _within(limit):
            reader.read(raw, folder)
    except TunerError as error:
        message = str(error)
        if len(message) > LONGEST_MESSAGE:
            kind = f"a message of more than {LONGEST_MESSAGE:,} characters"
            return _failure(number, kind, error), True
        return None, True
    except (Exception, TooSlow) as error:  # noqa: BLE001  that there is none is what is measured
        return _failure(number, type(error).__name__, error), False
    return None, False


def _failure(number: int, kind: str, error: BaseException) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/tuner/" in frame.filename] or frames[-1:]
    frame = own[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
    return Failure(number, kind, str(error)[:200], place)


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """TooSlow after so much of the processor's time: that of others does not count."""

    def expire(*_: Any) -> None:
        raise TooSlow(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGPROF, expire)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def at_work() -> Iterator[Path]:
    """An empty folder to be in, with a cache of its own."""
    before, cache = Path.cwd(), os.environ.get("XDG_CACHE_HOME")
    shared = Path("/dev/shm")  # no disk has to write a hundred thousand files
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        os.chdir(name)
        os.environ["XDG_CACHE_HOME"] = str(Path(name) / "cache")
        try:
            yield Path(name)
        finally:
            os.chdir(before)
            os.environ.pop("XDG_CACHE_HOME")
            if cache is not None:
                os.environ["XDG_CACHE_HOME"] = cache


def _memory() -> int:
    """The most bytes that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
