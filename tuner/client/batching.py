"""Batches of items, and the outputs of a batch by item."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tuner.client.tensors import Array, as_item
from tuner.model.signature import Arrays, Signature


def make_batches(signature: Signature, items: Sequence[Mapping[str, Any]]) -> list[Arrays]:
    """Requests of at most ``max_batch_size`` items, in order. Items with different shapes, or
    different optional inputs, cannot share one.

    InvalidInput if an item does not fit.
    """
    arrays = [as_item(signature, item) for item in items]
    if not signature.batched:
        return list(arrays)
    return [
        {name: np.stack([item[name] for item in group]) for name in group[0]}
        for group in _groups(arrays, signature.max_batch_size)
    ]


def _groups(items: list[dict[str, Array]], limit: int) -> Iterator[list[dict[str, Array]]]:
    group: list[dict[str, Array]] = []
    previous: object = None
    for item in items:
        shapes = {name: array.shape for name, array in item.items()}
        if group and (shapes != previous or len(group) == limit):
            yield group
            group = []
        group.append(item)
        previous = shapes
    if group:
        yield group


def split_outputs(signature: Signature, outputs: Arrays) -> list[dict[str, Array]]:
    """The outputs of each item of a batch."""
    if not signature.batched:
        return [dict(outputs)]
    size = min((len(array) for array in outputs.values()), default=0)
    return [{name: array[row] for name, array in outputs.items()} for row in range(size)]
