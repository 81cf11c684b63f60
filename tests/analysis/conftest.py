from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparing_records import EXPERIMENT

from tests.browsing import browser as browser
from tests.manifests import make_manifest
from tuner.records.comparison import Comparison, write_comparison
from tuner.records.results import Evaluation
from tuner.records.run import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """The folder of a comparison and, if asked, another experiment."""

    def make(comparison: Comparison, evaluations: list[Evaluation], **changes: Any) -> Run:
        run = Run.create(tmp_path / "run", make_manifest(**EXPERIMENT | changes))
        write_comparison(run, comparison)
        for evaluation in evaluations:
            run.append(evaluation)
        return run

    return make
