"""Model repositories out of model files: from the model's own signature, and refused where that
does not tell enough.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from tuner.cli.app import app
from tuner.creation.batches import is_close, joins_batches
from tuner.creation.function import draft_of_function
from tuner.creation.onnx import draft_of_onnx
from tuner.errors import UsageError
from tuner.load.input_file import read_inputs
from tuner.model.config import check_config, parse_config
from tuner.model.signature import Signature, TensorSpec

FLOAT, INT, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
Value = tuple[str, int, list[Any]]


def save(
    path: Path, inputs: list[Value], outputs: list[Value], nodes: list[Any], weights: Any = ()
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def doubling(path: Path, shape: list[Any], output: list[Any] | None = None) -> Path:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return save(path, [("x", FLOAT, shape)], [("y", FLOAT, output or shape)], [node])


def init(*words: str) -> Any:
    return CliRunner().invoke(app, ["init", *words])


def test_a_dynamic_first_dimension_is_the_batch(tmp_path: Path) -> None:
    draft = draft_of_onnx(doubling(tmp_path / "m.onnx", ["batch", 3, "length"]), "m", 16)
    assert draft.signature.max_batch_size == 16
    (spec,) = draft.signature.inputs
    assert (spec.datatype, spec.dims) == ("FP32", (3, -1))
    config = parse_config(draft.config(), "config.pbtxt")
    check_config(config, "m")
    assert Signature.of_config(config) == draft.signature
    assert config.HasField("dynamic_batching")
    assert draft.notes == ()
    assert joins_batches(draft, {"x": (3, 5)})


@pytest.mark.parametrize("shape", [[1, 3], [], [4]])
def test_a_fixed_first_dimension_is_none_and_said_so(tmp_path: Path, shape: list[Any]) -> None:
    draft = draft_of_onnx(doubling(tmp_path / "m.onnx", shape), "m", 16)
    assert draft.signature.max_batch_size == 0
    assert draft.signature.inputs[0].dims == tuple(shape)
    assert "cannot be batched" in draft.notes[0]
    config = parse_config(draft.config(), "config.pbtxt")
    assert not config.HasField("dynamic_batching")


def test_an_open_first_dimension_that_is_no_batch_is_found_out(tmp_path: Path) -> None:
    """The mean over all rows depends on what else is in the batch."""
    mean = helper.make_node("ReduceMean", ["x"], ["m"], keepdims=1)
    add = helper.make_node("Add", ["x", "m"], ["y"])
    x, y = ("x", FLOAT, ["rows", 3]), ("y", FLOAT, ["rows", 3])
    file = save(tmp_path / "mean.onnx", [x], [y], [mean, add])
    assert not joins_batches(draft_of_onnx(file, "m", 8), {})
    done = init(str(file), "--to", str(tmp_path / "models"), "--no-serve", "--shape", "x:2,3")
    assert done.exit_code == 0, done.output
    assert "so it is no batch" in done.stdout
    text = (tmp_path / "models/mean/config.pbtxt").read_text()
    assert "max_batch_size: 0" in text
    assert "dims: [ -1, 3 ]" in text


def test_all_types_have_triton_s_names(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in (("i", "o"), ("s", "t"))]
    file = save(
        tmp_path / "m.onnx",
        [("i", INT, ["n", 2]), ("s", TEXT, ["n", 1])],
        [("o", INT, ["n", 2]), ("t", TEXT, ["n", 1])],
        nodes,
    )
    draft = draft_of_onnx(file, "m", 4)
    assert [each.datatype for each in draft.signature.inputs] == ["INT64", "BYTES"]
    assert "TYPE_STRING" in draft.config()
    assert joins_batches(draft, {})


def test_weights_beside_the_model_are_taken_along(tmp_path: Path) -> None:
    values = np.arange(3000, dtype=np.float32).reshape(3, 1000)
    weights = onnx.numpy_helper.from_array(values, "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    file = save(
        tmp_path / "big.onnx",
        [("x", FLOAT, ["n", 3])],
        [("y", FLOAT, ["n", 1000])],
        [node],
        [weights],
    )
    model = onnx.load(str(file))
    onnx.save(model, str(file), save_as_external_data=True, location="other name.bin")
    done = init(str(file), "--to", str(tmp_path / "models"), "--no-serve")
    assert done.exit_code == 0, done.output
    copied = tmp_path / "models/big/1"
    assert {each.name for each in copied.iterdir()} == {"model.onnx", "other name.bin"}
    again = draft_of_onnx(copied / "model.onnx", "big", 4)
    assert again.run is not None
    ones = np.ones((1, 3), np.float32)
    assert is_close(again.run({"x": ones})["y"], ones @ values)


def test_sample_inputs_are_read_by_a_search(tmp_path: Path) -> None:
    file = doubling(tmp_path / "m.onnx", ["batch", 2, "length"])
    done = init(str(file), "--to", str(tmp_path / "models"), "--shape", "x:2,4", "--no-serve")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "models/m"
    signature = Signature.of_config(parse_config((folder / "config.pbtxt").read_text(), "c"))
    pool = read_inputs(folder / "inputs.json", signature, {}, seed=0)
    assert pool[0][0].array.shape == (1, 2, 4)
    assert "next: tuner search" in done.stdout


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("m.onnx", (), "--shape"),  # an open dimension that is no batch
        ("nothing.onnx", (), "does not exist"),
        ("broken.onnx", (), "broken.onnx"),
        ("m.pt", (), "torch.export.save"),
        ("m.keras", (), "tf2onnx"),
        ("m.pkl", (), "skl2onnx"),
        ("m.safetensors", (), "config.json"),
        ("folder", (), "save_pretrained"),
        ("m.onnx", ("--shape", "x:4", "--name", "a/b"), "'/'"),
    ],
)
def test_what_cannot_be_known_is_refused_with_what_to_add(
    tmp_path: Path, name: str, words: tuple[str, ...], said: str
) -> None:
    doubling(tmp_path / "m.onnx", ["batch", "length"])
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "folder").mkdir()
    for other in ("m.pt", "m.keras", "m.pkl", "m.safetensors"):
        (tmp_path / other).write_bytes(b"x")
    done = init(str(tmp_path / name), "--to", str(tmp_path / "models"), "--no-serve", *words)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not (tmp_path / "models").exists()


def test_an_existing_model_is_left_alone(tmp_path: Path) -> None:
    file = doubling(tmp_path / "m.onnx", ["batch", 2])
    words = (str(file), "--to", str(tmp_path / "models"), "--no-serve")
    assert init(*words).exit_code == 0
    (tmp_path / "models/m/config.pbtxt").write_text("mine")
    done = init(*words)
    assert done.exit_code == 2
    assert "exists" in done.stderr
    assert (tmp_path / "models/m/config.pbtxt").read_text() == "mine"


FUNCTION = """
import numpy as np

