"""Optuna's dashboard on the study of a search."""

from tuner.errors import RunError, UsageError
from tuner.interrupts import end_at_once
from tuner.records.run import Run


def serve_dashboard(run: Run, host: str, port: int) -> None:
    """Serve until interrupted. UsageError where the package is missing, RunError where the run has
    no study here.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise UsageError(
            "the dashboard is not installed: pip install 'triton-tuner[dashboard]'"
        ) from error
    from tuner.optimizer.artifacts import artifact_store
    from tuner.optimizer.storage import url_of

    recorded = run.manifest().experiment.storage
    if not run.study_file.is_file():
        where = f" (its study is in {recorded})" if recorded else ""
        raise RunError(
            f"{run.folder} has no study.db{where}: run 'optuna-dashboard STORAGE' on the storage"
        )
    end_at_once()
    run_server(url_of(run, None), host, port, artifact_store(run))
