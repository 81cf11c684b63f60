"""Checks that a reply is valid, and belongs to the request that waits for it.

A server that has lost its GPU may answer at once, with an error in the place of a result, or with
outputs that are missing or cut short: it is fast, and of no use. What replies say of their outputs
is nearly always the same, and is read once; a reply then costs a look into a table.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from tuner.text import shortened, shown

_MOST_KNOWN = 4096
"""Different descriptions of outputs that are remembered: as many requests as a pool has, and a few
shapes of each."""
_LENGTH_BYTES = 4
"""Before each string goes its length."""
_ID, _OUTPUTS, _RAW = 3, 5, 6  # fields of ModelInferResponse; the last has the contents
_NAME, _DATATYPE, _SHAPE = 1, 2, 3  # those of its outputs
_SHOWN = 200  # characters of a server's words
_LONGEST_ID = 10  # digits
_MOST_DIMENSIONS = 64
_LONGEST_SIZE = 18  # digits of a size in bytes; of thousands, Python makes no number
_LARGEST = 1 << 63  # of a dimension or a size
_VARINT, _SIZED = 0, 2  # protobuf's wire types of whole numbers; of strings, bytes and messages
_FIXED = {1: 8, 5: 4}  # bytes of the others
_INTERIM = b"HTTP/1.1 1"
"""A reply that is followed by the reply itself."""
FIRST_BYTES = 1 << 14
"""Of a reply, kept for this: heads and descriptions of outputs are smaller."""
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading JSON of another form raises."""


