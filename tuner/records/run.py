"""A run: a folder of records, how they are written and read.

It holds ``experiment.yaml``, ``study.db``, ``evaluations.jsonl`` (one line per evaluation, appended
and flushed), ``windows.jsonl`` (what service times are fitted to), ``times.jsonl`` (seconds of
each phase since the line before), ``outcome.json`` (how the search ended), ``probes/`` (raw
samples), ``logs/``, ``winner/``, ``report.html``.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

import yaml
from pydantic import ValidationError

from tuner.documents import (
    LIMITS,
    MALFORMED,
    fault,
    lines_of,
    opened,
    parse_yaml,
    read_bytes,
    read_text,
)
from tuner.errors import DocumentError, RunError, StorageError, UsageError, write_remedy
from tuner.experiment.fields import RECORDED
from tuner.records.manifest import (
    MANIFESTS,
    CompareManifest,
    GateManifest,
    Manifest,
    MeasureManifest,
    SearchManifest,
)
from tuner.records.migration import migrate
from tuner.records.phases import PhaseClock, TimeBudget
from tuner.records.results import FORMAT, Evaluation, Outcome, Record, Window
from tuner.text import shortened

_MANIFEST_SIZE = 8 << 20
"""Bytes: the largest accepted space, with its ranges written out, has fewer."""


class Run:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.experiment_file = folder / "experiment.yaml"
        self.evaluations_file = folder / "evaluations.jsonl"
        self.windows_file = folder / "windows.jsonl"
        self.times_file = folder / "times.jsonl"
        self.outcome_file = folder / "outcome.json"
        self.study_file = folder / "study.db"
        self.logs = folder / "logs"
        self.probes = folder / "probes"
        self.winner = folder / "winner"
        self.report = folder / "report.html"
        self.clock = PhaseClock()
        self._lock: TextIO | None = None

    @classmethod
    def create(cls, folder: Path, manifest: Manifest | None = None) -> "Run":
        """A new run's folder with its manifest; StorageError if that cannot be."""
        run = cls(folder)
        run.make_folders()
        if run.experiment_file.exists():
            raise StorageError(f"another tuner process has just started a run in {folder}")
        if manifest:
            run.describe(manifest)
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An existing run; RunError if the folder is none."""
        run = cls(folder)
        if not os.path.isfile(run.experiment_file):  # Path.is_file raises at odd names
            raise RunError(
                f"{shortened(str(folder))} is not a run folder: it has no experiment.yaml; "
                "'tuner list' shows runs"
            )
        return run

    def make_folders(self) -> None:
        """Those for logs and samples, where they are missing; StorageError if that cannot be."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for each in (self.logs, self.probes):
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(cannot_write(self.folder, error)) from error

    def lock(self) -> bool:
        """Claim the run for this process; False if another one is at work on it."""
        if self._lock is None:
            try:
                self._lock = (self.folder / ".lock").open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.unlock()
                return False
            except OSError as error:
                raise StorageError(cannot_write(self.folder, error)) from error
        return True

    def unlock(self, finished: bool = False) -> None:
        """Let go of the run. Nobody claims one again that is finished: it keeps no trace."""
        if self._lock is not None:
            if finished:
                with contextlib.suppress(OSError):
                    Path(self._lock.name).unlink()
            self._lock.close()
            self._lock = None

    def manifest(self) -> SearchManifest | MeasureManifest | CompareManifest | GateManifest:
        """What ``experiment.yaml`` says, also in a form of earlier versions; RunError if it cannot
        be read.
        """
        file = self.experiment_file
        try:
            text = read_text(file, _MANIFEST_SIZE)
            content = parse_yaml(text, 2 * _MANIFEST_SIZE).content
        except DocumentError as error:
            raise RunError(f"cannot read {file}: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{file} does not contain an experiment")
        try:
            return MANIFESTS.validate_python(migrate(content), context=RECORDED)
        except ValidationError as error:
            raise RunError(f"{file}: {fault(error)}") from error
        except (UsageError, *MALFORMED) as error:
            raise RunError(f"{file}: {_first_line(error)}") from error

    def describe(self, manifest: Manifest) -> None:
        """Put what is known by now in the place of ``experiment.yaml``."""
        content = manifest.model_dump(mode="json", exclude_none=True)
        try:
            text = yaml.safe_dump(content, sort_keys=False)
            write_text(self.experiment_file, text, private=True)
        except OSError as error:
            raise StorageError(cannot_write(self.folder, error)) from error

    def append(self, evaluation: Evaluation) -> None:
        """Add a record and flush it to disk, so that a killed run keeps it. With it goes
        the time that passed.
        """
        _append(self.evaluations_file, [evaluation])
        self.append_times()

    def append_times(self) -> None:
        """Add the seconds of each phase since they were last added."""
        budget = self.clock.take()
        if budget.total:
            _append(self.times_file, [budget])

    def time_budget(self) -> TimeBudget | None:
        """The seconds of each phase, of all sessions; None in runs of before they were counted."""
        known = list(_read(self.times_file, TimeBudget))
        return TimeBudget.sum(known) if known else None

    def append_windows(self, windows: list[Window]) -> None:
        """Add what a server showed while it was kept busy."""
        if windows:
            _append(self.windows_file, windows)

    def evaluations(self) -> list[Evaluation]:
        """All records in order; a last line that a kill cut short is left out."""
        return list(_read(self.evaluations_file, Evaluation))

    def write_outcome(self, outcome: Outcome) -> None:
        try:
            text = outcome.model_dump_json(indent=1) + "\n"
            write_text(self.outcome_file, text, private=True)
        except OSError as error:
            raise StorageError(cannot_write(self.outcome_file, error)) from error

    def outcome(self) -> Outcome | None:
        """How the search ended; None if it has not yet, or nothing is known of it."""
        if not self.outcome_file.exists():
            return None
        try:
            return Outcome.model_validate_json(read_bytes(self.outcome_file))
        except DocumentError as error:
            raise RunError(f"cannot read {self.outcome_file}: {error}") from error
        except ValidationError as error:
            raise RunError(f"{self.outcome_file}: {fault(error)}") from error

    def windows(self) -> list[Window]:
        """All windows in order; none in runs of before there were any."""
        return list(_read(self.windows_file, Window))


