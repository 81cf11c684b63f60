from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_records import EXPERIMENT, realistic

from tuner.results import Evaluation, Run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A run's folder with the given evaluations and, if asked, another experiment."""

    def make(evaluations: list[Evaluation], **changes: Any) -> Run:
        run = Run.create(tmp_path / "run", EXPERIMENT | changes)
        for evaluation in evaluations:
            run.append(evaluation)
        return run

    return make


@pytest.fixture
def whole_run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "whole", EXPERIMENT)
    for evaluation in realistic(run.folder):
        run.append(evaluation)
    return run
