"""A target: an endpoint and the requests of a model, serialized once.

A load process imports this for ``Target`` alone: what only serializing needs is imported there.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from tuner.errors import InputDataError
from tuner.load.replies import Expected, MixedExpected
from tuner.load.transport import Transport
from tuner.load.variation import Variation
from tuner.security import PLAIN, Security
from tuner.stats.samples import Ints


@dataclass(frozen=True)
class Tensor:
    """One input of one request; ``array`` has the shape that is sent, batch dimension included."""

    name: str
    datatype: str
    array: np.ndarray[Any, Any]

    def raw(self) -> bytes:
        """Triton's binary form: little-endian, row by row; strings with their lengths before."""
        if self.datatype == "BYTES":
            from tritonclient.utils import serialize_byte_tensor

            return bytes(serialize_byte_tensor(self.array).item()) if self.array.size else b""
        if self.datatype == "BF16":  # the upper half of a float32
            bits = self.array.astype(np.float32).view(np.uint32) >> 16
            return bits.astype(np.uint16).tobytes()
        return self.array.tobytes()


@dataclass(frozen=True)
class Source:
    """What the requests were made from, for engines that make their own."""

    model: str
    pool: tuple[tuple[Tensor, ...], ...]
    batched: bool
    version: str = ""


@dataclass(frozen=True)
class Target:
    """An endpoint and a pool of distinct requests, whole and ready to be written to a socket.

    ``requests`` holds complete HTTP/1.1 messages, or serialized ModelInferRequests for gRPC.
    Replies are held against what is ``expected``, if that is known. With a ``variation`` requests
    are changed before they are sent. Of requests to several ``models``, ``kinds`` has the place of
    each one's model among them, and ``expected`` says the same for each model.
    """

    protocol: Transport
    address: str
    requests: tuple[bytes, ...]
    source: Source | None = None
    tls: bool = False
    security: Security = PLAIN
    expected: "Expected | MixedExpected | None" = None
    variation: Variation | None = None
    models: tuple[str, ...] = ()
    kinds: tuple[int, ...] = ()

    def part(self, places: tuple[int, ...]) -> "Target":
        """The same with the requests at these places of the pool, for one load process."""
        expected, variation = self.expected, self.variation
        return replace(
            self,
            source=None,
            requests=tuple(self.requests[place] for place in places),
            expected=None if expected is None else expected.at(places),
            variation=None if variation is None else variation.part(places),
            models=(),
            kinds=(),
        )


def mixed(targets: Mapping[str, Target], kinds: Ints) -> Target:
    """One target of several models on the same endpoint: request i goes to the model at the place
    ``kinds[i]``, and each model's requests are sent in turn.
    """
    members = list(targets.values())
    turns = [itertools.count() for _ in members]
    order = [(kind, next(turns[kind]) % len(members[kind].requests)) for kind in kinds.tolist()]
    expected = [member.expected for member in members]
    checked = None
    if all(isinstance(each, Expected) for each in expected):
        checked = MixedExpected(tuple(e for e in expected if isinstance(e, Expected)), tuple(order))
    return replace(
        members[0],
        source=None,
        requests=tuple(members[kind].requests[place] for kind, place in order),
        expected=checked,
        models=tuple(targets),
        kinds=tuple(kinds.tolist()),
    )


@dataclass(frozen=True)
class Slot:
    """Bytes in a region of shared memory that the server knows by this name."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True)
class Placement:
    """Where one request's tensors lie: inputs in their order, outputs by name, None for inline."""

    inputs: tuple[Slot, ...]
    outputs: tuple[tuple[str, Slot | None], ...]


def make_target(
    protocol: Transport,
    address: str,
    model: str,
    pool: list[list[Tensor]],
    batched: bool | None = None,
    placements: list[Placement] | None = None,
    tls: bool = False,
    security: Security = PLAIN,
    version: str = "",
    expected: Expected | None = None,
) -> Target:
    """The target for a pool of inputs, at least one; with ``placements`` their content, and that of
    replies, is in shared memory.

    ``batched`` says whether the first dimension is the batch; the target then knows its source.
    Without a ``version`` the server chooses. Each request carries its place in the pool as its id,
    which the server repeats, so that a reply to another one is told.
    """
    if not pool:
        raise InputDataError(f"there are no inputs to send to {model}")
    source = None if batched is None else Source(model, tuple(map(tuple, pool)), batched, version)
    requests: tuple[bytes, ...]
    ids = map(str, itertools.count())
    if protocol is Transport.GRPC and placements is not None:
        requests = tuple(map(_grpc_placed, repeat(model), repeat(version), pool, placements, ids))
    elif protocol is Transport.GRPC:
        requests = tuple(map(_grpc_request, repeat(model), repeat(version), pool, ids))
    else:
        bodies = (
            map(http_body, pool, ids)
            if placements is None
            else map(_placed_body, pool, placements, ids)
        )
        path = infer_path(model, version)
        requests = tuple(_http_message(address, path, *body, security) for body in bodies)
    source = None if placements is not None else source
    return Target(protocol, address, requests, source, tls, security, expected)


