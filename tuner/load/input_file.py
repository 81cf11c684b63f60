"""Inputs of requests from a file in perf_analyzer's JSON format.

``{"data": [{"INPUT": [1, 2]}, …]}``. A tensor is a flat or nested list, ``{"b64": "…"}`` with
Triton's binary form, or either of them as ``content`` beside a ``shape``. Entries may be grouped in
streams, which are read one after the other.
"""

import base64
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson
import numpy as np

from tuner.errors import InputDataError
from tuner.load.batches import BatchMix
from tuner.load.inputs import (
    POOL,
    Shapes,
    check_batched,
    check_names,
    fitting,
    item_shapes,
    mix_inputs,
    sendable,
)
from tuner.load.target import Tensor
from tuner.model.signature import Signature, TensorSpec
from tuner.model.space import did_you_mean

_LENGTH = struct.Struct("<I")
_KEYS = {"content", "shape", "b64"}
_SINGLE = BatchMix()
_Array = np.ndarray[Any, Any]


def read_inputs(
    path: Path,
    signature: Signature,
    shapes: Shapes,
    batches: BatchMix = _SINGLE,
    seed: int = 0,
) -> list[list[Tensor]]:
    """The requests of a file, used in turn: as many from its beginning as fit into ``POOL.size``.

    Each entry is one item, without a batch dimension; where ``batches`` says more than one,
    ``mix_inputs`` joins them, in an order of sizes from ``seed``. Optional inputs may be left out.
    ``shapes`` are for inputs with open dimensions whose content does not tell its shape.
    InputDataError, with the place, for what is not this format or does not fit the model.
    """
    check_batched(signature, batches)
    check_names(shapes, signature)
    pool, size = [], 0
    try:
        for where, entry in _entries(path):
            pool.append(_Entry(entry, where, signature, shapes).tensors())
            size += sum(len(tensor.raw()) for tensor in pool[-1])
            if size > POOL.size:
                break
    except OSError as error:
        raise InputDataError(f"cannot read --input-data {path}: {error.strerror}") from error
    except (ijson.JSONError, ValueError, ArithmeticError) as error:
        raise InputDataError(f"--input-data {path} is not JSON: {_line(error)}") from error
    if not pool:
        raise InputDataError(f'--input-data {path} needs a list "data" with at least one entry')
    if batches == _SINGLE:
        return pool
    return mix_inputs(pool, batches, np.random.default_rng(seed))


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Each entry with its place; the file is never in memory as a whole."""
    number = 0
    with path.open("rb") as file:
        for group in ijson.items(file, "data.item", use_float=True):
            for entry in group if isinstance(group, list) else (group,):
                yield f"--input-data {path}, entry {number}", entry
                number += 1


class _Entry:
    """One item of the file."""

    def __init__(self, entry: Any, where: str, signature: Signature, shapes: Shapes) -> None:
        if not isinstance(entry, dict):
            raise InputDataError(f"{where}: an entry maps input names to their content")
        known = [spec.name for spec in signature.inputs]
        for name in entry:
            if name not in known:
                hint = did_you_mean(name, sorted(known))
                raise InputDataError(f"{where}: {signature.model} has no input {name!r}{hint}")
        self._entry, self._where, self._signature, self._shapes = entry, where, signature, shapes

    def tensors(self) -> list[Tensor]:
        found = []
        for spec in self._signature.inputs:
            if spec.name in self._entry:
                array = self._array(spec)
                array = array[np.newaxis] if self._signature.batched else array
                found.append(Tensor(spec.name, spec.datatype, array))
            elif not spec.optional:
                raise InputDataError(f"{self._where}: input {spec.name!r} is missing")
        if not found:
            raise InputDataError(f"{self._where}: it holds no input")
        return found

    def _array(self, spec: TensorSpec) -> _Array:
        content: Any = self._entry[spec.name]
        given = None
        try:
            if isinstance(content, dict):
                content, given = _parts(content)
            array = _decoded(content, spec)
            shape = self._shape(spec, array, given)
            return array.reshape(shape)
        except (ValueError, TypeError, OverflowError) as error:
            wanted = list(spec.dims) if given is None else given
            raise InputDataError(
                f"{self._where}: input {spec.name!r} does not make a {spec.datatype} tensor of "
                f"shape {wanted}: {_line(error)}"
            ) from error

    def _shape(self, spec: TensorSpec, array: _Array, given: Any) -> tuple[int, ...]:
        if given is not None:
            if not isinstance(given, list) or not all(type(size) is int for size in given):
                raise ValueError("its shape is not a list of whole numbers")
            return fitting(tuple(given), spec, f"{self._where}: tensor of shape ")
        if spec.name in self._shapes or all(size >= 0 for size in spec.dims):
            return self._shapes.get(spec.name, spec.dims)
        if spec.fits(array.shape):
            return array.shape
        known = math.prod(size for size in spec.dims if size >= 0)
        if spec.dims.count(-1) == 1 and known and array.ndim == 1 and array.size % known == 0:
            return tuple(size if size >= 0 else array.size // known for size in spec.dims)
        try:
            return item_shapes([spec], {}, self._signature)[spec.name]
        except InputDataError as error:
            raise InputDataError(f'{self._where}: {error}, or "shape" beside "content"') from error


def _parts(content: dict[str, Any]) -> tuple[Any, Any]:
    """What stands for the tensor, and the shape beside it."""
    unknown = sorted(set(content) - _KEYS)
    if unknown or ("b64" in content) == ("content" in content):
        raise ValueError('an object holds either "b64" or "content", and "shape" if need be')
    if "b64" in content:
        return {"b64": content["b64"]}, content.get("shape")
    return content["content"], content.get("shape")


def _decoded(content: Any, spec: TensorSpec) -> _Array:
    if isinstance(content, dict):
        if set(content) != {"b64"} or not isinstance(content["b64"], str):
            raise ValueError('base64 is written as {"b64": "…"}')
        raw = base64.b64decode(content["b64"], validate=True)
        return _of_bytes(raw, spec)
    if not isinstance(content, list):
        raise ValueError('it is neither a list nor {"b64": "…"}')
    return _strings(content) if spec.datatype == "BYTES" else _numbers(content, spec)


def _of_bytes(raw: bytes, spec: TensorSpec) -> _Array:
    """A tensor in Triton's binary form, flat: little-endian; each string after its length."""
    if spec.datatype == "BYTES":
        found, place = [], 0
        while place < len(raw):
            length = _LENGTH.unpack_from(raw, place)[0] if len(raw) - place >= 4 else math.inf
            place += _LENGTH.size
            if length > len(raw) - place:
                raise ValueError("each string is 4 bytes with its length, little-endian, then it")
            found.append(raw[place : place + int(length)])
            place += int(length)
        strings = np.empty(len(found), dtype=np.object_)
        strings[:] = found
        return strings
    if spec.datatype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, dtype=sendable(spec))


def _strings(content: list[Any]) -> _Array:
    words = np.array(content, dtype=np.object_)
    if not _types(words) <= {str}:
        raise ValueError("it holds something other than strings")
    encoded = np.empty(words.size, dtype=np.object_)
    encoded[:] = [str(word).encode() for word in words.flat]
    return encoded.reshape(words.shape)


def _numbers(content: list[Any], spec: TensorSpec) -> _Array:
    if not _types(np.array(content, dtype=np.object_)) <= {bool, int, float}:
        raise ValueError("it holds something other than numbers")
    array = np.array(content)
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(sendable(spec))
    if np.issubdtype(converted.dtype, np.integer) and not np.array_equal(converted, array):
        raise ValueError(f"some of its numbers are not {spec.datatype}")
    return converted


def _types(array: _Array) -> set[type]:
    return {type(each) for each in array.flat}


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
