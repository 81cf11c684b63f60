"""Readers of what a server says, which may be any server, or none.

Those that tell what is wrong with a reply raise nothing; what they find is not looked at.
"""

import json
from pathlib import Path
from typing import Any

from tritonclient.grpc import service_pb2

from tuner.client.calls import _failure
from tuner.client.connection import Connection
from tuner.client.description import Description
from tuner.client.over_http import HttpMessages
from tuner.deployments.first_answers import Requests, ask
from tuner.documents import parse_json
from tuner.errors import DocumentError, ModelConfigError
from tuner.http2 import frames
from tuner.http2.connection import ClientConnection
from tuner.http2.events import Response
from tuner.http2.headers import header_block
from tuner.load import perf_analyzer
from tuner.load.replies import Expected, ExpectedOutput, ReplyCheck
from tuner.model.config import from_json
from tuner.model.signature import Signature, TensorSpec
from tuner.servers.http_client import Reply
from tuner.servers.readings import cached_share, gpu_reading, server_times

_SIGNATURE = Signature(
    "m", (TensorSpec("IN", "FP32", (4,)),), (TensorSpec("OUT", "FP32", (2,)),), 8
)
_OUT, _TEXT = ExpectedOutput("OUT", "FP32", (2,), 4), ExpectedOutput("TEXT", "BYTES", (-1,), 0)
_EXPECTED = Expected((_OUT, _TEXT), (1, 3), (0, 1))
_PIECES = (1, 7, 1000)
"""Sizes of the first pieces that bytes arrive in."""


def _http_reply(raw: bytes, folder: Path) -> object:
    return ReplyCheck(_EXPECTED).http_fault(0, raw)


def _grpc_reply(raw: bytes, folder: Path) -> object:
    return ReplyCheck(_EXPECTED).grpc_fault(0, raw, len(raw))


def _http2(raw: bytes, folder: Path) -> object:
    """As a peer sends them to a client that has asked for two things."""
    client = ClientConnection()
    for _ in range(2):
        client.request(header_block([(":method", "POST"), (":path", "/")]), b"body")
    client.take_output()
    events, start = [], 0
    for size in (*_PIECES, len(raw)):
        events += client.receive(raw[start : start + size])
        start += size
        client.take_output()
    return [_failure(event) for event in events if isinstance(event, Response)]


