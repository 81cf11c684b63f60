"""Inputs of requests: made from the model's metadata, or read from perf_analyzer's JSON format."""

import base64
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from tuner.errors import InputDataError
from tuner.load.batches import BatchMix
from tuner.load.target import Tensor


@dataclass(frozen=True)
class PoolSettings:
    """The distinct requests of a run, which are used in turn."""

    requests: int = 128
    """So many that a response cache gains little; fewer where they are large."""
    size: int = 64 << 20
    """Bytes of all of them: each load process has its own copy."""


POOL = PoolSettings()
Metadata = dict[str, Any]
_SINGLE = BatchMix()


def make_inputs(
    metadata: Metadata,
    batched: bool,
    shapes: dict[str, tuple[int, ...]],
    rng: np.random.Generator,
    count: int = POOL.requests,
    batches: BatchMix = _SINGLE,
) -> list[list[Tensor]]:
    """``count`` distinct requests, or as many as fit into ``POOL.size``, of sizes as ``batches``
    says.

    Floats are uniform in [0, 1), integers 0 or 1 (safe as indices of any vocabulary), strings are
    short words. ``shapes`` gives the dimensions, without the batch, of inputs that leave some open.
    """
    _check_batched(batched, batches)
    item = [_random_tensor(entry, batched, shapes, rng) for entry in metadata["inputs"]]
    sizes = batches.draw(_fitting_count(count, [item], batches), rng)
    return [
        [_random_tensor(entry, batched, shapes, rng, size) for entry in metadata["inputs"]]
        for size in sizes
    ]


def mix_inputs(
    items: list[list[Tensor]],
    batches: BatchMix,
    rng: np.random.Generator,
    count: int = POOL.requests,
) -> list[list[Tensor]]:
    """Requests out of items, each of batch size 1, joined in their order and used in turn.

    There are ``count`` requests, or more where that many do not use each item once, or fewer where
    ``POOL.size`` is full. InputDataError where items of different shapes would have to be joined.
    """
    count = max(count, math.ceil(len(items) / batches.mean))
    turn = itertools.cycle(items)
    return [
        _concatenated([next(turn) for _ in range(size)])
        for size in batches.draw(_fitting_count(count, items, batches), rng)
    ]


def _concatenated(items: list[list[Tensor]]) -> list[Tensor]:
    tensors = []
    for parts in zip(*items, strict=True):
        shapes = {part.array.shape for part in parts}
        if len(shapes) > 1:
            examples = " and ".join(str(list(shape[1:])) for shape in sorted(shapes)[:2])
            raise InputDataError(
                f"--batch cannot join items whose input {parts[0].name} has different shapes, "
                f"{examples}: give items of one shape, or --batch 1"
            )
        array = np.concatenate([part.array for part in parts])
        tensors.append(Tensor(parts[0].name, parts[0].datatype, array))
    return tensors


def _check_batched(batched: bool, batches: BatchMix) -> None:
    if not batched and batches.largest > 1:
        raise InputDataError(
            "the model has no batch dimension (max_batch_size 0): a request holds one item, so "
            "leave --batch at 1"
        )


