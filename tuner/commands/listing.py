"""The runs in a folder: what each was, what it found, and how to be rid of old ones."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuner.analysis.search_findings import GainVerdict, SearchFindings
from tuner.errors import RunError, StorageError, UnitError, UsageError
from tuner.records.manifest import CompareManifest, Manifest, SearchManifest
from tuner.records.run import Run
from tuner.units import parse_duration

_LONGEST_AGE = 1e10
"""Seconds: three centuries."""


@dataclass(frozen=True)
class Listed:
    """One run; ``capacity`` (requests/s) is the winner's, or what was measured; ``size`` is in
    bytes.
    """

    folder: Path
    kind: str
    model: str
    sla: str
    started: datetime
    state: str
    winner: str | None
    capacity: float | None
    gain: float | None
    size: int


def list_runs(output: Path) -> list[Listed]:
    """The newest first. A run whose records cannot be read is listed as damaged."""
    if not os.path.isdir(output):
        return []
    found = [_listed(Run(path)) for path in output.iterdir() if _is_run(path)]
    return sorted(found, key=lambda each: each.started, reverse=True)


def remove_runs(folders: list[Path]) -> None:
    """All or, if one of them is no run or another tuner works on it, none."""
    runs = [Run.open(folder) for folder in folders]
    try:
        for run in runs:
            if not _is_run(run.folder):
                raise RunError(f"{run.folder} is not a run folder of tuner")
            if not run.lock():
                raise StorageError(f"another tuner is at work on {run.folder}")
        for run in runs:
            _remove(run.folder)
    finally:
        for run in runs:
            run.unlock()


def chosen_runs(folders: list[Path], older_than: str | None, output: Path) -> list[Listed]:
    """Those that were named and, with ``older_than`` (as in ``30d``), all of ``output`` that began
    before. Of the latter, a run that another tuner works on is left out, and so is a damaged one:
    when it began is not known.
    """
    named = {folder.resolve(): folder for folder in folders}
    chosen = [_listed(Run.open(folder)) for folder in named.values()]
    if older_than is None:
        if not chosen:
            raise UsageError("name runs, or say --older-than 30d; 'tuner list' shows them")
        return chosen
    since = datetime.now(UTC) - timedelta(seconds=_age(older_than))
    return chosen + [
        each
        for each in list_runs(output)
        if each.started < since
        and each.state in ("finished", "unfinished")
        and each.folder.resolve() not in named
    ]


def _is_run(folder: Path) -> bool:
    """Other programs write a file of that name, too."""
    run = Run(folder)
    if not os.path.isfile(run.experiment_file):
        return False
    if run.probes.is_dir() and run.logs.is_dir():
        return True
    try:
        run.manifest()
    except RunError:
        return False
    return True


def _remove(folder: Path) -> None:
    try:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"cannot remove {folder}: {error.strerror or error}") from error


def _age(text: str) -> float:
    """Seconds, of ``30d`` or a duration."""
    try:
        if not text.endswith("d"):
            return parse_duration(text)
        seconds = 86_400 * float(text.removesuffix("d"))
        if not 0 <= seconds < _LONGEST_AGE:
            raise ValueError(text)
    except (ValueError, UnitError) as error:
        raise UsageError(f"--older-than {text!r} is not valid; write it like 30d or 12h") from error
    return seconds


def _listed(run: Run) -> Listed:
    size = _size(run.folder)
    changed = datetime.fromtimestamp(run.experiment_file.stat().st_mtime, UTC)
    try:
        manifest = run.manifest()
        winner, capacity, gain = _found(run, manifest)
        state = _state(run, manifest)
    except RunError:
        return Listed(run.folder, "?", "?", "?", changed, "damaged", None, None, None, size)
    return Listed(
        run.folder,
        manifest.kind,
        manifest.model_name,
        str(manifest.experiment.sla),
        _started(manifest.started) or changed,
        state,
        winner,
        capacity,
        gain,
        size,
    )


def _size(folder: Path) -> int:
    """Bytes; files come and go while a search runs."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _found(run: Run, manifest: Manifest) -> tuple[str | None, float | None, float | None]:
    """The winner, what it serves, and the gain as the report has it, if it is shown."""
    if isinstance(manifest, CompareManifest):
        return None, None, None
    if not isinstance(manifest, SearchManifest):
        measured = [each for each in run.evaluations() if each.phase == "measure"]
        return None, measured[-1].capacity if measured else None, None
    findings = SearchFindings.of(run)
    if findings.winner is None:
        return None, None, None
    gain = findings.gain if findings.gain_verdict is GainVerdict.SHOWN else None
    return str(findings.winner.candidate), findings.winner.capacity, gain


def _started(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _state(run: Run, manifest: Manifest) -> str:
    """A finished run keeps no lock, unless an early version of tuner finished it."""
    if not os.path.exists(run.folder / ".lock"):
        return "finished"
    try:
        if not run.lock():
            return "running"
    except StorageError:  # another user's
        return "unknown"
    run.unlock()
    return "finished" if _has_ended(run, manifest) else "unfinished"


def _has_ended(run: Run, manifest: Manifest) -> bool:
    if isinstance(manifest, CompareManifest):
        return manifest.finished
    if not isinstance(manifest, SearchManifest):
        return bool(run.evaluations())
    from tuner.optimizer.storage import is_finished  # with all of Optuna

    try:
        return run.study_file.exists() and is_finished(run, None)
    except StorageError:
        return False
