"""The runs in a folder: what each was, what it found, and how to be rid of old ones."""

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuner.errors import RunError, StorageError, UsageError
from tuner.records.manifest import CompareManifest
from tuner.records.results import Evaluation, baseline, best
from tuner.records.run import Run
from tuner.units import parse_duration, whole_number


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
    """The newest first. A folder whose records cannot be read is listed as damaged."""
    if not os.path.isdir(output):
        raise RunError(f"there is no folder {output}; runs are kept where --output says")
    runs = [Run(path) for path in output.iterdir() if os.path.isfile(path / "experiment.yaml")]
    return sorted(map(_listed, runs), key=lambda each: each.started, reverse=True)


def remove_runs(folders: list[Path]) -> None:
    """All or, if one of them is no run or another tuner works on it, none."""
    runs = [Run.open(folder) for folder in folders]
    try:
        for run in runs:
            if not run.lock():
                raise StorageError(f"another tuner is at work on {run.folder}")
        for run in runs:
            _remove(run.folder)
    finally:
        for run in runs:
            run.unlock()


def _remove(folder: Path) -> None:
    try:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"cannot remove {folder}: {error.strerror or error}") from error


def chosen_runs(folders: list[Path], older_than: str | None, output: Path) -> list[Listed]:
    """Those that were named and, with ``older_than`` (as in ``30d``), all of ``output`` that began
    before; a run that another tuner works on is not among the latter.
    """
    chosen = [_listed(Run.open(folder)) for folder in folders]
    if older_than is None:
        if not chosen:
            raise UsageError("name runs, or say --older-than 30d; 'tuner list' shows them")
        return chosen
    since = datetime.now(UTC) - timedelta(seconds=_age(older_than))
    known = {each.folder.resolve() for each in chosen}
    return chosen + [
        each
        for each in list_runs(output)
        if each.started < since and each.state != "running" and each.folder.resolve() not in known
    ]


def _age(text: str) -> float:
    """Seconds; days are written as ``30d``."""
    days = whole_number(text.removesuffix("d")) if text.endswith("d") else None
    return parse_duration(text) if days is None else days * 86_400.0


def _listed(run: Run) -> Listed:
    size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    changed = datetime.fromtimestamp(run.experiment_file.stat().st_mtime, UTC)
    try:
        manifest, evaluations = run.manifest(), run.evaluations()
    except RunError:
        return Listed(run.folder, "?", "?", "?", changed, "damaged", None, None, None, size)
    found = None if isinstance(manifest, CompareManifest) else _found(evaluations)
    first = baseline(evaluations)
    gain = None
    if found is not None and first is not None and found.merit and first.merit:
        gain = found.merit / first.merit
    return Listed(
        run.folder,
        manifest.kind,
        manifest.model_name,
        str(manifest.experiment.sla),
        _started(manifest.started) or changed,
        _state(run),
        None if found is None or found.phase == "measure" else str(found.candidate),
        None if found is None else found.capacity,
        gain if found is not None and not found.baseline else None,
        size,
    )


def _found(evaluations: list[Evaluation]) -> Evaluation | None:
    measured = [each for each in evaluations if each.phase == "measure"]
    return measured[-1] if measured else best(evaluations)


def _started(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _state(run: Run) -> str:
    """A finished run keeps no lock."""
    if not os.path.exists(run.folder / ".lock"):
        return "finished"
    return "unfinished" if _can_lock(run) else "running"


def _can_lock(run: Run) -> bool:
    if not run.lock():
        return False
    run.unlock()
    return True