def _fitting_count(count: int, items: list[list[Tensor]], batches: BatchMix) -> int:
    """So many requests, or as many of the mean size as fit into POOL.size, but at least one."""
    item = np.mean(
        [sum(len(tensor.raw()) for tensor in inputs) for inputs in items[: POOL.requests]]
    )
    return int(min(count, max(1, POOL.size // max(1.0, float(item) * batches.mean))))


def read_inputs(
    path: Path,
    metadata: Metadata,
    batched: bool,
    shapes: dict[str, tuple[int, ...]],
    batches: BatchMix = _SINGLE,
    seed: int = 0,
) -> list[list[Tensor]]:
    """Requests from a file in perf_analyzer's format: ``{"data": [{"INPUT": [1, 2]}, …]}``.

    A tensor is a flat or nested list, ``{"content": […], "shape": […]}``, or ``{"b64": "…"}``;
    entries may be grouped in lists. Each entry is one item, without a batch dimension; where
    ``batches`` says more than one, ``mix_inputs`` joins them, in an order of sizes from ``seed``.
    """
    _check_batched(batched, batches)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputDataError(f"cannot read --input-data {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputDataError(f"--input-data {path} is not JSON: {error}") from error
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputDataError(f'--input-data {path} needs a list "data" with at least one entry')
    flat = [e for group in entries for e in (group if isinstance(group, list) else [group])]
    pool = []
    for number, entry in enumerate(flat):
        where = f"--input-data {path}, entry {number}"
        if not isinstance(entry, dict):
            raise InputDataError(f"{where}: an entry maps input names to their content")
        pool.append(
            [_read_tensor(spec, batched, shapes, entry, where) for spec in metadata["inputs"]]
        )
    if batches == _SINGLE:
        return pool
    return mix_inputs(pool, batches, np.random.default_rng(seed))


def _item_shape(
    spec: Metadata, batched: bool, shapes: dict[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """The shape of one item; InputDataError while a dimension is open or --shape contradicts it."""
    name = spec["name"]
    declared = _declared(spec, batched)
    if name in shapes:
        return _fitting(shapes[name], declared, f"--shape {name}:")
    if any(size < 0 for size in declared):
        dims = ",".join(str(size) if size > 0 else "N" for size in declared)
        raise InputDataError(
            f"input {name} leaves dimensions open, {list(declared)}: give --shape {name}:{dims}"
        )
    return declared


def _declared(spec: Metadata, batched: bool) -> tuple[int, ...]:
    """The model's own shape of one item; -1 where a dimension is open."""
    return tuple(int(size) for size in spec["shape"])[1 if batched else 0 :]


def _fitting(given: tuple[int, ...], declared: tuple[int, ...], what: str) -> tuple[int, ...]:
    fits = len(given) == len(declared) and all(
        want in (-1, size) for want, size in zip(declared, given, strict=True)
    )
    if not fits:
        raise InputDataError(f"{what}{list(given)} does not fit {list(declared)}")
    return given


def _random_tensor(
    spec: Metadata,
    batched: bool,
    shapes: dict[str, tuple[int, ...]],
    rng: np.random.Generator,
    size: int = 1,
) -> Tensor:
    shape = _item_shape(spec, batched, shapes)
    shape = (size, *shape) if batched else shape
    datatype = spec["datatype"]
    if datatype == "BYTES":
        words = rng.integers(0, 10**6, shape).astype(str).astype(np.bytes_).astype(np.object_)
        return Tensor(spec["name"], datatype, words)
    dtype = _dtype(datatype)
    if np.issubdtype(dtype, np.floating):
        return Tensor(spec["name"], datatype, rng.random(shape).astype(dtype))
    return Tensor(spec["name"], datatype, rng.integers(0, 2, shape).astype(dtype))


def _read_tensor(
    spec: Metadata,
    batched: bool,
    shapes: dict[str, tuple[int, ...]],
    entry: dict[str, Any],
    where: str,
) -> Tensor:
    name, datatype = spec["name"], spec["datatype"]
    if name not in entry:
        raise InputDataError(f"{where}: input {name!r} is missing")
    content: Any = entry[name]
    shape = None
    if isinstance(content, dict) and "content" in content:
        content, shape = content["content"], content.get("shape")
    if shape is None:
        shape = _item_shape(spec, batched, shapes)
    try:
        shape = _fitting(tuple(shape), _declared(spec, batched), f"{where}: tensor of shape ")
        array = _array(content, datatype).reshape(shape)
    except (ValueError, TypeError) as error:
        wanted = list(shape) if isinstance(shape, tuple) else shape
        raise InputDataError(
            f"{where}: input {name!r} does not make a {datatype} tensor of shape {wanted}: {error}"
        ) from error
    return Tensor(name, datatype, array[np.newaxis] if batched else array)


def _array(content: Any, datatype: str) -> np.ndarray[Any, Any]:
    if isinstance(content, dict) and "b64" in content:
        raw = base64.b64decode(content["b64"], validate=True)
        if datatype == "BYTES":
            return np.array([raw], dtype=np.object_)
        if datatype == "BF16":  # the upper half of a float32
            return (np.frombuffer(raw, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(raw, dtype=_dtype(datatype))
    if datatype == "BYTES":
        words = np.array(content, dtype=np.object_)
        encode = np.vectorize(lambda word: str(word).encode(), otypes=[np.object_])
        return np.asarray(encode(words))
    array = np.array(content)
    if not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_:
        raise ValueError("it holds something other than numbers")
    converted = array.astype(_dtype(datatype))
    if np.issubdtype(converted.dtype, np.integer) and not np.array_equal(converted, array):
        raise ValueError(f"some of its numbers are not {datatype}")
    return converted


def _dtype(datatype: str) -> Any:
    dtype = np.float32 if datatype == "BF16" else triton_to_np_dtype(datatype)
    if dtype is None:
        raise InputDataError(f"data type {datatype} is not one that Triton's clients can send")
    return np.dtype(dtype)
