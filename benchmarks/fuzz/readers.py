"""All readers of tuner, with valid inputs to begin with: for the benchmark and for the tests.

A reader gets the bytes of an input and a folder for files, and goes on with what it read as far as
tuner would before a server is started.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.fuzz import files, options, records, replies

Read = Callable[[bytes, Path], object]
_SLOW = ("command line", "documents", "spaces", "config.pbtxt", "weights", "manifests")
_SHARE = 0.2


@dataclass(frozen=True)
class Reader:
    """``words`` are parts that inputs are made of, besides those of ``seeds``. Of those that take
    milliseconds for an input, a ``share`` is read.
    """

    read: Read
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    share: float = 1.0


@cache
def readers() -> Mapping[str, Reader]:
    """By name. Reading the seeds takes a moment, so it is done when they are asked for."""
    found: dict[str, Reader] = {}
    for module in (options, files, records, replies):
        for name, (read, seeds, words) in module.READERS.items():
            share = _SHARE if name in _SLOW else 1.0
            found[name] = Reader(read, tuple(seeds), tuple(words), share)
    return found