def predict(x):
    return {"total": x.sum(axis=1, keepdims=True), "word": np.array([["a"]] * len(x))}

def scalar(x):
    return x.sum()

def failing(x):
    raise KeyError("no such key")
"""


@pytest.fixture
def service(tmp_path: Path) -> Path:
    file = tmp_path / "service.py"
    file.write_text(FUNCTION)
    return file


def test_a_function_is_called_to_find_what_it_gives(service: Path) -> None:
    draft = draft_of_function(service, "predict", "p", (TensorSpec("x", "FP32", (4,)),), 8)
    assert [(o.name, o.datatype, o.dims) for o in draft.signature.outputs] == [
        ("total", "FP32", (1,)),
        ("word", "BYTES", (1,)),
    ]
    compile(draft.texts["1/model.py"], "model.py", "exec")
    assert joins_batches(draft, {})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("scalar", "its first dimension has to be the batch"),
        ("failing", "no such key"),
        ("absent", "has no function"),
    ],
)
def test_a_function_that_does_not_fit_is_refused(service: Path, function: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        draft_of_function(service, function, "p", (TensorSpec("x", "FP32", (4,)),), 8)


def test_a_function_needs_its_inputs_named(service: Path) -> None:
    done = init(f"{service}:predict", "--no-serve")
    assert done.exit_code == 2
    assert "--input x:FP32:4" in done.stderr


def test_the_result_is_told_as_json(tmp_path: Path) -> None:
    file = doubling(tmp_path / "m.onnx", ["batch", 2])
    done = init(str(file), "--to", str(tmp_path / "models"), "--no-serve", "--json")
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "models/m")
