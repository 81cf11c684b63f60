"""Which folder a run goes to: a new one, or that of the same run, which did not come to its end."""

import os
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path

from tuner.errors import RunError, StorageError
from tuner.experiment.model import Experiment
from tuner.records.manifest import CompareManifest, Manifest, SearchManifest
from tuner.records.run import Run, cannot_write


def fresh_folder(output: Path, name: str) -> Path:
    """A new folder, named after the model and the time; another tuner that begins at the same
    moment gets another one. StorageError where none can be made.
    """
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in count(1):
        folder = output / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError as error:
            if not os.path.isdir(folder):
                raise StorageError(cannot_write(folder, error)) from error
        except OSError as error:
            raise StorageError(cannot_write(folder, error)) from error
    raise AssertionError("unreachable")


def begin_run(folder: Path, manifest: Manifest) -> Run:
    """A new run, locked before others can see what it is; StorageError where that cannot be."""
    run = Run.create(folder)
    if not run.lock():
        raise StorageError(f"another tuner is at work on {run.folder}")
    run.describe(manifest)
    return run


def _is_finished(run: Run, experiment: Experiment) -> bool:
    from tuner.optimizer.storage import is_finished  # with all of Optuna: a new folder needs none

    return is_finished(run, experiment.storage, experiment.study_name)


def resumable_search(
    output: Path, name: str | None, wanted: SearchManifest, experiment: Experiment
) -> Run | None:
    """The unfinished search of the same identity, locked; None where there is none.

    With a ``name``, only that folder is looked at: RunError where it cannot be read, StorageError
    where it holds another run, or one that is finished or at work.
    """
    if name is None:
        for run in _same_runs(output, wanted):
            if run.lock():
                if not _is_finished(run, experiment):
                    return _with_its_headers(run, experiment)
                run.unlock(finished=True)
        return None
    run = Run(output / name)
    if not os.path.isfile(run.experiment_file):
        return None
    same = _is_same(run.manifest(), wanted)
    if same and not run.lock():
        raise StorageError(f"another tuner is at work on {run.folder}")
    if same and not _is_finished(run, experiment):
        return _with_its_headers(run, experiment)
    run.unlock(finished=True)
    raise StorageError(
        f"{run.folder} holds another run, or one that is finished; choose another --run name"
    )


def resumable_comparison(output: Path, wanted: CompareManifest) -> Run | None:
    """The unfinished comparison of the same identity, locked; None where there is none."""
    for run in _same_runs(output, wanted):
        manifest = run.manifest()
        if isinstance(manifest, CompareManifest) and not manifest.finished and run.lock():
            return run
    return None


def _same_runs(output: Path, wanted: Manifest) -> Iterator[Run]:
    """The newest first. A damaged neighbour is no reason not to go on."""
    try:
        names = sorted(os.listdir(output), reverse=True)
    except OSError:  # there is none, or what is wrong is told when a folder is to be made in it
        return
    for name in names:
        run = Run(output / name)
        if not os.path.isfile(run.experiment_file):
            continue
        try:
            manifest = run.manifest()
        except RunError:
            continue
        if _is_same(manifest, wanted):
            yield run


def _is_same(manifest: Manifest, wanted: Manifest) -> bool:
    return type(manifest) is type(wanted) and manifest.identity() == wanted.identity()


def _with_its_headers(run: Run, experiment: Experiment) -> Run:
    """RunError if the run to resume authenticated with headers that are missing now."""
    manifest = run.manifest()
    given = {name.lower() for name in experiment.security().names}
    missing = [name for name in manifest.headers if name.lower() not in given]
    if missing:
        option = f"--header '{missing[0]}: ...'"
        if manifest.experiment.token_env:
            option += f" or --token-env {manifest.experiment.token_env}"
        run.unlock()
        raise RunError(
            f"{run.folder} sent the header {missing[0]} and would be resumed; values are not "
            f"recorded, so give it again with {option}, or choose another --run name"
        )
    return run
