"""``gate.json`` in the folder of a run: the verdict on a change, and what it rests on."""

from enum import StrEnum
from typing import Literal

from pydantic import ValidationError

from tuner.documents import fault, read_bytes
from tuner.errors import DocumentError, RunError, StorageError
from tuner.records.results import Record
from tuner.records.run import Run, write_text

FILE = "gate.json"
OLD, NEW = "old", "new"
"""The names of the two versions, as those of deployments."""
Kind = Literal["revision", "folder", "run", "rate"]


class Verdict(StrEnum):
    """``INCONCLUSIVE`` is neither: what was measured does not tell."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Cause(StrEnum):
    """What a verdict rests on."""

    NOT_WORSE = "the ratio of capacities is surely above 1 - margin"
    WORSE = "the ratio is surely below 1, and most likely below 1 - margin"
    OPEN = "the interval of the ratio allows both"
    NEW_FAILED = "the new version does not run"
    OLD_FAILED = "the old version does not run"
    NEW_MISSES_SLA = "the new version meets the SLA at no rate, and the old one did"
    OLD_MISSES_SLA = "the old version meets the SLA at no rate, and the new one does"
    BOTH_MISS_SLA = "neither version meets the SLA at any rate"
    UNKNOWN = "too little was measured"
    RATE_MET = "the rate meets the SLA"
    RATE_VIOLATED = "the rate violates the SLA"
    RATE_OPEN = "the test of the rate was inconclusive"
    NO_BASELINE = "there is nothing to compare with"
    OTHER_MACHINE = "the baseline was measured on another machine"
    INTERRUPTED = "it was interrupted"


class GateRecord(Record):
    """``against`` is what the user gave, of this ``kind``; ``commit`` is that of a revision.

    ``ratio`` is new / old, with the interval that the verdict rests on after so many ``rounds``:
    over all looks together, either end is wrong with a probability of 5 %; None where there are no
    two capacities. ``rate`` (requests/s) is the one that was judged, ``unkept`` the files that git
    does not keep: both versions have today's. ``baseline`` is a stored capacity (requests/s).
    """

    format: Literal[1] = 1
    model: str
    sla: str
    kind: Kind
    against: str
    commit: str | None = None
    margin: float
    verdict: Verdict
    cause: Cause
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    rate: float | None = None
    baseline: float | None = None
    unkept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def write_gate(run: Run, record: GateRecord) -> None:
    """Write the whole file or nothing; StorageError if it cannot be written."""
    path = run.folder / FILE
    try:
        write_text(path, record.model_dump_json(indent=1) + "\n", private=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def read_gate(run: Run) -> GateRecord:
    """RunError if there is none, or this version cannot read it."""
    path = run.folder / FILE
    try:
        return GateRecord.model_validate_json(read_bytes(path))
    except ValidationError as error:
        raise RunError(f"{path}: not a gate in format 1: {fault(error)}") from error
    except DocumentError as error:
        raise RunError(f"cannot read {path}: {error}") from error
