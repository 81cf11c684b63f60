"""Inputs of requests that are generated from the model's signature."""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tuner.errors import InputDataError, ModelConfigError
from tuner.load.batches import BatchMix
from tuner.load.target import Tensor
from tuner.model.signature import Signature, TensorSpec
from tuner.model.space import did_you_mean
from tuner.text import shortened, shown


@dataclass(frozen=True)
class PoolSettings:
    """The distinct requests of a run, which are used in turn."""

    requests: int = 128
    """So many that a response cache gains little; fewer where they are large."""
    size: int = 64 << 20
    """Bytes of all of them: each load process has its own copy."""
    entries: int = 1 << 16
    """Of a file, however small they are: the objects around each take a kilobyte."""
    request: int = 1 << 30
    """Bytes of a single one: Triton's protocols carry 2 GiB at most."""
    dimensions: int = 32
    """Of a tensor with its batch: numpy knows no more."""


POOL = PoolSettings()
Shapes = Mapping[str, tuple[int, ...]]
"""Dimensions by input, without the batch."""
_SINGLE = BatchMix()
_WORD_BYTES, _ITEM_BYTES = 100, 256
"""What a string and an item take while requests are made, however small they are."""
_MOST_NAMED = 10
"""Inputs, in a message."""


def make_inputs(
    signature: Signature,
    shapes: Shapes,
    rng: np.random.Generator,
    count: int = POOL.requests,
    batches: BatchMix = _SINGLE,
) -> list[list[Tensor]]:
    """``count`` distinct requests, or as many as fit into ``POOL.size``, of sizes as ``batches``
    says.

    Floats are uniform in [0, 1), integers 0 or 1 (safe as indices of any vocabulary), strings are
    short words. ``shapes`` are those of inputs that leave dimensions open. An optional input is
    left out unless a shape of it is given.
    """
    check_batched(signature, batches)
    wanted = [s for s in signature.inputs if not s.optional or s.name in shapes]
    wanted = wanted or list(signature.inputs)  # a request without any input is none
    dims = item_shapes(wanted, shapes, signature)
    batched = signature.batched
    _check_size(sum(_bytes_of(spec, dims[spec.name]) for spec in wanted), batches)
    item = [_random_tensor(spec, dims[spec.name], batched, rng, 1) for spec in wanted]
    sizes = batches.draw(_fitting_count(count, [item], batches), rng)
    return [
        [_random_tensor(spec, dims[spec.name], batched, rng, size) for spec in wanted]
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
    ``POOL.size`` is full. InputDataError if items of different shapes, or with different optional
    inputs, would have to be joined.
    """
    count = max(count, math.ceil(len(items) / batches.mean))
    _check_size(max(sum(len(tensor.raw()) for tensor in item) for item in items), batches)
    turn = itertools.cycle(items)
    return [
        _concatenated([next(turn) for _ in range(size)])
        for size in batches.draw(_fitting_count(count, items, batches), rng)
    ]


def _concatenated(items: list[list[Tensor]]) -> list[Tensor]:
    names = {tuple(tensor.name for tensor in item) for item in items}
    if len(names) > 1:
        raise InputDataError(
            "--batch cannot combine items if only some of them have an optional input: add it "
            "to all or to none, or use --batch 1"
        )
    tensors = []
    for parts in zip(*items, strict=True):
        shapes = {part.array.shape for part in parts}
        if len(shapes) > 1:
            examples = " and ".join(str(list(shape[1:])) for shape in sorted(shapes)[:2])
            raise InputDataError(
                f"--batch cannot combine items whose input {parts[0].name} has different shapes, "
                f"{examples}: use items of one shape, or --batch 1"
            )
        array = np.concatenate([part.array for part in parts])
        tensors.append(Tensor(parts[0].name, parts[0].datatype, array))
    return tensors


def check_batched(signature: Signature, batches: BatchMix) -> None:
    """InputDataError if requests would hold several items of a model that takes one."""
    if not signature.batched and batches.largest > 1:
        raise InputDataError(
            "the model has no batch dimension (max_batch_size 0), so a request has one item: "
            "use --batch 1"
        )


def _bytes_of(spec: TensorSpec, dims: tuple[int, ...]) -> int:
    """Of an item's tensor, about; InputDataError if numpy knows none of so many dimensions."""
    if len(dims) >= POOL.dimensions:
        raise InputDataError(
            f"input {shown(spec.name)} has {len(dims)} dimensions; at most {POOL.dimensions - 1} "
            "are supported"
        )
    each = _WORD_BYTES if spec.datatype == "BYTES" else sendable(spec).itemsize
    return math.prod(dims) * each


def _check_size(item: int, batches: BatchMix) -> None:
    """InputDataError if the largest request, of items of so many bytes, could not be held."""
    if max(item, _ITEM_BYTES) * batches.largest > POOL.request:
        raise InputDataError(
            f"a request of {batches.largest:,} items would exceed {POOL.request >> 30} GiB: use "
            "smaller shapes or a smaller --batch"
        )


def _fitting_count(count: int, items: list[list[Tensor]], batches: BatchMix) -> int:
    """So many requests, or as many of the mean size as fit into POOL.size, but at least one."""
    item = np.mean(
        [sum(len(tensor.raw()) for tensor in inputs) for inputs in items[: POOL.requests]]
    )
    return int(min(count, max(1, POOL.size // max(1.0, float(item) * batches.mean))))


def item_shapes(
    specs: Iterable[TensorSpec], shapes: Shapes, signature: Signature
) -> dict[str, tuple[int, ...]]:
    """The shape of one item of each of these inputs.

    InputDataError for a shape of an input that the model does not have, or that contradicts it;
    and, naming all of them, for dimensions that are still open.
    """
    check_names(shapes, signature)
    found = {spec.name: shapes.get(spec.name, spec.dims) for spec in specs}
    missing = [spec for spec in specs if any(size < 0 for size in found[spec.name])]
    if missing:
        options = " ".join(
            f"--shape {each.name}:{_open(each.dims)}" for each in missing[:_MOST_NAMED]
        )
        open_ones = ", ".join(f"{each.name} {list(each.dims)}" for each in missing[:_MOST_NAMED])
        what = "input leaves" if len(missing) == 1 else "inputs leave"
        raise InputDataError(f"{what} dimensions open, {open_ones}: add {options}")
    return found


def check_names(shapes: Shapes, signature: Signature) -> None:
    """InputDataError for a shape of an input that the model does not have, or that contradicts
    it.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    for name, shape in shapes.items():
        if name not in specs:
            known = did_you_mean(name, sorted(specs))
            raise InputDataError(
                f"--shape {shortened(name)}: {signature.model} has no such input{known}"
            )
        fitting(shape, specs[name], f"--shape {shortened(name)}:")


def fitting(given: tuple[int, ...], spec: TensorSpec, what: str) -> tuple[int, ...]:
    """The shape of an item; InputDataError if the input does not take it."""
    if not spec.fits(given) or any(size < 0 for size in given):
        raise InputDataError(f"{what}{shown(list(given))} does not fit {shown(list(spec.dims))}")
    return given


def _open(dims: tuple[int, ...]) -> str:
    return ",".join(str(size) if size >= 0 else "N" for size in dims)


def _random_tensor(
    spec: TensorSpec, dims: tuple[int, ...], batched: bool, rng: np.random.Generator, size: int
) -> Tensor:
    shape = (size, *dims) if batched else dims
    if spec.datatype == "BYTES":
        words = rng.integers(0, 10**6, shape).astype(str).astype(np.bytes_).astype(np.object_)
        return Tensor(spec.name, spec.datatype, np.asarray(words, dtype=np.object_))
    dtype = sendable(spec)
    if np.issubdtype(dtype, np.floating):
        return Tensor(spec.name, spec.datatype, np.asarray(rng.random(shape), dtype=dtype))
    return Tensor(spec.name, spec.datatype, np.asarray(rng.integers(0, 2, shape), dtype=dtype))


def sendable(spec: TensorSpec) -> np.dtype[np.generic]:
    """How arrays hold it; InputDataError if Triton's clients have no form for its data type."""
    try:
        return spec.dtype
    except ModelConfigError as error:
        raise InputDataError(
            f"data type {spec.datatype} is not supported by Triton's clients"
        ) from error
