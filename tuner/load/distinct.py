"""Finds the places where the requests of a pool can be changed, so that none repeats."""

import math
import struct

from tuner.load.target import Target, Tensor
from tuner.load.transport import Transport
from tuner.load.variation import DIGIT, INTEGER, Span, Variation

_MOST_SPANS = 48
"""Changed in each request: more than enough to make it new, and few enough to be cheap."""
_FLOATS = {"FP16": ("<e", 10), "FP32": ("<f", 23), "FP64": ("<d", 52)}
_INTEGERS = {
    **{"BOOL": 1, "INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2},
    **{"INT32": 4, "UINT32": 4, "INT64": 8, "UINT64": 8},
}
_DIGIT_BITS = math.log2(10)
_LENGTH_BYTES = 4  # before each string


def variation_of(target: Target, repeated: float = 0.0) -> Variation:
    """How the requests of a target may be changed, which knows its source."""
    assert target.source is not None
    pairs = zip(target.requests, target.source.pool, strict=True)
    is_grpc = target.protocol is Transport.GRPC
    return Variation(tuple(_spans(message, pool, is_grpc) for message, pool in pairs), repeated)


def _spans(message: bytes, tensors: tuple[Tensor, ...], is_grpc: bool) -> tuple[Span, ...]:
    """Of the contents at the end of the message: one after the other, with gRPC each after a tag
    and its length.
    """
    found: list[Span] = []
    end = len(message)
    for tensor in reversed(tensors):
        size = len(tensor.raw())
        end -= size
        found += _spans_of(tensor, end)
        if is_grpc:
            end -= 1 + max(1, -(-size.bit_length() // 7))
    most = min(len(found), _MOST_SPANS)
    return tuple(found[i * len(found) // most] for i in range(most))


def _spans_of(tensor: Tensor, start: int) -> list[Span]:
    count = tensor.array.size
    if tensor.datatype in _FLOATS:
        form, bits = _FLOATS[tensor.datatype]
        width = struct.calcsize(form)
        return [Span(start + i * width, form, bits) for i in range(min(count, _MOST_SPANS))]
    if tensor.datatype in _INTEGERS:
        width = _INTEGERS[tensor.datatype]
        return [Span(start + i * width, INTEGER, 1) for i in range(min(count, _MOST_SPANS))]
    if tensor.datatype != "BYTES":
        return []
    spans, place = [], start
    for word in tensor.array.flat:
        place += _LENGTH_BYTES
        spans += [Span(place + i, DIGIT, _DIGIT_BITS) for i in range(len(word))]
        place += len(word)
        if len(spans) >= _MOST_SPANS:
            break
    return spans
