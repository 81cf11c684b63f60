"""Arrivals replayed from a file: timestamps, or rates over stretches of time.

A replay is squeezed or stretched in time as a whole until its mean rate is the one asked for, so
that bursts keep their shape. It starts at a random point and goes round: after the end, from the
beginning again.
"""

import csv
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tuner.errors import UsageError
from tuner.load.arrivals.piecewise import RateProfile, Stretch
from tuner.stats.samples import Floats

_TIMES = ("timestamp", "time")
_RATES = ("seconds", "rate")
_WANTED = "name the columns in a header: timestamp, or seconds,rate"


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
    """The replay of a text or CSV file in UTF-8.

    Either seconds, one a line or in a column ``timestamp`` (or ``time``), in any order and from any
    origin; or rows of the columns ``seconds,rate``: lengths of stretches and requests/s in them.
    Empty lines and such that begin with # do not count. UsageError, with the line, for all else.
    """
    if not file:
        raise UsageError("--load 'trace:' names no file; write it like trace:requests.csv")
    content = _content(file)
    digest = hashlib.sha256(content).hexdigest()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"trace {file} is not text in UTF-8; {_WANTED}") from error
    if "\0" in text:
        raise UsageError(f"trace {file} is not text; {_WANTED}")
    rows = list(_rows(file, text))
    if not rows:
        raise UsageError(f"trace {file} is empty; give at least two requests, one time a line")
    columns, body = _columns(file, rows)
    if len(columns) == 1:
        times = np.array([_number(file, line, row, columns[0]) for line, row in body])
        return Timestamps(file, digest, _offsets(file, times))
    stretches = [_stretch(file, line, row, columns) for line, row in body]
    if not any(stretch.area > 0 for stretch in stretches):
        raise UsageError(f"trace {file} has no rate above zero")
    return Rates(file, digest, RateProfile(tuple(stretches)))


def _content(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the trace {file}: {error.strerror}") from error


def _rows(file: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, from 1, and fields."""
    reader = csv.reader(text.splitlines())
    try:
        for row in reader:
            fields = [cell.strip() for cell in row]
            if any(fields) and not fields[0].startswith("#"):
                yield reader.line_num, fields
    except csv.Error as error:
        raise UsageError(f"trace {file}, line {reader.line_num}: {error}") from error


def _columns(
    file: str, rows: list[tuple[int, list[str]]]
) -> tuple[tuple[int, ...], list[tuple[int, list[str]]]]:
    """Which columns count, one of times or two of seconds and rate, and the rows below a header."""
    line, first = rows[0]
    if all(_is_number(cell) for cell in first):
        if len(first) > 1:
            raise UsageError(f"trace {file} has {len(first)} columns without names; {_WANTED}")
        return (0,), rows
    names = [cell.lower() for cell in first]
    times = [i for i, name in enumerate(names) if name in _TIMES]
    rates = [names.index(name) for name in _RATES if name in names]
    if len(times) == 1 and len(rates) < 2:
        return (times[0],), rows[1:]
    if not times and len(rates) == 2:
        return tuple(rates), rows[1:]
    header = ",".join(first)[:80]
    raise UsageError(
        f"trace {file}, line {line}: {header!r} is neither a time in seconds nor a header that "
        f"says what the file holds; {_WANTED}"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(file: str, line: int, row: list[str], column: int) -> float:
    cell = row[column] if column < len(row) else ""
    try:
        number = float(cell)
    except ValueError as error:
        raise UsageError(f"trace {file}, line {line}: {cell!r} is not a number") from error
    if not math.isfinite(number) or number < 0:
        raise UsageError(f"trace {file}, line {line}: {cell} is not zero or a number above it")
    return number


def _offsets(file: str, times: Floats) -> Floats:
    if len(times) < 2:
        raise UsageError(
            f"trace {file} holds {len(times)} request{'s' * (len(times) != 1)}; "
            "a replay needs at least two"
        )
    ordered = np.sort(times)
    if ordered[0] == ordered[-1]:
        raise UsageError(f"trace {file}: all {len(times)} requests are at {ordered[0]:g} s")
    return np.asarray(ordered - ordered[0])


def _stretch(file: str, line: int, row: list[str], columns: tuple[int, ...]) -> Stretch:
    seconds, rate = (_number(file, line, row, column) for column in columns)
    if seconds == 0:
        raise UsageError(f"trace {file}, line {line}: a stretch must be longer than 0 s")
    return Stretch(rate, rate, seconds)
