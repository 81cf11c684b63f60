"""A search that version 0.1 was interrupted in goes on with this one."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import Outcome
from tuner.records.run import Run

OLD = ROOT / "tests" / "records" / "old" / "unfinished-0.1.0"
WORDS = ("emulated_gpu", "--sla-p99", "60ms", "--space", "space.yaml", "--launcher", "local")


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_the_same_command_goes_on_with_it(tuner: Callable[..., Outcome], tmp_path: Path) -> None:
    """Two candidates were measured, and one more may be, with nothing confirmed: quickly done."""
    folder = tmp_path / "reports" / "unfinished"
    folder.mkdir(parents=True)
    for name in ("experiment.yaml", "evaluations.jsonl", "windows.jsonl"):
        shutil.copy(OLD / name, folder)
    with sqlite3.connect(folder / "study.db") as database:
        database.executescript((OLD / "study.sql").read_text())
    database.close()
    for name in ("logs", "probes"):
        (folder / name).mkdir()
    model = tmp_path / "model_repository" / "emulated_gpu"
    shutil.copytree(ROOT / "model_repository" / "emulated_gpu", model)
    shutil.copy(OLD / "config.pbtxt", model)
    shutil.copy(OLD / "space.yaml", tmp_path)
    before = Run(folder).evaluations()
    done = tuner("search", *WORDS, "--trials", "3", "--timeout", "90s")
    assert done.code in (0, 1), done.err  # a bad minute of the machine may leave no winner
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["unfinished"]
    after = Run(folder).evaluations()
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert {e.trial for e in after if e.phase == "search"} >= {0, 1}
    assert (folder / "report.html").is_file()
