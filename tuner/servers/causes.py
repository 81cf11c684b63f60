"""Classifies failures by the messages of servers, frameworks and drivers."""

import re

from tuner.records.results import Cause

_NO_MEMORY = re.compile(
    r"out[ _]of[ _]memory|OutOfMemory|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED"
    r"|std::bad_alloc|failed to allocate|memory .*could not be allocated",
    re.IGNORECASE,
)
_NO_SHARED_MEMORY = re.compile(r"shared memory .*No space left on device")
_HARMLESS = re.compile(r"pinned|falling back", re.IGNORECASE)
"""Triton warns of memory that it can do without: the pool of pinned memory, for one."""
_KINDS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    (
        "died",
        re.compile(r"the server (was ended|ended with|stopped answering)|container was remov"),
    ),
    ("died", re.compile(r"no longer answers")),
    (
        "timed out",  # that of a start or a load; what answers nothing later on has died
        re.compile(
            r"(was not (live|ready)|did not answer repository/\S+/load|no answer) within [\d.e+]+ s"
        ),
    ),
    ("died", re.compile(r"did not answer \S+ within")),
    (
        "died",
        re.compile(r"(succeeded|failed): (the server closed the connection|\[Errno 1(04|11)\])"),
    ),
    ("died", re.compile(r"Stub process \S+ is not healthy")),  # the one that runs the model
    ("refused", re.compile(r"the server (refused|changed)")),
)


def cause_of(failure: str) -> Cause | None:
    """The cause of a failure, from its text; None if it is not a known kind.

    Memory may be named on any line, as in the log of a server that died of it. Everything else is
    recognized by the first line, which is tuner's own.
    """
    if out_of_memory(failure) is not None:
        return "out of memory"
    first = failure.partition("\n")[0]
    return next((cause for cause, pattern in _KINDS if pattern.search(first)), None)


def out_of_memory(text: str) -> str | None:
    """The line that says that memory, of the GPU or of the machine, was used up; None if none."""
    for line in text.splitlines():
        if _NO_SHARED_MEMORY.search(line):
            return line.strip()
        if _NO_MEMORY.search(line) and not _HARMLESS.search(line):
            return line.strip()
    return None


def lacks_shared_memory(text: str) -> bool:
    """Whether it was the memory that a server shares with its backends."""
    return _NO_SHARED_MEMORY.search(text) is not None