def body_target(
    address: str,
    path: str,
    bodies: tuple[bytes, ...],
    method: str = "POST",
    content_type: str = "application/json",
    tls: bool = False,
    security: Security = PLAIN,
) -> Target:
    """A target of any HTTP service: one request for each of the bodies, at least one."""
    if not bodies:
        raise InputDataError(f"there are no requests to send to {address}{path}")
    head = (("Content-Type", content_type),)
    requests = tuple(_message(address, method, path, head, b, security) for b in bodies)
    return Target(Transport.HTTP, address, requests, None, tls, security)


def model_path(model: str, version: str = "") -> str:
    """The path of a model below ``/v2``, as in ``models/resnet50/versions/2``; percent-encoded,
    which Triton does not decode: it has to be sent as ``infer_path`` has it.
    """
    path = f"models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def infer_path(model: str, version: str = "") -> str:
    """As Triton takes it: nothing is encoded."""
    return unquote(f"/v2/{model_path(model, version)}/infer")


def _grpc_request(model: str, version: str, inputs: list[Tensor], identity: str) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=identity)
    for tensor in inputs:
        request.inputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=list(tensor.array.shape)
        )
        request.raw_input_contents.append(tensor.raw())
    return bytes(request.SerializeToString())


def http_body(inputs: list[Tensor], identity: str = "") -> tuple[bytes, int]:
    """The body of an inference request with binary tensors, and the length of its JSON header."""
    contents = [tensor.raw() for tensor in inputs]
    header = json.dumps(
        {
            **({"id": identity} if identity else {}),
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": list(tensor.array.shape),
                    "parameters": {"binary_data_size": len(content)},
                }
                for tensor, content in zip(inputs, contents, strict=True)
            ],
            "parameters": {"binary_data_output": True},
        },
        separators=(",", ":"),
    ).encode()
    return header + b"".join(contents), len(header)


def _http_message(
    address: str, path: str, body: bytes, header_length: int, security: Security
) -> bytes:
    head = (
        ("Content-Type", "application/octet-stream"),
        ("Inference-Header-Content-Length", str(header_length)),
    )
    return _message(address, "POST", path, head, body, security)


def _message(
    address: str,
    method: str,
    path: str,
    head: tuple[tuple[str, str], ...],
    body: bytes,
    security: Security,
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address}"]
    lines += [f"{name}: {value}" for name, value in (*head, *security.headers)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _grpc_placed(
    model: str, version: str, inputs: list[Tensor], placement: Placement, identity: str
) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=identity)
    for tensor, slot in zip(inputs, placement.inputs, strict=True):
        added = request.inputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=list(tensor.array.shape)
        )
        _point(added.parameters, slot)
    for name, output in placement.outputs:
        wanted = request.outputs.add(name=name)
        if output is not None:
            _point(wanted.parameters, output)
    return bytes(request.SerializeToString())


def _point(parameters: Any, slot: Slot) -> None:
    for key, value in _slot_parameters(slot).items():
        if isinstance(value, str):
            parameters[key].string_param = value
        else:
            parameters[key].int64_param = value


def _placed_body(inputs: list[Tensor], placement: Placement, identity: str) -> tuple[bytes, int]:
    """The body of an inference request whose tensors are in shared memory: a JSON header alone."""
    header = {
        "id": identity,
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.array.shape),
                "parameters": _slot_parameters(slot),
            }
            for tensor, slot in zip(inputs, placement.inputs, strict=True)
        ],
        "outputs": [
            {"name": name, "parameters": _slot_parameters(slot) if slot else {"binary_data": True}}
            for name, slot in placement.outputs
        ],
    }
    body = json.dumps(header, separators=(",", ":")).encode()
    return body, len(body)


def _slot_parameters(slot: Slot) -> dict[str, str | int]:
    return {
        "shared_memory_region": slot.region,
        "shared_memory_offset": slot.offset,
        "shared_memory_byte_size": slot.size,
    }
