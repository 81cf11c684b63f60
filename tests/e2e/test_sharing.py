"""Two searches at once, on real servers, that share a study in PostgreSQL."""

import subprocess
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from tests.e2e.conftest import command, environment, no_server_left
from tuner.records.results import best
from tuner.records.run import Run

pytestmark = [
    pytest.mark.triton,
    pytest.mark.usefixtures("embedded_triton"),
]
SPACE = "name: small\nparameters: {max_batch_size: [1, 2, 4, 8, 16, 32]}"


def test_two_searches_share_the_work(repository: Path, tmp_path: Path, postgres: str) -> None:
    (tmp_path / "small.yaml").write_text(SPACE)
    words = ("search", str(repository / "emulated_gpu"), "--sla", "p90<400ms", "-q", "--json")
    how = ("--launcher", "local", "--space", "small.yaml", "--sampler", "random", "--trials", "3")
    shared = ("--storage", postgres, "--study-name", "night", "--output", "runs", "--run")
    with no_server_left(tmp_path):
        searches = [
            subprocess.Popen(
                command(*words, *how, *shared, name),
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in ("one", "two")
        ]
        try:
            ends = [(each.communicate(timeout=120)[0], each.returncode) for each in searches]
        finally:
            for search in searches:
                search.kill()
    assert [code for _, code in ends] == [0, 0], ends
    storage = RDBStorage(postgres)
    try:
        study = optuna.load_study(study_name="night", storage=storage)
        assert len({trial.user_attrs["run"] for trial in study.trials}) == 2
    finally:
        storage.engine.dispose()
    found = [Run.open(tmp_path / "runs" / name).evaluations() for name in ("one", "two")]
    own = [{e.candidate for e in each if e.measured_by is None} for each in found]
    known = [{e.candidate for e in each} for each in found]
    assert all(len(each) >= 3 for each in own)
    assert known[0] > own[0] or known[1] > own[1], "none knows of the other's"
    for name, evaluations in zip(("one", "two"), found, strict=True):
        winner = best(evaluations)
        assert winner is not None
        assert winner.measured_by is None, "what is stated was confirmed here"
        assert (tmp_path / "runs" / name / "winner/emulated_gpu/config.pbtxt").is_file()
