"""A model's signature: names, data types and shapes of its tensors, and its largest batch.

It comes from a config.pbtxt, or from what a server says of the model (KServe's v2 protocol).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from tuner.documents import MALFORMED
from tuner.errors import ModelConfigError
from tuner.text import shortened

Arrays = Mapping[str, np.ndarray[Any, Any]]
"""Tensors by name, each with the batch as its first dimension."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of an item: ``datatype`` is Triton's (``INT64``, ``BYTES``); ``dims`` are without
    the batch, -1 where a dimension is open.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """As arrays hold it: object for BYTES, float32 for BF16."""
        if self.datatype == "BF16":
            return np.dtype(np.float32)
        dtype = triton_to_np_dtype(self.datatype)
        if dtype is None:
            raise ModelConfigError(
                f"tensor {self.name}: unknown data type {shortened(self.datatype)}"
            )
        return np.dtype(dtype)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an item's shape, without the batch, is one that the model takes."""
        return len(shape) == len(self.dims) and all(
            want in (-1, size) for want, size in zip(self.dims, shape, strict=True)
        )


@dataclass(frozen=True)
class Signature:
    """``max_batch_size`` 0 means that the model has no batch dimension."""

    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0

    @property
    def batched(self) -> bool:
        return self.max_batch_size > 0

    @classmethod
    def of_config(cls, config: Any) -> "Signature":
        """From a ModelConfig message, as ``model_config.read_config`` gives it."""
        return cls(
            config.name,
            tuple(_of_entry(entry, bool(entry.optional)) for entry in config.input),
            tuple(_of_entry(entry) for entry in config.output),
            int(config.max_batch_size),
        )

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> "Signature":
        """From a server's ``v2/models/M`` and ``v2/models/M/config``, both as JSON.

        ModelConfigError if they are not of the form of Triton's.
        """
        try:
            return cls._of_json(metadata, config)
        except MALFORMED as error:
            raise ModelConfigError(
                f"the description of the model is not in Triton's format: {shortened(repr(error))}"
            ) from error

    @classmethod
    def _of_json(cls, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> "Signature":
        largest = int(config.get("max_batch_size", 0))
        optional = {e["name"] for e in config.get("input", ()) if e.get("optional")}
        first = 1 if largest > 0 else 0

        def spec(entry: Mapping[str, Any]) -> TensorSpec:
            dims = tuple(int(size) for size in entry["shape"])[first:]
            name, datatype = str(entry["name"]), str(entry["datatype"])
            return TensorSpec(name, datatype, dims, entry["name"] in optional)

        return cls(
            str(metadata["name"]),
            tuple(map(spec, metadata["inputs"])),
            tuple(map(spec, metadata["outputs"])),
            largest,
        )


def _of_entry(entry: Any, optional: bool = False) -> TensorSpec:
    from tritonclient.grpc import model_config_pb2

    try:
        name = model_config_pb2.DataType.Name(entry.data_type).removeprefix("TYPE_")
    except ValueError as error:  # any number is taken where a name is meant
        raise ModelConfigError(
            f"tensor {shortened(entry.name)}: unknown data type {entry.data_type}"
        ) from error
    datatype = "BYTES" if name == "STRING" else name
    return TensorSpec(entry.name, datatype, tuple(int(d) for d in entry.dims), optional)
