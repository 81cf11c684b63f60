"""Which run a search goes on with."""

import shutil
from pathlib import Path

from tuner.commands.session import _open_run

from tests.conftest import ROOT
from tuner.experiment import Experiment
from tuner.records.run import Run


def test_a_finished_run_is_passed_over_and_left_as_it_was(tmp_path: Path) -> None:
    """Like the sample run, which a search in the checkout must not touch."""
    folder = tmp_path / "sample"
    shutil.copytree(ROOT / "reports" / "sample", folder, symlinks=True)
    before = sorted(path.name for path in folder.iterdir())
    experiment = Experiment(model=ROOT / "model_repository" / "text_classifier", sla="p99<20ms")
    kind = Run(folder).experiment()["kind"]
    run, resumed = _open_run(tmp_path, None, {"kind": kind}, experiment)
    assert not resumed
    assert run.folder != folder
    assert sorted(path.name for path in folder.iterdir()) == before