class _Control:
    """Answers every inference with the same; the one method that ``ask`` calls."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def infer(self, *_: Any) -> dict[str, Any]:
        if not isinstance(self._answer, dict):
            raise DocumentError("no JSON object")
        return self._answer


def _first_answer(raw: bytes, folder: Path) -> object:
    requests = Requests(_SIGNATURE, [], [], {1: (b"", 0)})
    return ask(_Control(parse_json(raw)), "m", "", requests)  # type: ignore[arg-type]


def _client_outputs(raw: bytes, folder: Path) -> object:
    """Of a body whose JSON part ends before the first null byte."""
    messages = HttpMessages(Connection.to("localhost:8000", "m"))
    length = raw.find(b"\0")
    return messages.outputs(raw, None if length < 0 else str(length))


def _client_error(raw: bytes, folder: Path) -> object:
    messages = HttpMessages(Connection.to("localhost:8000", "m"))
    return messages.answer(200 if raw[:1] == b"2" else 500, raw)


def _description(raw: bytes, folder: Path) -> object:
    document = Reply(200, "OK", {}, raw).json()
    if not isinstance(document, dict):
        raise DocumentError("no JSON object")
    metadata, config = document.get("metadata"), document.get("config")
    try:
        from_json(config)  # type: ignore[arg-type]
    except ModelConfigError:
        Description.of(metadata, config)  # type: ignore[arg-type]
        raise
    return Description.of(metadata, config)  # type: ignore[arg-type]


def _statistics(raw: bytes, folder: Path) -> object:
    document = parse_json(raw)
    if not isinstance(document, list) or len(document) < 2:
        raise DocumentError("no list of two")
    before, after = document[:2]
    return server_times(before, after), cached_share(before, after)


def _metrics(raw: bytes, folder: Path) -> object:
    return gpu_reading(raw.decode("utf-8", errors="replace"))


def _export(raw: bytes, folder: Path) -> object:
    return perf_analyzer.parse(raw)


_OUTPUTS = [
    {
        "name": name,
        "datatype": datatype,
        "shape": [1, size],
        "parameters": {"binary_data_size": 8},
    }
    for name, datatype, size in (("OUT", "FP32", 2), ("TEXT", "BYTES", 1))
]
_ANSWER = json.dumps({"id": "0", "model_version": "1", "outputs": _OUTPUTS}).encode()
_BODY = bytes(8) + b"\4\0\0\0abcd"
_HTTP = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (
    len(_ANSWER),
    len(_ANSWER) + len(_BODY),
)
_MESSAGE = service_pb2.ModelInferResponse(
    model_name="m",
    id="0",
    outputs=[
        service_pb2.ModelInferResponse.InferOutputTensor(name=n, datatype=d, shape=s)
        for n, d, s in (("OUT", "FP32", [1, 2]), ("TEXT", "BYTES", [1, 1]))
    ],
    raw_output_contents=[bytes(8), b"\4\0\0\0abcd"],
).SerializeToString()
_SETTINGS = frames.settings_frame((frames.MAX_CONCURRENT_STREAMS, 100))
_HEAD = header_block([(":status", "200"), ("content-type", "application/grpc")])
_TAIL = header_block([("grpc-status", "0")])
_REPLIED = (
    _SETTINGS
    + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, _HEAD)
    + frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\4abcd")
    + frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, _TAIL)
)
_OTHERS = (
    _SETTINGS
    + frames.frame(frames.PING, 0, 0, bytes(8))
    + frames.frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1\0")
    + frames.frame(frames.HEADERS, frames.END_STREAM, 3, b"\x88\xff\xff\xff\xff\xff\xff")
    + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 3, b"\x88" * 40)
    + frames.frame(frames.RST_STREAM, 0, 1, b"\0\0\0\7")
    + frames.frame(frames.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0bye")
)
_PART = {"count": "10", "ns": "5000"}
_SNAPSHOT = {
    "execution_count": "5",
    "inference_stats": {
        name: _PART
        for name in ("queue", "compute_input", "compute_infer", "compute_output", "cache_hit")
    },
    "batch_stats": [{"batch_size": "2", "compute_infer": _PART, "compute_input": _PART}],
}
_MODEL = {
    "metadata": {
        "name": "m",
        "versions": ["1"],
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [-1, 2]}],
    },
    "config": {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": ["4"]}],
        "dynamic_batching": {"preferred_batch_size": [4], "max_queue_delay_microseconds": "100"},
    },
}

READERS = {
    "HTTP replies": (
        _http_reply,
        [_HTTP + _ANSWER + _BODY, b"HTTP/1.1 100 Continue\r\n\r\n" + _HTTP + _ANSWER + _BODY],
        [b"HTTP/1.1 ", b"\r\n\r\n", b'"error": "x"', b'"shape": ', b"Content-Length: "],
    ),
    "gRPC replies": (_grpc_reply, [_MESSAGE], [b"\x2a", b"\x32", b"\x1a", b"\xff" * 10]),
    "HTTP/2": (
        _http2,
        [_REPLIED, _OTHERS],
        [_SETTINGS, b"\0\0\0\4\0\0\0\0\0", b"\xff" * 9, b"\x88", b"\x7f" + b"\xff" * 20, _TAIL],
    ),
    "first answer": (_first_answer, [_ANSWER], [b'"outputs": ', b'"parameters": {', b'"shape": ']),
    "client outputs": (
        _client_outputs,
        [_ANSWER + bytes(8) + b"\4\0\0\0abcd"],
        [b'"BYTES"', b'"BF16"', b'"shape": [', b'"binary_data_size": '],
    ),
    "client errors": (_client_error, [b'{"error": "x"}', b"2"], [b'"error": ']),
    "descriptions": (
        _description,
        [json.dumps(_MODEL).encode()],
        [b'"TYPE_STRING"', b'"optional": true', b'"sequence_batching": {}', b'"shape": '],
    ),
    "statistics": (
        _statistics,
        [json.dumps([{}, _SNAPSHOT]).encode(), json.dumps([_SNAPSHOT, _SNAPSHOT]).encode()],
        [b'"ns": ', b'"count": ', b'"batch_size": ', b'"inference_stats": '],
    ),
    "metrics": (
        _metrics,
        [b'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25\nnv_gpu_power_usage{gpu_uuid="a"} 60.5\n'],
        [b"nv_gpu_memory_used_bytes{} 1e9\n", b"{", b"}", b"nv_gpu_"],
    ),
    "perf_analyzer": (
        _export,
        [b'{"requests":[{"timestamp":10,"x":"y","response_timestamps":[20,30]}]}'],
        [b'{"timestamp":5,', b'"response_timestamps":[', b"]"],
    ),
}
