"""A Triton for all tests that leave it as it is, and one for those that stop it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.gateway_triton import Triton

KINDS = Path(__file__).parents[1] / "client/models/kinds"


@pytest.fixture(scope="session")
def triton(embedded_triton: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("models")
    with Triton(folder, ("text_classifier", "emulated_gpu")) as triton:
        shutil.copytree(KINDS, folder / "kinds", ignore=shutil.ignore_patterns("__pycache__"))
        triton.ensure().load("kinds")
        yield triton


@pytest.fixture(scope="session")
def spare(embedded_triton: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A test stops it, or ensures that it serves ``emulated_gpu`` as its files say."""
    with Triton(tmp_path_factory.mktemp("spare"), ("emulated_gpu",)) as triton:
        yield triton
