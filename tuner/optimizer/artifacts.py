"""Files of a run as artifacts of its Optuna study, where Optuna's dashboard shows them."""

import warnings

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.exceptions import ExperimentalWarning

from tuner.records.run import Run


def artifact_store(run: Run) -> FileSystemArtifactStore:
    """That of the run's folder, which is made if it is missing."""
    folder = run.folder / "artifacts"
    folder.mkdir(exist_ok=True)
    return FileSystemArtifactStore(folder)


def attach(study: optuna.Study, run: Run) -> None:
    """The report, and the winner's configurations: to the study, since Optuna lets nobody change a
    trial that has finished. Errors are those of the storage.
    """
    store = artifact_store(run)
    files = [run.report] if run.report.is_file() else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        for file in (*files, *sorted(run.winner.glob("*/config.pbtxt"))):
            upload_artifact(
                artifact_store=store,
                file_path=str(file),
                study_or_trial=study,
                storage=study._storage,
            )
