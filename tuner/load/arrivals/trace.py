"""Arrivals replayed from a file: timestamps, or rates over stretches of time.

A replay is squeezed or stretched in time as a whole until its mean rate is the one asked for, so
that bursts keep their shape. It starts at a random point and goes round: after the end, from the
beginning again.
"""

import csv
import hashlib
import io
import itertools
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from tuner.documents import lines_of, opened
from tuner.errors import DocumentError, UsageError
from tuner.load.arrivals.piecewise import RateProfile, Stretch
from tuner.stats.samples import Floats
from tuner.text import shortened, shown

_TIMES = ("timestamp", "time")
_RATES = ("seconds", "rate")
_WANTED = "add a header with the columns: timestamp, or seconds,rate"


@dataclass(frozen=True)
class TraceLimits:
    """What a file may hold, and what keeps sums and ratios far from overflowing."""

    requests: int = 10_000_000
    """With their times sorted and repeated, some hundreds of megabytes."""
    stretches: int = 1_000_000
    """Eleven days of rates by the second."""
    line: int = 1 << 20
    """Characters of a line."""
    time: float = 1e24
    """The latest timestamp: also nanoseconds since 1970 are far below."""
    rate: float = 1e12
    """The highest rate, and the longest stretch in seconds."""
    least: float = 1e-9
    """Seconds of a stretch or of all requests together, or a rate, below which they are none."""


LIMITS = TraceLimits()


@dataclass(frozen=True)
class Timestamps:
    """Requests as they came; between the last and the first again lies a mean gap.

    ``offsets`` are seconds from the first request, ascending, shape (n,) with n >= 2.
    """

    path: str
    sha256: str
    offsets: Floats = field(compare=False, repr=False)

    @property
    def own_rate(self) -> float:
        return float((len(self.offsets) - 1) / self.offsets[-1])

    def least_seconds(self, rate: float) -> float:
        return len(self.offsets) / rate

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        count = len(self.offsets)
        period = count / self.own_rate
        start = rng.random() * period
        scale = self.own_rate / rate
        rounds = np.arange(math.ceil(duration / (period * scale)) + 1) * period
        times = (rounds[:, np.newaxis] + self.offsets).ravel() - start
        return np.asarray(times * scale)


@dataclass(frozen=True)
class Rates:
    """Poisson arrivals at the rates of a file; times follow from the seed, not from the file."""

    path: str
    sha256: str
    profile: RateProfile = field(compare=False, repr=False)

    @property
    def own_rate(self) -> float:
        requests = sum(stretch.area for stretch in self.profile.stretches)
        return float(requests / self.profile.seconds)

    def least_seconds(self, rate: float) -> float:
        return self.profile.seconds * self.own_rate / rate

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        return self.profile.times(rate, duration, self.least_seconds(rate), rng)


@dataclass(frozen=True)
class Trace:
    """A replay whose file is read on first use; UsageError then, if it is not there any more."""

    path: str

    @cached_property
    def replay(self) -> Timestamps | Rates:
        return read_trace(self.path)

    @property
    def own_rate(self) -> float:
        return self.replay.own_rate

    @property
    def sha256(self) -> str:
        return self.replay.sha256

    def least_seconds(self, rate: float) -> float:
        return self.replay.least_seconds(rate)

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        return self.replay.times(rate, duration, rng)


def read_trace(file: str) -> Timestamps | Rates:
    """The replay of a text or CSV file in UTF-8, which is read line by line.

    Either seconds, one a line or in a column ``timestamp`` (or ``time``), in any order and from any
    origin; or rows of the columns ``seconds,rate``: lengths of stretches and requests/s in them.
    Empty lines and such that begin with # do not count. UsageError, with the line, for all else.
    """
    if not file:
        raise UsageError("--load 'trace:' names no file; write it like trace:requests.csv")
    name = shortened(file)
    try:
        with opened(Path(file)) as raw:
            digested = _Digested(raw)
            text = io.TextIOWrapper(io.BufferedReader(digested), encoding="utf-8-sig")
            profile = _profile(name, _rows(name, text))
    except DocumentError as error:
        raise UsageError(f"cannot read the trace {name}: {error}; {_WANTED}") from error
    sha256 = digested.sha256.hexdigest()
    if isinstance(profile, RateProfile):
        return Rates(file, sha256, profile)
    return Timestamps(file, sha256, profile)


