"""PyTorch's files become ONNX: with the program's own signature or the user's, and its answers."""

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.creation.batches import is_close
from tuner.creation.draft import Draft, Wanted
from tuner.creation.onnx import draft_of_onnx
from tuner.creation.sources import draft_of
from tuner.errors import UsageError
from tuner.model.signature import TensorSpec

pytestmark = pytest.mark.slow
X = TensorSpec("x", "FP32", (4,))
MASK = TensorSpec("mask", "FP32", (3,))


@pytest.fixture(scope="module")
def models() -> Any:
    """Imported late: PyTorch takes seconds, which only these tests are to wait for."""
    from tests.creation import pytorch_models

    return pytorch_models


def drafted(path: Path, *inputs: TensorSpec, largest: int = 32) -> Draft:
    return draft_of(path, "", Wanted("m", inputs, {}, largest), path.parent)


def both(draft: Draft, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """The answers of PyTorch, and of the ONNX file that it became."""
    assert draft.run is not None
    converted = draft_of_onnx(draft.files["1/model.onnx"], "m", 1).run
    assert converted is not None
    return draft.run(inputs), converted(inputs)


def test_a_program_says_all_by_itself(models: Any, tmp_path: Path) -> None:
    model = models.save_program(tmp_path / "m.pt2")
    draft = drafted(tmp_path / "m.pt2")
    signature = draft.signature
    assert [(i.name, i.datatype, i.dims) for i in signature.inputs] == [
        ("x", "FP32", (4,)),
        ("word", "INT64", (1,)),
    ]
    assert [(o.name, o.dims) for o in signature.outputs] == [("scores", (3,)), ("rest_0", (1,))]
    assert signature.max_batch_size == 16, "the end of the range that it was exported with"
    assert draft.config().count('platform: "onnxruntime_onnx"') == 1
    inputs = {"x": np.ones((5, 4), np.float32), "word": np.full((5, 1), 2)}
    expected = model(models.torch.ones(5, 4), word=models.torch.full((5, 1), 2))["scores"].detach()
    for answers in both(draft, inputs):
        assert is_close(answers["scores"], expected)
        assert list(answers) == ["scores", "rest_0"]


def test_a_program_of_one_item_is_not_batched(models: Any, tmp_path: Path) -> None:
    file = tmp_path / "m.pt"  # known by what is in it
    models.save_exported(file, models.torch.nn.Linear(4, 3), models.torch.rand(1, 4))
    draft = drafted(file)
    assert draft.signature.max_batch_size == 0
    assert [spec.name for spec in draft.signature.outputs] == ["output"]
    assert "dynamic batch" in draft.notes[0]


def test_a_program_that_takes_no_tensor_is_refused(models: Any, tmp_path: Path) -> None:
    models.save_exported(tmp_path / "m.pt2", models.Scaled(), models.torch.rand(2, 4), 2.0)
    with pytest.raises(UsageError, match="'scale' is no tensor"):
        drafted(tmp_path / "m.pt2")


def test_a_program_that_onnx_cannot_run_is_refused(models: Any, tmp_path: Path) -> None:
    torch = models.torch
    half = torch.nn.Linear(4, 3).bfloat16()
    models.save_exported(tmp_path / "m.pt2", half, torch.rand(2, 4).bfloat16())
    with pytest.raises(UsageError, match=r"m\.pt2 has no form.*Gemm.*float32"):
        drafted(tmp_path / "m.pt2")


def test_torchscript_keeps_its_loops(models: Any, tmp_path: Path) -> None:
    script = models.save_script(tmp_path / "m.pt", models.Branching())
    draft = drafted(tmp_path / "m.pt", MASK, X)
    assert [spec.name for spec in draft.signature.inputs] == ["x", "mask"]
    arrays = {spec.name: np.ones((5, *spec.dims), np.float32) for spec in (X, MASK)}
    expected = script(*(models.torch.tensor(array) for array in arrays.values()))
    of_torch, converted = both(draft, arrays)
    assert is_close(of_torch["output_0"], expected[0].detach())
    assert is_close(converted["output_0"], expected[0].detach())
    # A value an item: to Triton's clients it has a dimension of its own.
    assert is_close(of_torch["output_1"][:, 0], expected[1].detach())
    assert is_close(converted["output_1"], expected[1].detach())
    assert "dims: [ 1 ] reshape { shape: [ ] }" in draft.config()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((), r"\(x: Tensor, mask: Tensor\).*--input x:FP32:3,224,224 --input mask"),
        ((X, MASK, TensorSpec("y", "FP32", ())), "no 'y'"),
        ((TensorSpec("x", "FP32", (5,)), MASK), "correct --input"),
        ((TensorSpec("x", "BYTES", (4,)), MASK), "no BYTES"),
    ],
)
def test_torchscript_needs_types_and_shapes(
    models: Any, tmp_path: Path, inputs: tuple[TensorSpec, ...], said: str
) -> None:
    models.save_script(tmp_path / "m.pt", models.Branching())
    with pytest.raises(UsageError, match=said):
        drafted(tmp_path / "m.pt", *inputs)


def test_torchscript_that_takes_no_tensor_is_refused(models: Any, tmp_path: Path) -> None:
    models.save_script(tmp_path / "m.pt", models.Scaled())
    with pytest.raises(UsageError, match="scale: float"):
        drafted(tmp_path / "m.pt", X)


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["weights", "module", "pickle"])
def test_pickles_are_not_loaded(models: Any, tmp_path: Path, kind: str) -> None:
    trap, file = tmp_path / "sprung", tmp_path / "m.pt"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Trap(trap)))
    else:
        module = models.Scores()
        models.torch.save(module.state_dict() if kind == "weights" else [module, Trap(trap)], file)
    with pytest.raises(UsageError, match=r"write torch\.export\.save"):
        drafted(file)
    assert not trap.exists()


def test_a_damaged_program_is_refused(models: Any, tmp_path: Path) -> None:
    file = tmp_path / "m.pt2"
    models.save_program(file)
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"graph_module"', b'"graph_nodule"'))
    with pytest.raises(UsageError, match="write it again"):
        drafted(file)


def test_a_missing_package_is_named(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.pt2"
    models.save_program(file)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    for module in ("pytorch", "torch_program", "torch_script"):
        monkeypatch.delitem(sys.modules, f"tuner.creation.{module}", raising=False)
    with pytest.raises(
        UsageError, match=r"needs onnxscript: pip install 'triton-tuner\[convert\]'"
    ):
        drafted(file)