@dataclass(frozen=True)
class ExpectedOutput:
    """An output that each answer has: ``dims`` without the batch, -1 where open; bytes of an
    element, 0 if they are not known, as of strings.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    element: int


@dataclass(frozen=True)
class Expected:
    """What is expected of answers; ``batches`` has the items of each request of the pool, None if
    the model has no batch dimension. ``places`` in the pool have the requests that are sent, in
    turn; a request's place is its id.
    """

    outputs: tuple[ExpectedOutput, ...]
    batches: tuple[int, ...] | None
    places: tuple[int, ...]

    def at(self, places: tuple[int, ...]) -> "Expected":
        """The same where only the requests at these places are sent."""
        return replace(self, places=tuple(self.places[place] for place in places))


@dataclass(frozen=True)
class MixedExpected:
    """Of requests to several models: what is expected of each model's answers, and for each request
    that is sent, in turn, the place of its model and its own place in that one's pool.
    """

    members: tuple[Expected, ...]
    order: tuple[tuple[int, int], ...]

    def at(self, places: tuple[int, ...]) -> "MixedExpected":
        """The same where only the requests at these places are sent."""
        return replace(self, order=tuple(self.order[place] for place in places))


class WrongAnswer(Exception):
    """Why a reply is wrong."""


class ReplyCheck:
    """Checks the replies to one pool of requests."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._outputs = {output.name: output for output in expected.outputs}
        self._heads: dict[bytes, tuple[int | None, int | None]] = {}
        self._known: dict[bytes, tuple[str, int | None]] = {}

    def http_fault(self, index: int, first: bytes) -> str | None:
        """What is wrong with the successful reply to request ``index`` of the run, of which these
        are the first bytes; None if nothing is.
        """
        start = 0
        while first.startswith(_INTERIM, start):
            start = first.find(b"\r\n\r\n", start) + 4
        end = first.find(b"\r\n\r\n", start)
        head = first[start:end]
        sizes = self._heads.get(head)
        if sizes is None:
            sizes = self._remember(self._heads, head, _sizes_of_head(head))
        length, content = sizes
        if content is None:  # in chunks, as from a proxy
            return None
        if length is None:  # all of it is JSON
            length = content
        description = first[end + 4 : end + 4 + length]
        if len(description) < min(length, content):  # longer than what is kept
            return None
        return self._fault(index, description, content - length, _read_json)

    def grpc_fault(self, index: int, first: bytes, size: int) -> str | None:
        """The same of a ModelInferResponse of ``size`` bytes."""
        try:
            length = _raw_begins(first)
        except (IndexError, ValueError):
            return None if len(first) < size else "the reply is not a ModelInferResponse"
        if length == len(first) < size:  # contents may begin there, or not
            return None
        return self._fault(index, first[:length], size - length, _read_message)

    def _fault(self, index: int, description: bytes, rest: int, read: Any) -> str | None:
        known = self._known.get(description)
        if known is None:
            try:
                found = self._check(*read(description))
            except WrongAnswer as error:
                return f"wrong reply: {error}"
            known = self._remember(self._known, description, found)
        identity, expected_rest = known
        places = self._expected.places
        if identity and identity != str(places[index % len(places)]):
            return "wrong reply: it belongs to another request"
        if expected_rest is not None and rest != expected_rest:
            return f"wrong reply: {rest} bytes of outputs, not {expected_rest}"
        return None

    @staticmethod
    def _remember(table: dict[bytes, Any], key: bytes, value: Any) -> Any:
        if len(table) >= _MOST_KNOWN:
            table.clear()
        table[key] = value
        return value

    def _check(self, identity: str, found: "list[_Described]") -> tuple[str, int | None]:
        """The identity, and the bytes that follow the description; None if that is open."""
        rest: int | None = 0
        described = {each.name: each for each in found}
        for name, output in self._outputs.items():
            if name not in described:
                raise WrongAnswer(f"output {name!r} is missing")
            each = described[name]
            if each.datatype != output.datatype:
                datatype = shortened(each.datatype)
                raise WrongAnswer(f"output {name!r} is {datatype}, not {output.datatype}")
            self._check_shape(identity, output, each.shape)
            least = math.prod(each.shape) * (output.element or _LENGTH_BYTES)
            size = each.size
            if size is not None and (size < least or (output.element and size != least)):
                raise WrongAnswer(
                    f"output {name!r} has {size} bytes, and {each.datatype} {list(each.shape)} "
                    f"takes {least}"
                )
        for each in found:
            output_bytes = self._bytes_of(each)
            rest = None if rest is None or output_bytes is None else rest + output_bytes
        return identity, rest

    def _bytes_of(self, described: "_Described") -> int | None:
        """Those of its content in the reply; None if they are not known beforehand."""
        if described.place == "elsewhere":
            return 0
        if described.place == "after the description":
            return described.size or 0
        output = self._outputs.get(described.name)
        if output is None or not output.element:
            return None
        size = math.prod(described.shape) * output.element
        return 1 + max(1, -(-size.bit_length() // 7)) + size  # tag, length, content

    def _check_shape(self, identity: str, output: ExpectedOutput, shape: tuple[int, ...]) -> None:
        batches, dims = self._expected.batches, output.dims
        if batches is not None:
            known = identity.isdecimal() and len(identity) < _LONGEST_ID
            known = known and int(identity) < len(batches)
            dims = (batches[int(identity)] if known else -1, *dims)
        fits = len(shape) == len(dims) and all(
            size >= 0 and want in (-1, size) for want, size in zip(dims, shape, strict=True)
        )
        if not fits:
            raise WrongAnswer(f"output {output.name!r} has the shape {shown(list(shape))}")


class MixedReplyCheck:
    """Checks the replies of several models."""

    def __init__(self, expected: MixedExpected) -> None:
        self._members = [ReplyCheck(each) for each in expected.members]
        self._order = expected.order

    def http_fault(self, index: int, first: bytes) -> str | None:
        """As ``ReplyCheck.http_fault``."""
        model, place = self._order[index % len(self._order)]
        return self._members[model].http_fault(place, first)

    def grpc_fault(self, index: int, first: bytes, size: int) -> str | None:
        """As ``ReplyCheck.grpc_fault``."""
        model, place = self._order[index % len(self._order)]
        return self._members[model].grpc_fault(place, first, size)


def check_of(expected: Expected | MixedExpected | None) -> ReplyCheck | MixedReplyCheck | None:
    """None where nothing is expected."""
    if isinstance(expected, MixedExpected):
        return MixedReplyCheck(expected)
    return None if expected is None else ReplyCheck(expected)


def _sizes_of_head(head: bytes) -> tuple[int | None, int | None]:
    """Bytes of the JSON part, and of the whole body, as far as headers tell."""
    found: dict[bytes, int] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        digits = value.strip()
        if digits.isdigit() and len(digits) <= _LONGEST_SIZE:
            found[name.strip().lower()] = int(digits)
    return found.get(b"inference-header-content-length"), found.get(b"content-length")


@dataclass(frozen=True)
class _Described:
    """An output as a reply describes it; ``size`` in bytes where it is told."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int | None
    place: Literal["after the description", "as a field", "elsewhere"]


def _read_json(description: bytes) -> tuple[str, list[_Described]]:
    """Identity of the request, and outputs."""
    try:
        answer = json.loads(description)
        if "error" in answer:
            raise WrongAnswer(str(answer["error"])[:_SHOWN])
        return str(answer.get("id", "")), list(map(_of_json, answer["outputs"]))
    except _UNREADABLE as error:
        raise WrongAnswer("it is not the JSON of a KServe inference") from error


def _of_json(entry: Any) -> _Described:
    size = entry.get("parameters", {}).get("binary_data_size")
    return _Described(
        str(entry["name"]),
        str(entry["datatype"]),
        _shape(map(_number, entry["shape"])),
        None if size is None else _number(size),
        "elsewhere" if size is None else "after the description",
    )


def _shape(sizes: Iterable[int]) -> tuple[int, ...]:
    """ValueError if there are more than any tensor has: their product would be vast."""
    shape = tuple(sizes)
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{len(shape)} dimensions")
    return shape


def _number(value: Any) -> int:
    number = int(value)
    if not -_LARGEST <= number < _LARGEST:
        raise OverflowError(f"a number of {number.bit_length()} bits")
    return number


def _read_message(description: bytes) -> tuple[str, list[_Described]]:
    """The same of a ModelInferResponse. It is read by hand: to import what protobuf and Triton's
    client need takes longer than the first round of a warm-up.
    """
    identity, found = "", []
    try:
        for number, value in _fields(description):
            if number == _ID and isinstance(value, bytes):
                identity = value.decode()
            elif number == _OUTPUTS and isinstance(value, bytes):
                found.append(_of_message(value))
    except (IndexError, ValueError) as error:
        raise WrongAnswer("it is not a ModelInferResponse") from error
    return identity, found


def _of_message(output: bytes) -> _Described:
    name = datatype = ""
    shape: list[int] = []
    for number, value in _fields(output):
        if number == _SHAPE:
            shape += _numbers(value)
        elif number == _NAME and isinstance(value, bytes):
            name = value.decode()
        elif number == _DATATYPE and isinstance(value, bytes):
            datatype = value.decode()
    return _Described(name, datatype, _shape(shape), None, "as a field")


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and content of each field of a protobuf message: bytes where it has a size, else a
    number, which is 0 for those of fixed size. IndexError or ValueError if it is no message.
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind, value = tag & 7, 0
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        size = _FIXED.get(kind)
        if kind == _SIZED:
            size, position = _varint(message, position)
        if size is None or position + size > len(message):
            raise ValueError("a field of no known type, or one that is cut short")
        yield tag >> 3, message[position : position + size] if kind == _SIZED else value
        position += size


def _numbers(value: bytes | int) -> Iterator[int]:
    """Those of a repeated int64, packed or one of them alone."""
    if isinstance(value, int):
        yield _signed(value)
        return
    position = 0
    while position < len(value):
        number, position = _varint(value, position)
        yield _signed(number)


def _signed(number: int) -> int:
    """Negative ones have their two's complement of 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def _raw_begins(message: bytes) -> int:
    """The position of the first of ``raw_output_contents``, or the end."""
    position = 0
    while position < len(message):
        tag = message[position]
        if tag == _RAW << 3 | _SIZED:
            return position
        if tag & 7 != _SIZED:
            raise ValueError("a field of another type")
        size, position = _varint(message, position + 1)
        position += size
    if position > len(message):
        raise IndexError("a field is cut short")
    return position


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number without end")