class _Digested(io.RawIOBase):
    """A file whose digest is taken as it is read; a pipe cannot be read twice."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self.sha256.update(content)
        buffer[: len(content)] = content
        return len(content)


def _profile(file: str, rows: Iterator[tuple[int, list[str]]]) -> Floats | RateProfile:
    """What the rows, which are read to their end, hold: offsets of requests, or rates."""
    first = next(rows, None)
    if first is None:
        raise UsageError(
            f"trace {file} is empty; it needs at least two requests, one time per line"
        )
    columns = _columns(file, *first)
    if _is_header(first[1]):
        first = None
    body = rows if first is None else itertools.chain([first], rows)
    if len(columns) == 1:
        times = array("d")
        for line, row in body:
            _check_count(file, len(times), LIMITS.requests, "requests")
            times.append(_number(file, line, row, columns[0], LIMITS.time))
        return _offsets(file, np.array(times))
    stretches: list[Stretch] = []
    for line, row in body:
        _check_count(file, len(stretches), LIMITS.stretches, "stretches")
        stretches.append(_stretch(file, line, row, columns))
    if not any(stretch.area > 0 for stretch in stretches):
        raise UsageError(f"trace {file} has no rate above zero")
    return RateProfile(tuple(stretches))


def _check_count(file: str, count: int, most: int, what: str) -> None:
    if count == most:
        raise UsageError(f"trace {file} has more than {most:,} {what}; use a part of it")


def _rows(file: str, text: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, from 1, and fields."""
    reader = csv.reader(_lines(file, text))
    try:
        for row in reader:
            fields = [cell.strip() for cell in row]
            if any(fields) and not fields[0].startswith("#"):
                yield reader.line_num, fields
    except csv.Error as error:
        raise UsageError(f"trace {file}, line {reader.line_num}: {error}") from error


def _lines(file: str, text: IO[str]) -> Iterator[str]:
    for line in lines_of(text, LIMITS.line):
        if "\0" in line:
            raise UsageError(f"trace {file} is not text; {_WANTED}")
        yield line


def _is_header(first: list[str]) -> bool:
    return not all(_is_number(cell) for cell in first)


def _columns(file: str, line: int, first: list[str]) -> tuple[int, ...]:
    """Which columns count: one of times, or two of seconds and rate."""
    if not _is_header(first):
        if len(first) > 1:
            raise UsageError(f"trace {file} has {len(first)} columns without names; {_WANTED}")
        return (0,)
    names = [cell.lower() for cell in first]
    times = [i for i, name in enumerate(names) if name in _TIMES]
    rates = [names.index(name) for name in _RATES if name in names]
    if len(times) == 1 and len(rates) < 2:
        return (times[0],)
    if not times and len(rates) == 2:
        return tuple(rates)
    header = ",".join(first)[:80]
    raise UsageError(
        f"trace {file}, line {line}: {header!r} is neither a time in seconds nor a header; "
        f"{_WANTED}"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(file: str, line: int, row: list[str], column: int, most: float) -> float:
    cell = row[column] if column < len(row) else ""
    try:
        number = float(cell)
    except ValueError as error:
        raise UsageError(f"trace {file}, line {line}: {shown(cell)} is not a number") from error
    if not math.isfinite(number) or number < 0:
        raise UsageError(f"trace {file}, line {line}: {shortened(cell)} must be zero or positive")
    if number > most:
        raise UsageError(
            f"trace {file}, line {line}: {shortened(cell)} exceeds {most:g}; use another unit"
        )
    return number


def _offsets(file: str, times: Floats) -> Floats:
    if len(times) < 2:
        raise UsageError(
            f"trace {file} holds {len(times):,} request{'s' * (len(times) != 1)}; "
            "a replay needs at least two"
        )
    times.sort()
    if times[-1] - times[0] < LIMITS.least:
        raise UsageError(f"trace {file}: all {len(times):,} requests are at {times[0]:g} s")
    times -= times[0]
    return times


def _stretch(file: str, line: int, row: list[str], columns: tuple[int, ...]) -> Stretch:
    seconds, rate = (_number(file, line, row, column, LIMITS.rate) for column in columns)
    if seconds < LIMITS.least:
        raise UsageError(f"trace {file}, line {line}: a step must be longer than 0 s")
    if rate < LIMITS.least:  # hardly one in thirty years
        rate = 0.0
    return Stretch(rate, rate, seconds)
