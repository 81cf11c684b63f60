"""The sample of wide dense layers, with its weights made for these tests: as ONNX Runtime computes
it, and measured on a real Triton.
"""

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import no_server_left, run_in
from tuner.experiment.find import find_model
from tuner.model.weights import read_weights
from tuner.serving.onnx import OnnxModel

SOURCE = ROOT / "model_repository" / "ranking"
_FLOAT_BYTES = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def ranking(cache: Path) -> Iterator[Path]:
    """The complete model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield find_model("ranking")


def scores(model: Path, features: np.ndarray) -> np.ndarray:
    """What the model is to answer, [batch, 1], computed with numpy from its file of weights."""
    weights = read_weights(model)
    assert weights is not None
    values, start = features, 0
    for shape in pairwise(weights.layers):
        place = {"offset": _FLOAT_BYTES * start, "shape": shape}
        product = values @ np.memmap(model / weights.file, "<f4", mode="r", **place)
        start += shape[0] * shape[1]
        values = np.maximum(product, 0)
    assert (model / weights.file).stat().st_size == _FLOAT_BYTES * start
    return product


def test_it_has_more_weights_than_a_cache_holds_and_none_in_the_repository() -> None:
    weights = read_weights(SOURCE)
    assert weights is not None
    assert _FLOAT_BYTES * sum(a * b for a, b in pairwise(weights.layers)) > 128 << 20
    assert sum(each.stat().st_size for each in SOURCE.rglob("*") if each.is_file()) < 64 << 10


def test_the_graph_takes_its_matrices_from_the_weights_that_were_made(ranking: Path) -> None:
    features = np.random.default_rng(0).random((3, 64), dtype=np.float32)
    found = OnnxModel(ranking).compute({"features": features})["score"]
    assert found.shape == (3, 1)
    assert np.allclose(found, scores(ranking, features), atol=1e-3)
    assert found.std() > 0.01, "items are told apart"


@pytest.mark.triton
def test_it_is_measured_on_a_real_server(
    embedded_triton: None, ranking: Path, cache: Path, tmp_path: Path
) -> None:
    """A request takes 10 to 30 ms, and half of them may take half a second."""
    words = ("measure", "ranking", "--sla", "p50<500ms", "--rate", "20", "--json")
    with no_server_left(tmp_path):
        done = run_in(tmp_path, *words, env={"XDG_CACHE_HOME": str(cache)})
    assert done.code == 0, done.err
    assert done.result["winner"]["capacity_per_second"] == 20
    assert len(list((cache / "triton-tuner").glob("ranking-*"))) == 1
