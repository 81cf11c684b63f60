"""A repository's model out of an ONNX file: the signature is that of the file itself."""

import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner.creation.draft import Draft, Run, not_taken
from tuner.creation.extras import needed
from tuner.errors import UsageError
from tuner.model.files import is_inside
from tuner.model.signature import Arrays, Signature, TensorSpec
from tuner.text import shortened, shown

_TYPES = {
    "float": "FP32",
    "double": "FP64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "bool": "BOOL",
    "string": "BYTES",
}
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")
"""Where a tensor names the file beside the model that holds its values: a protobuf message of a key
and a value, before the value's length.
"""


def draft_of_onnx(path: Path, name: str, largest: int) -> Draft:
    """``largest`` batch, in items; 0 for a model without one. UsageError where the file cannot be
    loaded, or Triton has no form for what it takes and gives.
    """
    with needed("local", "an ONNX file"):
        import onnxruntime
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no base
        raise UsageError(f"{path}: {shortened(str(error))}") from error
    inputs = [_spec(each, path) for each in session.get_inputs()]
    outputs = [_spec(each, path) for each in session.get_outputs()]
    first = {_batch(each.shape) for each in (*session.get_inputs(), *session.get_outputs())}
    batched = largest > 0 and len(first) == 1 and None not in first
    if batched:
        inputs, outputs = ([_item(spec) for spec in specs] for specs in (inputs, outputs))
    signature = Signature(name, tuple(inputs), tuple(outputs), largest if batched else 0)
    files = {"1/model.onnx": path}
    files |= {f"1/{name}": path.parent / name for name in _external_files(path)}
    notes = () if batched else (_why_unbatched(session),)
    return Draft(signature, ('platform: "onnxruntime_onnx"',), files, _runner(session), notes=notes)


def _external_files(path: Path) -> set[str]:
    """Names of files beside the model that hold its weights, where it is too large for one."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = set()
        for match in _LOCATION.finditer(content):
            name = content[match.end() : match.end() + match[1][0]].decode("utf-8", "replace")
            if name and is_inside(path.parent / name, path.parent / "model"):
                found.add(name)
        return {name for name in found if (path.parent / name).is_file()}


def _runner(session: Any) -> Run:
    names = [each.name for each in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        values = {name: _plain(array) for name, array in inputs.items()}
        try:
            return dict(zip(names, session.run(names, values), strict=True))
        except Exception as error:  # as above
            raise not_taken(error) from error

    return run


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Strings as onnxruntime has them."""
    if array.dtype != object:
        return array
    flat = [each.decode() if isinstance(each, bytes) else str(each) for each in array.ravel()]
    return np.array(flat, dtype=object).reshape(array.shape)


def _spec(node: Any, path: Path) -> TensorSpec:
    kind = str(node.type)
    known = _TYPES.get(kind.removeprefix("tensor(").removesuffix(")"))
    if not kind.startswith("tensor(") or known is None:
        raise UsageError(
            f"{path}: {node.name} is {shown(kind)}, which Triton has no form for; export the model "
            "so that it takes and gives tensors (of scikit-learn: zipmap=False)"
        )
    dims = tuple(each if isinstance(each, int) and each >= 0 else -1 for each in node.shape)
    return TensorSpec(node.name, known, dims)


def _batch(shape: list[Any]) -> str | None:
    """The name of an open first dimension; ``?`` where it has none. None: it is not open."""
    if not shape or (isinstance(shape[0], int) and shape[0] >= 0):
        return None
    return str(shape[0]) if isinstance(shape[0], str) else "?"


def _item(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.datatype, spec.dims[1:])


def _why_unbatched(session: Any) -> str:
    shapes: Mapping[str, Any] = {
        each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())
    }
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    return (
        f"the first dimensions are not one open batch ({shortened(listed)}), so requests cannot be "
        "batched: export the model with a dynamic batch dimension for a multiple of the throughput"
    )
