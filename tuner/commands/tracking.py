"""A run in MLflow: a parent run, a child for each evaluation, and the artifacts of both."""

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tuner.errors import StorageError, UsageError
from tuner.optimizer.measurement import attributes_of
from tuner.records.manifest import Manifest
from tuner.records.results import Evaluation, baseline, best
from tuner.records.run import Run

_RUN, _EVALUATION = "tuner.run", "tuner.evaluation"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_MOST = 5000
"""Children, far more than a search has trials."""
_FORBIDDEN = re.compile(r"[^\w\-./: ]+")
_LONGEST = 500
"""Characters of a parameter or tag, as many as every MLflow server takes."""


def track(run: Run, tracking_uri: str, experiment: str | None) -> str:
    """Log the run, or what is new of it since the last time; the id of the parent run.

    ``experiment`` is the model's name by default. UsageError where MLflow is missing, StorageError
    where its server does not take something.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UsageError("MLflow is not installed: pip install 'triton-tuner[mlflow]'") from error
    manifest, evaluations = run.manifest(), run.evaluations()
    with _mlflow_errors(tracking_uri):
        client = MlflowClient(tracking_uri)
        place = _experiment(client, experiment or manifest.model_name)
        parent = _parent(client, place, run, manifest)
        known = _children(client, place, parent)
        for number, evaluation in enumerate(evaluations):
            if str(number) not in known:
                _log_child(client, place, parent, number, evaluation)
        _conclude(client, parent, run, evaluations)
    return str(parent)


def _children(client: Any, place: str, parent: str) -> set[str | None]:
    """Places of the evaluations that are logged; what was cut is removed."""
    known = set()
    for child in client.search_runs([place], f"tags.`{_PARENT}` = '{parent}'", max_results=_MOST):
        if child.info.status == "RUNNING":
            client.delete_run(child.info.run_id)
        else:
            known.add(child.data.tags.get(_EVALUATION))
    return known


@contextmanager
def _mlflow_errors(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(
            f"MLflow at {uri} failed: {reason}; check --tracking-uri, and that it is reachable"
        ) from error


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _parent(client: Any, place: str, run: Run, manifest: Manifest) -> str:
    """The run's own in MLflow, new unless it was logged before."""
    own = manifest.id or f"{run.folder.name} {manifest.started}"
    found = client.search_runs([place], f"tags.`{_RUN}` = '{own}'", max_results=1)
    environment = manifest.environment
    experiment = manifest.experiment
    about = {
        "model": manifest.model_name,
        "sla": experiment.sla.text,
        "load": experiment.load,
        "space": manifest.space.name,
        **{name: value for name, value in environment.machine().items() if value is not None},
        "server": environment.server,
        "tuner": environment.tuner,
    }
    tags = {_RUN: own, "mlflow.source.name": "tuner", "tuner.command": manifest.command}
    made = (
        found[0]
        if found
        else client.create_run(
            place, start_time=_moment(manifest.started), run_name=run.folder.name, tags=_texts(tags)
        )
    )
    _log(client, made.info.run_id, about, {})
    return str(made.info.run_id)


def _log_child(client: Any, place: str, parent: str, number: int, evaluation: Evaluation) -> None:
    started = _moment(evaluation.started)
    told = attributes_of(evaluation)
    words = {key: value for key, value in told.items() if isinstance(value, str)}
    tags = {_PARENT: parent, _EVALUATION: number, "phase": evaluation.phase, **words}
    tags |= {"measured_by": evaluation.measured_by}
    label = f"{evaluation.trial} {evaluation.phase} {evaluation.label}"
    child = client.create_run(place, start_time=started, run_name=label, tags=_texts(tags))
    name = child.info.run_id
    _log(client, name, dict(evaluation.settings), told)
    if evaluation.config:
        client.log_text(name, evaluation.config, "config.pbtxt")
    failed = evaluation.state.value == "failed"
    end = None if started is None else started + round(1e3 * evaluation.seconds)
    client.set_terminated(name, "FAILED" if failed else "FINISHED", end_time=end)


def _conclude(client: Any, parent: str, run: Run, evaluations: list[Evaluation]) -> None:
    winner, first = best(evaluations), baseline(evaluations)
    if winner is not None:
        _log(client, parent, {}, attributes_of(winner))
        client.set_tag(parent, "winner", winner.label[:_LONGEST])
    if first is not None and first.capacity:
        _log(client, parent, {}, {"baseline_capacity": first.capacity})
    for file in (run.experiment_file, run.report):
        if file.is_file():
            client.log_artifact(parent, str(file))
    if run.winner.is_dir():
        _log_configs(client, parent, run.winner)
    ends = ((_moment(each.started) or 0) + round(1e3 * each.seconds) for each in evaluations)
    client.set_terminated(parent, end_time=max(ends, default=None))


def _log_configs(client: Any, parent: str, winner: Path) -> None:
    """The configurations alone: the models themselves may have gigabytes."""
    for file in sorted(winner.glob("*/config.pbtxt")):
        client.log_artifact(parent, str(file), f"winner/{file.parent.name}")


def _log(client: Any, name: str, params: dict[str, Any], metrics: dict[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    now = round(1e3 * time.time())
    finite = {
        _key(key): float(value)
        for key, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    client.log_batch(
        name,
        metrics=[Metric(key, value, now, 0) for key, value in finite.items()],
        params=[Param(_key(key), text) for key, text in _texts(params).items()],
    )


def _key(name: str) -> str:
    """With characters that MLflow allows: ``parameters[threads]`` is ``parameters.threads``."""
    return _FORBIDDEN.sub(".", name).strip(".")


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value)[:_LONGEST] for key, value in values.items() if value is not None}


def _moment(text: str | None) -> int | None:
    """Milliseconds since 1970 of an ISO time."""
    return None if text is None else round(1e3 * datetime.fromisoformat(text).timestamp())
