"""New models on the embedded Triton: what is written is served, and answers as its runtime does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.creation.test_creation import FUNCTION, doubling
from tests.e2e.conftest import Outcome

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]


def test_an_onnx_file_becomes_a_model_that_is_measured(tuner: Tuner, tmp_path: Path) -> None:
    doubling(tmp_path / "double.onnx", ["batch", 16])
    done = tuner("init", "double.onnx", "--to", "models", "--launcher", "local")
    assert done.code == 0, done.err
    assert "its answers are those of the model's own runtime" in done.out
    measured = tuner(
        *("measure", "models/double", "--sla", "p90<200ms", "--rate", "20", "--load", "constant"),
        *("--input-data", "models/double/inputs.json", "--launcher", "local", "-q", "--json"),
    )
    assert measured.code == 0, measured.err


def test_a_model_without_a_batch_is_served_as_well(tuner: Tuner, tmp_path: Path) -> None:
    doubling(tmp_path / "double.onnx", [2, 3])
    done = tuner("init", "double.onnx", "--to", "models", "--launcher", "local")
    assert done.code == 0, done.err
    assert "cannot be batched" in done.out


def test_a_function_becomes_a_model(tuner: Tuner, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(FUNCTION)
    words = ("--input", "x:FP32:4", "--to", "models", "--launcher", "local")
    done = tuner("init", "service.py:predict", *words)
    assert done.code == 0, done.err
    assert (tmp_path / "models/predict/1/service.py").read_text() == FUNCTION


def test_a_function_that_answers_otherwise_when_served_is_not_written(
    tuner: Tuner, tmp_path: Path
) -> None:
    text = "return x + ('triton_python_backend_utils' in sys.modules)"
    (tmp_path / "service.py").write_text(f"import sys\n\ndef where(x):\n    {text}\n")
    words = ("--input", "x:FP32:4", "--to", "models", "--launcher", "local")
    done = tuner("init", "service.py:where", *words)
    assert done.code == 1, (done.out, done.err)
    assert "differs by up to 1" in done.err
    assert not (tmp_path / "models").exists()


def models() -> Any:
    """Imported late: PyTorch takes seconds, which only these tests are to wait for."""
    from tests.creation import pytorch_models

    return pytorch_models


def test_a_program_of_pytorch_becomes_a_model(tuner: Tuner, tmp_path: Path) -> None:
    models().save_program(tmp_path / "scores.pt2")
    done = tuner("init", "scores.pt2", "--to", "models", "--launcher", "local")
    assert done.code == 0, done.err
    assert "its answers are those of the model's own runtime" in done.out
    assert "max_batch_size: 16" in (tmp_path / "models/scores/config.pbtxt").read_text()
    assert done.err == ""


def test_torchscript_becomes_a_model(tuner: Tuner, tmp_path: Path) -> None:
    models().save_script(tmp_path / "branching.pt", models().Branching())
    inputs = ("--input", "x:FP32:4", "--input", "mask:FP32:3")
    done = tuner("init", "branching.pt", *inputs, "--to", "models", "--launcher", "local")
    assert done.code == 0, done.err
    assert "its answers are those of the model's own runtime" in done.out
    assert done.err == ""


def test_a_folder_of_transformers_becomes_a_model(tuner: Tuner, tmp_path: Path) -> None:
    models().save_bert(tmp_path / "bert", "BertModel")
    done = tuner("init", "bert", "--to", "models", "--launcher", "local")
    assert done.code == 0, done.err
    assert "its answers are those of the model's own runtime" in done.out
    assert done.err == ""
