"""A model repository out of a model file: written, served once, and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tuner.commands.options import InitOptions
from tuner.creation.draft import Draft
from tuner.creation.function import draft_of_function
from tuner.creation.onnx import draft_of_onnx, joins_batches
from tuner.creation.serve import differences
from tuner.errors import ServerFailed, UsageError
from tuner.model.config import check_config, check_name, parse_config
from tuner.model.signature import TensorSpec
from tuner.scratch import scratch_folder
from tuner.servers.choose import choose, make_launcher
from tuner.servers.container_spec import ContainerSpec

_HINTS = {
    **dict.fromkeys(
        (".pt", ".pth", ".pt2"),
        "a PyTorch file does not say what it takes; export it to ONNX with torch.onnx.export and "
        "dynamic axes for the batch, or name a function that calls it: service.py:predict",
    ),
    **dict.fromkeys(
        (".h5", ".keras", ".pb", ".tflite"),
        "export it to ONNX with tf2onnx, or name a function that calls it: service.py:predict",
    ),
    **dict.fromkeys(
        (".joblib", ".pkl"),
        "export it to ONNX with skl2onnx (zipmap=False), or name a function that calls it: "
        "service.py:predict",
    ),
    **dict.fromkeys(
        (".safetensors", ".bin", ".gguf"),
        "these are weights without a model; export the model to ONNX, of transformers with "
        "optimum-cli export onnx",
    ),
}


@dataclass(frozen=True)
class Created:
    """The model's ``folder``; ``served`` says by what it was, None if it was not."""

    folder: Path
    notes: tuple[str, ...]
    served: str | None
    command: str


def create(source: str, options: InitOptions) -> Created:
    """UsageError where the source does not tell enough, with what to add; ServerFailed where the
    server does not take the model, or answers otherwise than its own runtime. Nothing is written
    then.
    """
    path, _, function = source.partition(":")
    name = options.name or (function if function else Path(path).stem)
    check_name(name)
    shapes = dict(options.shapes)
    draft = _draft(Path(path), function, name, options, shapes)
    check_config(parse_config(draft.config(), "the new config.pbtxt"), name)
    samples = draft.samples(shapes, np.random.default_rng(0))
    target = options.repository / name
    served = None
    with scratch_folder("init") as scratch:
        staged = Path(scratch) / "models"
        draft.write(staged / name, samples)
        if options.serve:
            kind = choose(options.launcher, options.image, None)
            container = ContainerSpec(image=options.image)
            with make_launcher(kind, container, None, None) as launcher:
                found = differences(draft, staged, samples, launcher, Path(scratch) / "server.log")
                served = launcher.describe().get("server") or options.image
            if found:
                listed = "; ".join(found)
                raise ServerFailed(f"the server answers otherwise than the runtime: {listed}")
        draft.write(target, samples)
    command = f"tuner search {target} --sla-p99 DURATION --input-data {target / 'inputs.json'}"
    return Created(target, draft.notes, served, command)


def _draft(
    path: Path,
    function: str,
    name: str,
    options: InitOptions,
    shapes: Mapping[str, tuple[int, ...]],
) -> Draft:
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if path.suffix == ".py":
        if not function:
            raise UsageError(f"{path}: name the function, too, as in {path}:predict")
        inputs = tuple(TensorSpec(*each) for each in options.inputs)
        return draft_of_function(path, function, name, inputs, max(1, options.max_batch_size))
    if path.suffix != ".onnx":
        hint = _HINTS.get(
            path.suffix, "give an ONNX file, or a Python function: service.py:predict"
        )
        if path.is_dir():
            hint = "a folder is no model file: of transformers, use optimum-cli export onnx first"
        raise UsageError(f"{path}: {hint}")
    draft = draft_of_onnx(path, name, options.max_batch_size)
    if draft.signature.batched and not joins_batches(draft, shapes):
        draft = draft_of_onnx(path, name, 0)
        note = (
            "the first dimension is open, but two items together do not give what they give alone: "
            "so it is no batch"
        )
        draft = replace(draft, notes=(note,))
    return draft
