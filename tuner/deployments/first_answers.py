"""The first requests to a server that has just loaded its model, and its replies."""

import math
import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from tuner.deployments.base import FIRST_ANSWER_SECONDS
from tuner.documents import MALFORMED
from tuner.errors import ServerFailed
from tuner.load.replies import Expected, ExpectedOutput
from tuner.load.target import Tensor, http_body
from tuner.model.signature import Signature
from tuner.servers.control import Control
from tuner.text import shortened, shown

_NOT_LOADED = re.compile(r"[Mm]odel '([^']+)' is not (?:ready|found)|unknown model:? '([^']+)'")
_LENGTH_BYTES = 4
"""Before each string goes its length."""
_MOST_DIMENSIONS = 64
_LARGEST_DIMENSION = 1 << 40
"""Far above what any answer has, and small enough to be multiplied."""


@dataclass(frozen=True)
class Requests:
    """The inputs of each request, their items, and a body for each of these numbers."""

    signature: Signature
    pool: list[list[Tensor]]
    sizes: list[int]
    bodies: dict[int, tuple[bytes, int]]

    @classmethod
    def of(cls, signature: Signature, pool: list[list[Tensor]]) -> "Requests":
        sizes = [len(inputs[0].array) if signature.batched else 1 for inputs in pool]
        bodies = {size: http_body(pool[sizes.index(size)]) for size in sorted(set(sizes))}
        return cls(signature, pool, sizes, bodies)

    def expected(self, in_memory: bool = False) -> Expected:
        """What each answer has to hold; little but a name where outputs go into shared memory."""
        outputs = tuple(
            ExpectedOutput(
                spec.name,
                spec.datatype,
                spec.dims,
                0 if in_memory else _element_bytes(spec.datatype),
            )
            for spec in self.signature.outputs
        )
        sizes = tuple(self.sizes) if self.signature.batched else None
        return Expected(outputs, sizes, tuple(range(len(self.pool))))


@dataclass(frozen=True)
class Output:
    """One output of an answer: ``size`` in bytes, None if it came as JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int | None


@dataclass(frozen=True)
class Answers:
    """One to a request of each size in items; the ``version`` of the model that gave them, and the
    seconds that the last one took.
    """

    outputs: dict[int, tuple[Output, ...]]
    version: str
    seconds: float


def ask(control: Control, model: str, version: str, requests: Requests) -> Answers:
    """One inference of each size; ServerFailed if a reply is missing or inconsistent."""
    outputs, found, took = {}, version, 0.0
    for size, (body, header_length) in requests.bodies.items():
        began = time.monotonic()
        try:
            answer = control.infer(model, version, body, header_length, FIRST_ANSWER_SECONDS)
        except ServerFailed as error:
            raise _explained(error, model) from error
        took = time.monotonic() - began
        outputs[size] = _outputs(answer, requests.signature)
        found = str(answer.get("model_version") or version)
    return Answers(outputs, found, took)


def _explained(error: ServerFailed, model: str) -> ServerFailed:
    """With what to do where the model called one that is not loaded."""
    called = _NOT_LOADED.search(str(error))
    name = called and next(filter(None, called.groups()))
    if not name or name == model:
        return error
    return ServerFailed(f"{error}; if {model} calls {name}, add --load-model {name}")


def _outputs(answer: dict[str, Any], signature: Signature) -> tuple[Output, ...]:
    try:
        found = tuple(map(_output, answer["outputs"]))
    except MALFORMED as error:
        raise ServerFailed(
            f"the reply to an inference is not in Triton's format: {shortened(str(error))}"
        ) from error
    missing = {spec.name for spec in signature.outputs} - {each.name for each in found}
    if missing:
        raise ServerFailed(f"the reply to an inference lacks the output {shown(min(missing))}")
    for output in found:
        _check_size(output)
    return found


def _output(entry: dict[str, Any]) -> Output:
    shape = tuple(map(int, entry["shape"]))
    if len(shape) > _MOST_DIMENSIONS or not all(0 <= size < _LARGEST_DIMENSION for size in shape):
        raise ValueError(f"a shape of {shown(list(shape))}")
    size = entry.get("parameters", {}).get("binary_data_size")
    return Output(
        str(entry["name"]), str(entry["datatype"]), shape, None if size is None else int(size)
    )


def _element_bytes(datatype: str) -> int:
    """0 if it depends on the content, or is unknown."""
    if datatype in ("BYTES", "BF16"):
        return 2 if datatype == "BF16" else 0
    kind = triton_to_np_dtype(datatype)
    return 0 if kind is None else np.dtype(kind).itemsize


def _check_size(output: Output) -> None:
    """A server that sends fewer bytes than its answer has elements is fast, and of no use."""
    if output.size is None:
        return
    least = math.prod(output.shape) * (_element_bytes(output.datatype) or _LENGTH_BYTES)
    if output.size < least:
        raise ServerFailed(
            f"output {shown(output.name)} has {output.size} bytes, too few for "
            f"{shortened(output.datatype)} {list(output.shape)}; check that the Python backend "
            "supports the installed numpy version"
        )