R = TypeVar("R", bound=Record)


def _append(path: Path, records: Sequence[Record]) -> None:
    lines = b"".join(record.model_dump_json().encode() + b"\n" for record in records)
    try:
        with open(path, "ab+", opener=_private) as file:
            _drop_cut_line(file)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(cannot_write(path, error)) from error


def _read(path: Path, kind: type[R]) -> Iterator[R]:
    """The records of a file, line by line; a last line without an end is left out."""
    if not path.exists():
        return
    try:
        with opened(path) as file:
            for number, line in enumerate(lines_of(file, LIMITS.record), 1):
                if line.endswith(b"\n"):
                    yield _record(kind, line, f"{path}:{number}")
    except DocumentError as error:
        raise RunError(f"cannot read {path}: {error}") from error


def _record(kind: type[R], line: bytes, where: str) -> R:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise RunError(f"{where}: {_unreadable(line, error)}") from error
    except (UsageError, *MALFORMED) as error:
        raise RunError(f"{where}: {_first_line(error)}") from error


def _unreadable(line: bytes, error: ValidationError) -> str:
    number = re.search(rb'"format":(\d{1,9})\b', line)
    if number is not None and int(number[1]) != FORMAT:
        found = int(number[1])
        return f"a record of format {found}; this version of tuner reads format {FORMAT}"
    return (
        f"not a record of format {FORMAT}: {fault(error)}; remove the line to continue without it"
    )


def _drop_cut_line(file: BinaryIO) -> None:
    """Shorten a file of lines to its last whole one: a kill may have cut the next."""
    file.seek(0)
    whole = file.read().rfind(b"\n") + 1
    file.truncate(whole)
    file.seek(whole)


def _private(path: str, flags: int) -> int:
    """For ``open``: what is made, only its owner may read."""
    return os.open(path, flags, 0o600)


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Write a whole file or none of it: a new file takes the old one's place at the end."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "w", encoding="utf-8", opener=_private if private else None) as file:
            file.write(text)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _first_line(error: Exception) -> str:
    return shortened((str(error) or type(error).__name__).partition("\n")[0])


def cannot_write(path: Path, error: OSError) -> str:
    """The message for a file or folder of a run that cannot be written."""
    remedy = write_remedy(error, "choose another --output")
    return f"cannot write {path}: {error.strerror}; {remedy}"
