import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import browser as browser
from tests.manifests import make_manifest
from tests.search_records import EXPERIMENT, realistic
from tuner.records.results import Evaluation
from tuner.records.run import Run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A run's folder with the given evaluations and, if asked, another experiment."""

    def make(evaluations: list[Evaluation], **changes: Any) -> Run:
        run = Run.create(tmp_path / "run", make_manifest(**EXPERIMENT | changes))
        for evaluation in evaluations:
            run.append(evaluation)
        return run

    return make


@pytest.fixture(scope="session")
def copy_whole_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Run]:
    """Copies a whole run to a new folder; its records are computed once, each copy may change."""
    original = Run.create(
        tmp_path_factory.mktemp("original") / "whole", make_manifest(**EXPERIMENT)
    )
    for evaluation in realistic(original.folder):
        original.append(evaluation)
    return lambda folder: Run.open(Path(shutil.copytree(original.folder, folder)))


@pytest.fixture
def whole_run(tmp_path: Path, copy_whole_run: Callable[[Path], Run]) -> Run:
    return copy_whole_run(tmp_path / "whole")
