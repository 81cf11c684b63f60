"""Tensors between numpy and the bytes of KServe's v2 protocol, and whether they fit a model."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from tuner.client.errors import InvalidInput, ServerError
from tuner.documents import MALFORMED
from tuner.errors import ModelConfigError
from tuner.model.signature import Arrays, Signature, TensorSpec
from tuner.text import shortened, shown

Array = np.ndarray[Any, Any]
Buffer = bytes | memoryview

_LENGTH = struct.Struct("<I")
_TEXT = "OSU"  # numpy's kinds that BYTES is made of


def check(signature: Signature, inputs: Arrays) -> list[tuple[TensorSpec, Array]]:
    """The inputs in the model's order; InvalidInput, which names the tensor, where they do not fit.

    Whether the batch is too large is left to the server, whose limit may have changed.
    """
    checked: list[tuple[TensorSpec, Array]] = []
    batch: int | None = None
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None:
            if not spec.optional:
                raise InvalidInput(f"input {spec.name!r} is missing; {_takes(signature)}")
            continue
        _check_type(spec, array)
        shape = array.shape
        if signature.batched:
            batch = _check_batch(spec, shape, batch)
            shape = shape[1:]
        if not spec.fits(shape):
            raise InvalidInput(
                f"input {spec.name!r} has shape {list(array.shape)}; "
                f"the model takes {_shape(spec, signature.batched)}"
            )
        checked.append((spec, array))
    if len(checked) != len(inputs):
        known = {spec.name for spec in signature.inputs}
        wrong = next(name for name in inputs if name not in known)
        raise InvalidInput(f"there is no input {wrong!r}; {_takes(signature)}")
    return checked


def _check_type(spec: TensorSpec, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise InvalidInput(
            f"input {spec.name!r} is a {type(array).__name__}; pass a numpy array of {spec.dtype}"
        )
    fits = array.dtype.kind in _TEXT if spec.datatype == "BYTES" else array.dtype == spec.dtype
    if not fits:
        raise InvalidInput(
            f"input {spec.name!r} has type {array.dtype}; the model takes {spec.datatype}: "
            f"convert it to {spec.dtype}"
        )


def _check_batch(spec: TensorSpec, shape: tuple[int, ...], batch: int | None) -> int:
    if not shape or shape[0] == 0:
        raise InvalidInput(
            f"input {spec.name!r} has shape {list(shape)}: the first dimension is the batch and "
            "must be at least 1"
        )
    if batch is not None and shape[0] != batch:
        raise InvalidInput(
            f"input {spec.name!r} holds {shape[0]} items, a previous input {batch}; all inputs "
            "need the same batch size"
        )
    return shape[0]


def _shape(spec: TensorSpec, batched: bool) -> list[str | int]:
    return [*(["batch"] if batched else []), *spec.dims]


def _takes(signature: Signature) -> str:
    inputs = (
        f"{spec.name} ({spec.datatype} {_shape(spec, signature.batched)}"
        f"{', optional' if spec.optional else ''})"
        for spec in signature.inputs
    )
    return f"{signature.model} takes {', '.join(inputs)}"


def as_item(signature: Signature, item: Mapping[str, Any]) -> dict[str, Array]:
    """One item as arrays: lists and numbers are converted, if nothing is lost by it.

    InvalidInput if a value does not convert, or does not fit the model.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    arrays = {
        name: _converted(specs[name], value) if name in specs else np.asarray(value)
        for name, value in item.items()
        if value is not None
    }
    # Joined as a batch of one, an item is checked by what checks a batch.
    check(
        signature,
        {name: array[None] for name, array in arrays.items()} if signature.batched else arrays,
    )
    return arrays


def _converted(spec: TensorSpec, value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if spec.datatype == "BYTES":
        return np.asarray(value, dtype=object)
    try:
        array = np.asarray(value)
        with np.errstate(over="raise", invalid="raise"):
            converted = array.astype(spec.dtype)
    except (ValueError, TypeError, OverflowError, FloatingPointError) as error:
        raise InvalidInput(f"input {spec.name!r} is not {spec.datatype}: {error}") from error
    if array.dtype.kind not in "biuf" or (
        spec.dtype.kind in "biu" and not np.array_equal(converted, array)
    ):
        raise InvalidInput(f"input {spec.name!r} contains values that are not {spec.datatype}")
    return converted


def to_buffer(spec: TensorSpec, array: Array) -> Buffer:
    """Row by row, little endian; without a copy where the array is laid out like that already."""
    if spec.datatype == "BYTES":
        return _join_texts(array)
    if spec.datatype == "BF16":
        return _rounded_to_bf16(array).tobytes()
    if array.size == 0 or array.ndim == 0:  # which memoryview.cast does not take
        return array.tobytes()
    return np.ascontiguousarray(array).data.cast("B")


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """A read-only view of the bytes, but for BYTES (an array of ``bytes``) and BF16 (float32).

    ServerError if they are not what type and shape say.
    """
    try:
        if datatype == "BYTES":
            return _split_texts(raw).reshape(shape)
        if datatype == "BF16":
            wide = np.frombuffer(raw, np.uint16).astype(np.uint32) << np.uint32(16)
            return wide.view(np.float32).reshape(shape)
        return np.frombuffer(raw, TensorSpec(name, datatype, ()).dtype).reshape(shape)
    except (*MALFORMED, struct.error, ModelConfigError) as error:
        raise ServerError(
            f"output {shown(name)} has {len(raw)} bytes, which do not match "
            f"{shortened(str(datatype))} {shown(list(shape))}"
        ) from error


def _rounded_to_bf16(array: Array) -> Array:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def _join_texts(array: Array) -> bytes:
    parts: list[bytes] = []
    for value in array.ravel().tolist():
        text = value if isinstance(value, bytes) else str(value).encode()
        parts.append(_LENGTH.pack(len(text)))
        parts.append(text)
    return b"".join(parts)


def _split_texts(raw: bytes) -> Array:
    texts: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise ValueError("the last text is cut off")
        texts.append(raw[start:at])
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array
