"""What is sent, and where: requests of a model, serialised once.

A load process imports this for ``Target`` alone: what only serialising needs is imported there.
"""

import json
from dataclasses import dataclass
from itertools import repeat
from typing import Any
from urllib.parse import quote

import numpy as np

from tuner.errors import InputDataError
from tuner.load.transport import Transport
from tuner.security import PLAIN, Security


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


@dataclass(frozen=True)
class Target:
    """An endpoint and a pool of distinct requests, whole and ready to be written to a socket.

    ``requests`` holds complete HTTP/1.1 messages, or serialised ModelInferRequests for gRPC.
    """

    protocol: Transport
    address: str
    requests: tuple[bytes, ...]
    source: Source | None = None
    tls: bool = False
    security: Security = PLAIN


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
) -> Target:
    """The target for a pool of inputs, at least one; with ``placements`` their content, and that of
    replies, is in shared memory.

    ``batched`` says whether the first dimension is the batch; the target then knows its source.
    """
    if not pool:
        raise InputDataError(f"there is no input to send to {model}")
    source = None if batched is None else Source(model, tuple(map(tuple, pool)), batched)
    requests: tuple[bytes, ...]
    if protocol is Transport.GRPC and placements is not None:
        requests = tuple(map(_grpc_placed, repeat(model), pool, placements))
    elif protocol is Transport.GRPC:
        requests = tuple(_grpc_request(model, inputs) for inputs in pool)
    else:
        bodies = map(http_body, pool) if placements is None else map(_placed_body, pool, placements)
        requests = tuple(_http_message(address, model, *body, security) for body in bodies)
    source = None if placements is not None else source
    return Target(protocol, address, requests, source, tls, security)


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
        raise InputDataError(f"there is nothing to send to {address}{path}")
    head = (("Content-Type", content_type),)
    requests = tuple(_message(address, method, path, head, b, security) for b in bodies)
    return Target(Transport.HTTP, address, requests, None, tls, security)


def _grpc_request(model: str, inputs: list[Tensor]) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model)
    for tensor in inputs:
        request.inputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=list(tensor.array.shape)
        )
        request.raw_input_contents.append(tensor.raw())
    return bytes(request.SerializeToString())


def http_body(inputs: list[Tensor]) -> tuple[bytes, int]:
    """The body of an inference request with binary tensors, and the length of its JSON header."""
    contents = [tensor.raw() for tensor in inputs]
    header = json.dumps(
        {
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
    address: str, model: str, body: bytes, header_length: int, security: Security
) -> bytes:
    head = (
        ("Content-Type", "application/octet-stream"),
        ("Inference-Header-Content-Length", str(header_length)),
    )
    return _message(address, "POST", f"/v2/models/{quote(model)}/infer", head, body, security)


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


def _grpc_placed(model: str, inputs: list[Tensor], placement: Placement) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model)
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


def _placed_body(inputs: list[Tensor], placement: Placement) -> tuple[bytes, int]:
    """The body of an inference request whose tensors are in shared memory: a JSON header alone."""
    header = {
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
