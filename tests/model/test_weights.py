"""Weights that are made at first use: always the same ones, once, and whole or not at all."""

import hashlib
import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tuner.errors import RepositoryError, StorageError
from tuner.experiment.find import find_model
from tuner.model.weights import Weights, cache_folder, complete_model, link_or_copy


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "triton-tuner"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model like the sample, of 14 values."""
    folder = tmp_path / "models" / "small"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text("max_batch_size: 8")
    (folder / "1" / "model.onnx").write_bytes(b"a graph")
    (folder / "weights.yaml").write_text("file: 1/weights.bin\nseed: 7\nlayers: [3, 4, 1]\n")
    return folder


def written(seed: int, *layers: int) -> bytes:
    file = io.BytesIO()
    Weights(file="1/w", seed=seed, layers=layers).write(file)
    return file.getvalue()


def test_a_seed_gives_the_same_bytes_on_every_machine() -> None:
    digest = hashlib.sha256(written(7, 64, 1500, 700)).hexdigest()
    assert digest == "5e22797bf89e09ae445fd9d7303d09d7ae1705d625be0935704ab82f0a9e739b"
    assert written(8, 64, 1500, 700) != written(7, 64, 1500, 700)


def test_each_matrix_is_uniform_within_the_bound_of_its_inputs() -> None:
    layers = (1001, 1201, 3)
    values = np.frombuffer(written(1, *layers), dtype="<f4")
    start = 0
    for inputs, outputs in pairwise(layers):
        matrix, bound = values[start : start + inputs * outputs], np.sqrt(6 / inputs)
        start += inputs * outputs
        assert np.abs(matrix).max() <= bound * (1 + 1e-6)
        assert matrix.std() == pytest.approx(bound / np.sqrt(3), rel=0.03)
        assert abs(matrix.mean()) < 5 * bound / np.sqrt(3 * inputs * outputs)
    assert start == len(values)


def test_the_complete_model_lies_in_the_cache_and_leaves_the_own_folder_alone(
    model: Path, cache: Path
) -> None:
    (model / "1").chmod(0o555)
    before = sorted(model.rglob("*"))
    copy = complete_model(model)
    assert copy.name == "small"
    assert copy.is_relative_to(cache)
    assert (copy / "1" / "weights.bin").read_bytes() == written(7, 3, 4, 1)
    assert (copy / "1" / "model.onnx").read_bytes() == b"a graph"
    assert sorted(model.rglob("*")) == before
    assert complete_model(copy) == copy
    assert find_model(model) == copy


def test_a_model_without_such_weights_is_itself(model: Path) -> None:
    (model / "weights.yaml").unlink()
    assert complete_model(model) == model


def test_weights_are_made_once_and_shared_by_edited_copies(model: Path, cache: Path) -> None:
    first = complete_model(model)
    made = (first / "1" / "weights.bin").stat()
    assert complete_model(model) == first
    (model / "config.pbtxt").write_text("max_batch_size: 16")
    edited = complete_model(model)
    assert edited != first
    again = (edited / "1" / "weights.bin").stat()
    assert (again.st_ino, again.st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert len(list(cache.glob("weights-*.bin"))) == 1


def test_what_a_killed_process_left_is_made_anew(model: Path, cache: Path) -> None:
    (cache / "staged" / "small").mkdir(parents=True)
    digest = complete_model(model).parent.name
    assert [each.name for each in cache.glob("small-*")] == [digest]
    assert not (cache / "staged").exists()


def test_processes_that_ask_at_once_get_the_same_and_one_makes_it(model: Path, cache: Path) -> None:
    (model / "weights.yaml").write_text("file: 1/weights.bin\nseed: 7\nlayers: [64, 1024, 1024]\n")
    code = (
        "import sys; from pathlib import Path; from tuner.model import weights\n"
        "write = weights.Weights.write\n"
        "def tell(*args): print('made'); write(*args)\n"
        "weights.Weights.write = tell; sys.stdin.readline()\n"
        "print((weights.complete_model(Path(sys.argv[1])) / '1' / 'weights.bin').stat().st_size)"
    )
    words = [sys.executable, "-c", code, str(model)]
    pipe = subprocess.PIPE
    asking = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate()[0].split() for process in asking]
    size = str(4 * (64 * 1024 + 1024 * 1024))
    assert [each[-1] for each in told] == [size] * 3
    assert sum("made" in each for each in told) == 1


@pytest.mark.parametrize(
    "text",
    [
        "file: ../weights.bin\nseed: 1\nlayers: [1, 1]",
        "file: 1/weights.bin\nseed: -1\nlayers: [1, 1]",
        "file: 1/weights.bin\nseed: 1\nlayers: [1]",
        "file: 1/weights.bin\nseed: 1\nlayers: [1, 0]",
        "file: [",
    ],
)
def test_a_description_that_is_wrong_is_refused(model: Path, text: str) -> None:
    (model / "weights.yaml").write_text(text)
    with pytest.raises(
        RepositoryError, match=r"weights\.yaml is not a valid description of weights"
    ):
        complete_model(model)


def test_a_cache_that_cannot_be_written_is_named(model: Path, cache: Path) -> None:
    cache.parent.write_text("a file")
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
        complete_model(model)


def test_the_cache_is_below_the_home_where_no_other_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "triton-tuner"


def test_a_file_that_cannot_be_linked_is_copied(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("x")
    (tmp_path / "target").touch()  # a link must not exist, a copy may
    link_or_copy(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").read_text() == "x"
    assert (tmp_path / "target").stat().st_nlink == 1
