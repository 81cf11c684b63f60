"""CPU cores of the server, its Python stubs and the load generator."""

import os
from dataclasses import dataclass, field

from tuner.errors import UsageError
from tuner.text import shown
from tuner.units import whole_number

NONE, AUTO = "none", "auto"
_FEWEST = 4
"""Cores from which ``auto`` keeps them apart: with fewer, somebody lacks one. On two, nothing shows
that it helps (docs/benchmarks.md, "Cores of their own").
"""
_LAST_CORE = 99_999
"""Linux counts to 8,191."""
_MOST_CORES = 1_000_000
"""Written in one set, repeated ones included: it takes a tenth of a second."""
_FORMS = "none, auto, SERVER:LOAD or SERVER:STUBS:LOAD, such as 0-3:4-11:12-15"


@dataclass(frozen=True)
class Cores:
    """Core numbers as the system counts them; stubs may share the server's.

    ``stubs`` are the processes of Triton's Python backend, which compute the models in Python.
    """

    server: frozenset[int]
    stubs: frozenset[int]
    load: frozenset[int]

    @property
    def serving(self) -> frozenset[int]:
        """What is not the load generator's."""
        return self.server | self.stubs

    def of_worker(self, number: int) -> frozenset[int]:
        """The core of a load process, counted from 0. The lowest is left free, if it can be: tuner
        itself, which reads and judges, is not tied to a core.
        """
        cores = sorted(self.load)
        spare = cores[1:] or cores
        return frozenset({spare[number % len(spare)]})


@dataclass(frozen=True)
class Pin:
    """The value of ``--pin``; ``cores`` divides this machine; None: all share all cores."""

    text: str = NONE
    cores: Cores | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """UsageError if it is invalid, or a core is not available."""
        return cls(text, parse_cores(text))

    def __str__(self) -> str:
        return self.text


def parse_cores(text: str, available: frozenset[int] | None = None) -> Cores | None:
    """The value of ``--pin``; None: all share all cores. UsageError if a core is not available."""
    there = frozenset(os.sched_getaffinity(0)) if available is None else available
    if text == NONE:
        return None
    if text == AUTO:
        return _divide(sorted(there))
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise UsageError(f"--pin {shown(text)} is not valid; write {_FORMS}")
    sets = [_parse_set(part, text) for part in parts]
    server, stubs, load = sets[0], sets[-2], sets[-1]
    missing = sorted((server | stubs | load) - there)
    if missing:
        raise UsageError(f"--pin {shown(text)}: core {missing[0]} is not available")
    if load & (server | stubs):
        raise UsageError(
            f"--pin {shown(text)}: the load generator and the server must not share cores"
        )
    return Cores(server, stubs, load)


def _divide(cores: list[int]) -> Cores | None:
    """A quarter each for server and load generator, the rest for the stubs, which compute."""
    if len(cores) < _FEWEST:
        return None
    quarter = len(cores) // 4
    server, stubs, load = cores[:quarter], cores[quarter:-quarter], cores[-quarter:]
    return Cores(frozenset(server), frozenset(stubs), frozenset(load))


def _parse_set(part: str, text: str) -> frozenset[int]:
    """Cores as taskset takes them: ``0-3,8``."""
    cores: set[int] = set()
    written = 0
    for piece in part.split(","):
        first, _, rest = piece.partition("-")
        low, high = whole_number(first, _LAST_CORE), whole_number(rest or first, _LAST_CORE)
        written += 0 if low is None or high is None else high - low + 1
        if low is None or high is None or low > high or written > _MOST_CORES:
            raise UsageError(f"--pin {shown(text)} is not valid; write {_FORMS}")
        cores |= set(range(low, high + 1))
    return frozenset(cores)


def listed(cores: frozenset[int]) -> str:
    """As taskset and Docker take them."""
    return ",".join(map(str, sorted(cores)))


def run_on(cores: frozenset[int]) -> None:
    """For a process to call: run on these cores from now on; on any if there are none."""
    if cores:
        os.sched_setaffinity(0, cores)
