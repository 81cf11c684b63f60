"""Inputs of requests from a file in perf_analyzer's JSON format.

``{"data": [{"INPUT": [1, 2]}, …]}``. A tensor is a flat or nested list, ``{"b64": "…"}`` with
Triton's binary form, or either of them as ``content`` beside a ``shape``. Entries may be grouped in
streams, which are read one after the other.
"""

import base64
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ijson
import numpy as np

from tuner.documents import opened
from tuner.errors import DocumentError, InputDataError
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
from tuner.text import shortened, shown

_LENGTH = struct.Struct("<I")
_KEYS = {"content", "shape", "b64"}
_SINGLE = BatchMix()
_Array = np.ndarray[Any, Any]
_Events = Iterator[tuple[str, Any]]


@dataclass(frozen=True)
class EntryLimits:
    """What one entry may take: it is in memory as a whole, as Python's objects."""

    text: int = 256 << 20
    """Bytes: a tensor of 190 MB in base64."""
    values: int = 32_000_000
    """Numbers, strings, lists and objects: a gigabyte and a half of them."""
    piece: int = 8 << 20
    """Bytes to read at a time at most: what is read ahead counts as the entry's."""
    depth: int = 64
    """Levels of nesting; numpy knows 32 dimensions."""


LIMITS = EntryLimits()
_CONTAINERS: dict[str, Callable[[], Any]] = {"start_map": dict, "start_array": list}
_ENDS = ("end_map", "end_array")


def read_inputs(
    path: Path,
    signature: Signature,
    shapes: Shapes,
    batches: BatchMix = _SINGLE,
    seed: int = 0,
) -> list[list[Tensor]]:
    """The requests of a file, used in turn: as many from its beginning as
    ``POOL`` has room for.

    Each entry is one item, without a batch dimension; where ``batches`` says more than one,
    ``mix_inputs`` joins them, in an order of sizes from ``seed``. Optional inputs may be left out.
    ``shapes`` are for inputs with open dimensions whose content does not tell its shape.
    InputDataError, with the place, for what is not this format or does not fit the model.
    """
    check_batched(signature, batches)
    check_names(shapes, signature)
    pool, size = [], 0
    name = shortened(str(path))
    try:
        for where, entry in _entries(path):
            pool.append(_Entry(entry, where, signature, shapes).tensors())
            size += sum(len(tensor.raw()) for tensor in pool[-1])
            if size > POOL.size or len(pool) == POOL.entries:
                break
    except DocumentError as error:
        raise InputDataError(f"cannot read --input-data {name}: {error}") from error
    except OSError as error:
        raise InputDataError(f"cannot read --input-data {name}: {error.strerror}") from error
    except (ijson.JSONError, ValueError, ArithmeticError) as error:
        raise InputDataError(f"--input-data {name} is not JSON: {_line(error)}") from error
    if not pool:
        raise InputDataError(f'--input-data {name} needs a list "data" with at least one entry')
    if batches == _SINGLE:
        return pool
    return mix_inputs(pool, batches, np.random.default_rng(seed))


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Each entry with its place; the file is never in memory as a whole."""
    name = f"--input-data {shortened(str(path))}"
    with opened(path) as file:
        for number, entry in enumerate(_Reader(file, name).entries()):
            yield f"{name}, entry {number}", entry


class _Reader:
    """Reads the entries of the list ``data``, out of streams, too, one after the other."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self._number = self._taken = self._silent = 0

    def read(self, size: int = -1) -> bytes:
        """For ijson; InputDataError if it has asked for more than an entry may have.

        It gets twice as much each time while it has nothing to tell: it begins a long string anew
        with every piece.
        """
        content = self._file.read(max(size, min(self._silent, LIMITS.piece)))
        self._silent += len(content)
        self._taken += len(content)
        if self._taken > LIMITS.text:
            raise self._too_large(f"more than {LIMITS.text >> 20} MiB of text")
        return content

    def entries(self) -> Iterator[Any]:
        events: _Events = ijson.basic_parse(self, use_float=True)
        level, is_data, inside = 0, False, False
        for event, value in events:
            self._taken = self._silent = 0
            if inside and event == "start_array":
                yield from self._stream(events)
            elif inside and event == "end_array":
                level, inside = level - 1, False
            elif inside:
                yield self._built(events, event, value)
            elif event == "map_key":
                is_data = level == 1 and value == "data"
            elif event in _CONTAINERS:
                inside = is_data and event == "start_array"
                level, is_data = level + 1, False
            elif event in _ENDS:
                level -= 1

    def _stream(self, events: _Events) -> Iterator[Any]:
        for event, value in events:
            if event == "end_array":
                return
            yield self._built(events, event, value)

    def _built(self, events: _Events, event: str, value: Any) -> Any:
        """The value that begins with this event; the events up to its end are taken."""
        self._taken, self._number = 0, self._number + 1
        if event not in _CONTAINERS:
            return value
        holders, keys = [_CONTAINERS[event]()], [""]
        whole = holders[0]
        count = 0
        for event, value in events:
            self._silent = 0
            if event == "map_key":
                keys[-1] = value
                continue
            if event in _ENDS:
                holders.pop()
                keys.pop()
                if not holders:
                    break
                continue
            made = _CONTAINERS[event]() if event in _CONTAINERS else value
            if isinstance(holders[-1], list):
                holders[-1].append(made)
            else:
                holders[-1][keys[-1]] = made
            if made is not value:
                holders.append(made)
                keys.append("")
                if len(holders) > LIMITS.depth:
                    raise self._too_large(f"more than {LIMITS.depth} levels")
            count += 1
            if count > LIMITS.values:
                raise self._too_large(f"more than {LIMITS.values:,} values")
        return whole

    def _too_large(self, why: str) -> InputDataError:
        return InputDataError(
            f"{self._name}, entry {max(0, self._number - 1)}: it has {why}; encode large tensors "
            "as b64"
        )


