"""What Optuna's dashboard shows of a run, by the API that its page asks."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import optuna
import pytest
from typer.testing import CliRunner

from tests.manifests import make_manifest
from tests.optimizer.test_study import Bench, make, product
from tuner.cli.app import app
from tuner.optimizer.stopping import Budget
from tuner.records.run import Run


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "night-1", make_manifest())
    study = make(run, Bench(product))
    study.search(Budget(trials=3, seconds=1e6), lambda _: None)
    run.report.write_text("<html>the report</html>")
    (run.winner / "m").mkdir(parents=True)
    (run.winner / "m" / "config.pbtxt").write_text("max_batch_size: 16")
    study.finish("enough")
    return run


def test_report_and_winner_are_artifacts_of_the_study(finished: Run) -> None:
    url = f"sqlite:///{finished.study_file}"
    study = optuna.load_study(study_name="night-1", storage=url)
    found = optuna.artifacts.get_all_artifact_meta(study_or_trial=study)
    assert {each.filename for each in found} == {"report.html", "config.pbtxt"}
    config = next(each for each in found if each.filename == "config.pbtxt")
    stored = finished.folder / "artifacts" / config.artifact_id
    assert stored.read_text() == "max_batch_size: 16"


def answer(port: int, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return json.loads(reply.read())


def test_the_dashboard_shows_the_runs_trials(finished: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("dashboard", str(finished.folder), "--port", str(port))
    with subprocess.Popen([sys.executable, "-m", "tuner", *words]) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    studies = answer(port, "/api/studies")["study_summaries"]
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            (summary,) = studies
            study = cast(Any, answer(port, f"/api/studies/{summary['study_id']}?after=0"))
            assert len(study["trials"]) >= 3
            names = {each["key"] for each in study["trials"][0]["user_attrs"]}
            assert {"state", "candidate"} <= names
            process.terminate()
            assert process.wait(30) == -signal.SIGTERM
        finally:
            process.kill()


def test_a_run_without_a_study_says_so(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", make_manifest(kind="measure"))
    done = CliRunner().invoke(app, ["dashboard", str(run.folder)])
    assert done.exit_code == 2
    assert "has no study.db" in done.stderr
