"""What PyTorch's models share: their conversion to ONNX, and their own answers as arrays."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxscript  # noqa: F401  torch.onnx needs it, and would miss it only in the middle of its work
import torch
from torch.utils._pytree import tree_flatten_with_path, tree_leaves

from tuner.creation.batches import checked_batches
from tuner.creation.draft import Draft, Run, Wanted, not_taken
from tuner.creation.onnx import draft_of_onnx
from tuner.errors import UsageError
from tuner.text import shortened


def draft_of_converted(
    source: Path, wanted: Wanted, convert: Callable[[Path], object], run: Run, scratch: Path
) -> Draft:
    """Served as ONNX, which Triton runs faster and without PyTorch; ``run`` is what its answers are
    held against. UsageError where the model has no form in ONNX.
    """
    target = scratch / "model.onnx"
    try:
        with quiet():
            convert(target)
        draft = draft_of_onnx(target, wanted.name, wanted.largest)
    except Exception as error:  # the exporter's classes share no base
        raise UsageError(
            f"{source} has no form that ONNX Runtime runs: {shortened(_cause(error))}; export it "
            "in float32, or name a function that calls it: service.py:predict with --input"
        ) from error
    return replace(checked_batches(draft, target, wanted.shapes), run=run)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what PyTorch says of its own future, and of packages that it could use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def torch_run(
    call: Callable[[list[torch.Tensor]], Any], inputs: Sequence[str], outputs: Sequence[str]
) -> Run:
    """``call`` takes the inputs in their order; ``outputs`` are names for its result's tensors."""

    def run(arrays: Any) -> dict[str, np.ndarray[Any, Any]]:
        try:
            with torch.no_grad():
                result = call([torch.tensor(arrays[name]) for name in inputs])
            found = [
                each.detach().numpy()
                for each in tree_leaves(result)
                if isinstance(each, torch.Tensor)
            ]
            return dict(zip(outputs, found, strict=True))
        except Exception as error:  # whatever the model's own code raises
            raise not_taken(error) from error

    return run


def output_names(result: Any, inputs: Sequence[str]) -> list[str]:
    """Of the tensors in a result, however it nests them: a dictionary's keys, ``output_0`` in a
    tuple, ``output`` alone. None of them is an input's name, which ONNX would not take.
    """
    names = []
    for path, leaf in tree_flatten_with_path(result)[0]:
        if not isinstance(leaf, torch.Tensor):
            continue
        words = [str(getattr(key, "key", getattr(key, "idx", ""))) for key in path]
        if not words or words[0].isdecimal() or "_".join(words) in inputs:
            words.insert(0, "output")
        names.append("_".join(words))
    return names


def _cause(error: BaseException) -> str:
    """The exporter wraps what went wrong in advice on how to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
