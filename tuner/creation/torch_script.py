"""A repository's model out of TorchScript, which says what its inputs are called, and no more."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.creation.draft import Draft, Wanted
from tuner.creation.pytorch import draft_of_converted, output_names, quiet, torch_run
from tuner.errors import UsageError
from tuner.load.inputs import make_inputs
from tuner.model.signature import Signature, TensorSpec
from tuner.text import shortened, shown

_NOT_NUMBERS = ("BYTES", "BF16")


def draft_of_script(path: Path, wanted: Wanted, scratch: Path) -> Draft:
    """``wanted.inputs`` are all that ``forward`` takes; UsageError names what is missing."""
    module = _load(path)
    specs = _inputs(module, wanted.inputs, path)
    inputs = [spec.name for spec in specs]
    example = _example(Signature(wanted.name, specs, (), wanted.largest))
    result = _called(module, example, path, wanted.largest > 0)
    outputs = output_names(result, inputs)

    def convert(target: Path) -> object:
        # The exporter that PyTorch recommends takes no TorchScript; this one still does, with its
        # branches and loops. The model is then served like every other, without PyTorch.
        batch = {name: {0: "batch"} for name in (*inputs, *outputs)} if wanted.largest else None
        return torch.onnx.export(
            module,
            tuple(example),
            target,
            dynamo=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=batch,
        )

    run = torch_run(lambda tensors: module(*tensors), inputs, outputs)
    return draft_of_converted(path, wanted, convert, run, scratch)


def _load(path: Path) -> Any:
    try:
        with quiet():
            return torch.jit.load(str(path), "cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        raise UsageError(f"{path} is not TorchScript: {shortened(str(error))}") from error


def _inputs(module: Any, given: tuple[TensorSpec, ...], path: Path) -> tuple[TensorSpec, ...]:
    """In the order of ``forward``'s arguments."""
    arguments = module.forward.schema.arguments[1:]
    about = f"{path}: its forward takes ({', '.join(f'{a.name}: {a.type}' for a in arguments)})"
    if not arguments or any(str(each.type) != "Tensor" for each in arguments):
        raise UsageError(
            f"{about}, and requests hold tensors alone; script a module that takes nothing else"
        )
    specs, names = {spec.name: spec for spec in given}, [each.name for each in arguments]
    missing = " ".join(f"--input {name}:FP32:3,224,224" for name in names if name not in specs)
    if missing:
        raise UsageError(
            f"{about}, but TorchScript says neither types nor shapes: name them for an item, "
            f"without the batch, as in {missing}"
        )
    for spec in given:
        if spec.name not in names:
            raise UsageError(f"{about}, and no {shown(spec.name)}: correct --input")
        if spec.datatype in _NOT_NUMBERS:
            raise UsageError(f"{path}: PyTorch has no {spec.datatype}: correct --input {spec.name}")
    return tuple(specs[name] for name in names)


def _example(signature: Signature) -> list[torch.Tensor]:
    """Two items: what is computed from a batch of one may be taken for a constant."""
    item = make_inputs(signature, {}, np.random.default_rng(0), 1)[0]
    arrays = [
        np.repeat(each.array, 2, axis=0) if signature.batched else each.array for each in item
    ]
    return [torch.tensor(array) for array in arrays]


def _called(module: Any, example: list[torch.Tensor], path: Path, batched: bool) -> Any:
    try:
        with torch.no_grad():
            return module(*example)
    except Exception as error:  # TorchScript's own errors share no base
        shapes = ", ".join(str(list(each.shape)) for each in example)
        advice = "; if it has no batch, --max-batch-size 0" if batched else ""
        raise UsageError(
            f"{path} does not take tensors of the shapes {shapes}: {shortened(str(error))}; "
            f"correct --input{advice}"
        ) from error