class _Entry:
    """One item of the file."""

    def __init__(self, entry: Any, where: str, signature: Signature, shapes: Shapes) -> None:
        if not isinstance(entry, dict):
            raise InputDataError(f"{where}: an entry must map input names to their content")
        known = [spec.name for spec in signature.inputs]
        for name in entry:
            if name not in known:
                hint = did_you_mean(name, sorted(known))
                raise InputDataError(f"{where}: {signature.model} has no input {shown(name)}{hint}")
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
            raise InputDataError(f"{self._where}: it contains no input")
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
            wanted = shown(list(spec.dims) if given is None else given)
            raise InputDataError(
                f"{self._where}: input {spec.name!r} is not a valid {spec.datatype} tensor of "
                f"shape {wanted}: {_line(error)}"
            ) from error

    def _shape(self, spec: TensorSpec, array: _Array, given: Any) -> tuple[int, ...]:
        if given is not None:
            if not isinstance(given, list) or not all(type(size) is int for size in given):
                raise ValueError("its shape must be a list of whole numbers")
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
        raise ValueError('an object must have either "b64" or "content", and may have "shape"')
    if "b64" in content:
        return {"b64": content["b64"]}, content.get("shape")
    return content["content"], content.get("shape")


def _decoded(content: Any, spec: TensorSpec) -> _Array:
    if isinstance(content, dict):
        if set(content) != {"b64"} or not isinstance(content["b64"], str):
            raise ValueError('base64 must be written as {"b64": "…"}')
        raw = base64.b64decode(content["b64"], validate=True)
        return _of_bytes(raw, spec)
    if not isinstance(content, list):
        raise ValueError('it must be a list or {"b64": "…"}')
    return _strings(content) if spec.datatype == "BYTES" else _numbers(content, spec)


def _of_bytes(raw: bytes, spec: TensorSpec) -> _Array:
    """A tensor in Triton's binary form, flat: little-endian; each string after its length."""
    if spec.datatype == "BYTES":
        found, place = [], 0
        while place < len(raw):
            length = _LENGTH.unpack_from(raw, place)[0] if len(raw) - place >= 4 else math.inf
            place += _LENGTH.size
            if length > len(raw) - place:
                raise ValueError("each string must start with its length in 4 bytes, little-endian")
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
        raise ValueError("it must contain only strings")
    encoded = np.empty(words.size, dtype=np.object_)
    encoded[:] = [str(word).encode() for word in words.flat]
    return encoded.reshape(words.shape)


def _numbers(content: list[Any], spec: TensorSpec) -> _Array:
    if not _types(np.array(content, dtype=np.object_)) <= {bool, int, float}:
        raise ValueError("it must contain only numbers")
    array = np.array(content)
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(sendable(spec))
    if np.issubdtype(converted.dtype, np.integer) and not np.array_equal(converted, array):
        raise ValueError(f"some of its numbers do not fit {spec.datatype}")
    return converted


def _types(array: _Array) -> set[type]:
    return {type(each) for each in array.flat}


def _line(error: Exception) -> str:
    return shortened(str(error).strip().partition("\n")[0])
