"""A repository's model out of a Python function, for Triton's Python backend."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tuner.creation.draft import Draft, Run
from tuner.errors import UsageError
from tuner.load.inputs import make_inputs
from tuner.model.signature import Arrays, Signature, TensorSpec
from tuner.text import shortened, shown

_MODEL = '''"""Runs {function} of {module}.py: one call for all requests of a batch."""

import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))
from {module} import {function}

INPUTS = {inputs!r}
OUTPUTS = {outputs!r}


class TritonPythonModel:
    def execute(self, requests):
        """A response for each request, in their order."""
        tensors = [
            {{name: pb_utils.get_input_tensor_by_name(r, name).as_numpy() for name in INPUTS}}
            for r in requests
        ]
        sizes = [len(each[INPUTS[0]]) for each in tensors]
        joined = {{name: np.concatenate([each[name] for each in tensors]) for name in INPUTS}}
        results = {function}(**joined)
        if not isinstance(results, dict):
            results = {{OUTPUTS[0]: results}}
        ends = np.cumsum(sizes)[:-1]
        parts = {{name: np.split(_array(results[name]), ends) for name in OUTPUTS}}
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(n, parts[n][i]) for n in OUTPUTS])
            for i in range(len(requests))
        ]


def _array(value):
    """Texts as Triton takes them: as objects."""
    array = np.asarray(value)
    return array.astype(np.object_) if array.dtype.kind in "US" else array
'''
_DATATYPES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.float16): "FP16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
    **{np.dtype(f"int{bits}"): f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{np.dtype(f"uint{bits}"): f"UINT{bits}" for bits in (8, 16, 32, 64)},
}


def draft_of_function(
    source: Path, function: str, name: str, inputs: tuple[TensorSpec, ...], largest: int
) -> Draft:
    """A function of arrays by name, each with the batch in front, that returns an array or arrays
    by name. What it gives is found by calling it. UsageError where it does not work like that.
    """
    if not inputs:
        raise UsageError(
            f"{source} says nothing of what {function} takes: name each input with its type and "
            "the shape of an item, as in --input x:FP32:4"
        )
    run = _runner(_load(source), function, source)
    asked = Signature(name, inputs, (), largest)
    tensors = make_inputs(asked, {}, np.random.default_rng(0), 1)[0]
    found = run({tensor.name: tensor.array for tensor in tensors})
    outputs = tuple(_output(key, array, source) for key, array in found.items())
    module = source.stem
    text = _MODEL.format(
        module=module,
        function=function,
        inputs=[spec.name for spec in inputs],
        outputs=[spec.name for spec in outputs],
    )
    return Draft(
        Signature(name, inputs, outputs, largest),
        ('backend: "python"',),
        {f"1/{source.name}": source},
        run,
        {"1/model.py": text},
    )


def _load(source: Path) -> ModuleType:
    name = source.stem
    if not name.isidentifier() or name == "model":
        raise UsageError(f"{source} has to have a module's name, other than model.py")
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(source.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's own code raises
        raise UsageError(f"{source} cannot be imported: {shortened(repr(error))}") from error
    finally:
        sys.path.remove(str(source.parent))
    return module


def _runner(module: ModuleType, function: str, source: Path) -> Run:
    call = getattr(module, function, None)
    if not callable(call):
        raise UsageError(f"{source} has no function {shown(function)}")

    def run(inputs: Arrays) -> Arrays:
        try:
            found: Any = call(**inputs)
        except Exception as error:  # whatever the user's own code raises
            raise UsageError(f"{function} of {source} fails: {shortened(repr(error))}") from error
        results = found if isinstance(found, Mapping) else {"output": found}
        return {str(key): np.asarray(value) for key, value in results.items()}

    return run


def _output(name: str, array: np.ndarray[Any, Any], source: Path) -> TensorSpec:
    if array.ndim < 1 or len(array) != 1:
        raise UsageError(
            f"{source}: the output {name} of one item has the shape {array.shape}; its first "
            "dimension has to be the batch, 1"
        )
    is_text = array.dtype.kind in "OSU"
    datatype = "BYTES" if is_text else _DATATYPES.get(array.dtype)
    if datatype is None:
        raise UsageError(f"{source}: the output {name} is of {array.dtype}, which Triton lacks")
    return TensorSpec(name, datatype, tuple(array.shape[1:]))
