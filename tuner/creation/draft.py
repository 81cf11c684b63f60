"""A model that is about to be written: its files, its configuration, and what it answers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import StorageError, UsageError
from tuner.load.inputs import Shapes, make_inputs
from tuner.load.target import Tensor
from tuner.model.files import copy_model
from tuner.model.signature import Arrays, Signature, TensorSpec
from tuner.text import shortened

SAMPLES = 4
"""Requests in the file of sample inputs: each is held against the runtime's own answer."""
INPUTS = "inputs.json"
Run = Callable[[Arrays], Arrays]
"""The model's own runtime: inputs by name to outputs by name, both with the batch, if any."""


@dataclass(frozen=True)
class Wanted:
    """What the user says of the model: ``inputs`` that a file does not name, ``shapes`` of items
    where dimensions are open, and the ``largest`` batch, 0 for a model without one.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    shapes: Shapes
    largest: int


@dataclass(frozen=True)
class Draft:
    """``head`` are the lines of config.pbtxt that say how Triton runs the model. ``files`` maps
    paths in the model's folder to what is copied there, ``texts`` to what is written. ``run`` is
    the model in its own runtime, None where this machine has none. ``notes`` are for the user.
    ``shapes`` are those of the sample inputs where the user names no other. ``scalars`` are tensors
    of dims ``[1]`` that the model has without them.
    """

    signature: Signature
    head: tuple[str, ...]
    files: Mapping[str, Path]
    run: Run | None
    texts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shapes: Shapes = field(default_factory=dict)
    scalars: frozenset[str] = frozenset()

    def config(self) -> str:
        """The text of config.pbtxt: all that is known is written out."""
        signature = self.signature
        lines = [f'name: "{signature.model}"', *self.head, ""]
        if signature.batched:
            lines.append(
                "# Triton puts the batch in front of the dims below; up to this many items."
            )
        else:
            lines.append("# The model has no batch dimension: requests are executed one by one.")
        lines += [f"max_batch_size: {signature.max_batch_size}", ""]
        lines += [self._tensor("input", spec) for spec in signature.inputs]
        lines += [self._tensor("output", spec) for spec in signature.outputs]
        if signature.batched:
            lines += [
                "",
                "# Put single requests together; tuner finds how.",
                "dynamic_batching { }",
            ]
        lines += ["", "instance_group [ { count: 1 kind: KIND_AUTO } ]"]
        return "\n".join(lines) + "\n"

    def _tensor(self, kind: str, spec: TensorSpec) -> str:
        name = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
        dims = f"dims: [ {', '.join(map(str, spec.dims))} ]"
        if spec.name in self.scalars:
            dims += " reshape { shape: [ ] }"
        return f'{kind} [ {{ name: "{spec.name}" data_type: {name} {dims} }} ]'

    def samples(self, shapes: Shapes, rng: np.random.Generator) -> list[list[Tensor]]:
        return make_inputs(self.signature, {**self.shapes, **shapes}, rng, SAMPLES)

    def write(self, folder: Path, samples: list[list[Tensor]]) -> None:
        """The model's folder, which must not exist; UsageError if it does."""
        if folder.exists():
            raise UsageError(f"{folder} exists; choose another --name or --to")
        try:
            for path, source in self.files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    copy_model(source, folder / path)
                else:
                    (folder / path).write_bytes(source.read_bytes())
            for path, text in {"config.pbtxt": self.config(), **self.texts}.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
            (folder / INPUTS).write_text(_inputs(samples, self.signature.batched), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error


def not_taken(error: Exception) -> UsageError:
    """Of a model's own runtime, which refuses the sample inputs."""
    return UsageError(
        f"the model does not take made-up inputs (floats from 0 to 1, integers 0 and 1): "
        f"{shortened(str(error))}; --shape sets their sizes"
    )


def _inputs(samples: list[list[Tensor]], batched: bool) -> str:
    """In perf_analyzer's format: an entry for each item."""
    entries = []
    for tensors in samples:
        entry: dict[str, Any] = {}
        for tensor in tensors:
            array = tensor.array[0] if batched else tensor.array
            values = array.ravel()
            if tensor.datatype == "BYTES":
                content = [each.decode() if isinstance(each, bytes) else each for each in values]
            else:
                content = values.tolist()
            entry[tensor.name] = {"content": content, "shape": list(array.shape)}
        entries.append(entry)
    return json.dumps({"data": entries}, ensure_ascii=False) + "\n"
