"""Whether a model's open first dimension is a batch: found by asking it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.creation.draft import Draft
from tuner.creation.onnx import draft_of_onnx
from tuner.errors import ModelConfigError, UsageError
from tuner.load.inputs import Shapes


def checked_batches(draft: Draft, path: Path, shapes: Shapes) -> Draft:
    """Of an ONNX file, without a batch where two items together give something else."""
    if not draft.signature.batched or joins_batches(draft, shapes):
        return draft
    note = (
        "the first dimension is open, but two items together do not give what they give alone: "
        "so it is no batch"
    )
    return replace(draft_of_onnx(path, draft.signature.model, 0), notes=(note,))


def joins_batches(draft: Draft, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a batch of two items gives what both give alone: an open first dimension may be
    something else, such as a length. ``shapes`` may be those of items or, then, of all.
    """
    if draft.run is None or not draft.signature.batched:
        return draft.signature.batched
    ranks = {spec.name: len(spec.dims) for spec in draft.signature.inputs}
    items = {name: dims[max(0, len(dims) - ranks.get(name, 0)) :] for name, dims in shapes.items()}
    one, other = draft.samples(items, np.random.default_rng(1))[:2]
    try:
        alone = [draft.run({t.name: t.array for t in tensors}) for tensors in (one, other)]
        both = draft.run(
            {a.name: np.concatenate([a.array, b.array]) for a, b in zip(one, other, strict=True)}
        )
    except (UsageError, ValueError, ModelConfigError):
        return False
    return all(
        np.shape(both[name])[:1] == (2,)
        and is_close(both[name], np.concatenate([a[name] for a in alone]))
        for name in both
    )


def is_close(one: Any, other: Any) -> bool:
    """As far as single precision and another order of additions go."""
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape:
        return False
    if first.dtype.kind in "OSU":
        return [_text(each) for each in first.ravel()] == [_text(each) for each in second.ravel()]
    return bool(np.allclose(first, second, rtol=1e-3, atol=1e-4, equal_nan=True))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
