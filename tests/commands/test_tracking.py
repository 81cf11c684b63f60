"""A run in MLflow, by MLflow's own store and client."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import ROOT, free_port
from tuner.cli.app import app
from tuner.records.results import best
from tuner.records.run import Run

SAMPLE = ROOT / "reports/sample"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def logged(uri: str, *words: str) -> str:
    done = CliRunner().invoke(app, ["mlflow", str(SAMPLE), "--tracking-uri", uri, *words])
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


@pytest.mark.filterwarnings("ignore:.*filesystem tracking backend.*:FutureWarning")
def test_a_run_is_a_parent_with_a_child_for_each_evaluation(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    parent = logged(uri)
    client, run = MlflowClient(uri), Run.open(SAMPLE)
    evaluations, winner = run.evaluations(), best(run.evaluations())
    assert winner is not None
    (experiment,) = [e for e in client.search_experiments() if e.name == "text_classifier"]
    top = client.get_run(parent)
    assert top.info.status == "FINISHED"
    assert top.data.metrics["capacity"] == winner.capacity
    assert top.data.params["sla"] == run.manifest().experiment.sla.text
    assert {each.path for each in client.list_artifacts(parent)} >= {"report.html", "winner"}
    children = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1000
    )
    assert len(children) == len(evaluations)
    first = next(each for each in children if each.data.tags["tuner.evaluation"] == "0")
    assert first.data.params["max_batch_size"] == str(evaluations[0].settings["max_batch_size"])
    assert [each.path for each in client.list_artifacts(first.info.run_id)] == ["config.pbtxt"]

    client.create_run(  # as one that was cut leaves it
        experiment.experiment_id, tags={"mlflow.parentRunId": parent, "tuner.evaluation": "0"}
    )
    assert logged(uri) == parent, "logged again, it is the same run"
    again = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1000
    )
    assert {each.info.run_id for each in again} == {each.info.run_id for each in children}


@pytest.mark.filterwarnings("ignore:.*filesystem tracking backend.*:FutureWarning")
def test_the_experiment_may_have_another_name(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    logged(uri, "--experiment-name", "tuning")
    assert "tuning" in {each.name for each in MlflowClient(uri).search_experiments()}


def test_a_server_that_is_not_there_is_named() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    done = CliRunner().invoke(app, ["mlflow", str(SAMPLE), "--tracking-uri", uri])
    assert done.exit_code == 3
    assert f"MLflow at {uri} failed" in done.stderr


def test_it_has_to_be_said_where_mlflow_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(app, ["mlflow", str(SAMPLE)])
    assert done.exit_code == 2
    assert "--tracking-uri URI, or MLFLOW_TRACKING_URI" in done.stderr
