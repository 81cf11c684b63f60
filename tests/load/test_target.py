import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, np_to_triton_dtype, triton_to_np_dtype

from tuner.errors import InputDataError
from tuner.load.target import Tensor, Transport, http_body, make_target

relaxed = settings(deadline=None, max_examples=40)
SHAPES = arrays.array_shapes(max_dims=3, max_side=4)
POOL = [
    [
        Tensor("ids", "INT64", np.array([[1, 2, 3]], dtype=np.int64)),
        Tensor("text", "BYTES", np.array([["größe".encode(), b""]], dtype=np.object_)),
    ],
    [
        Tensor("ids", "INT64", np.array([[4, 5, 6]], dtype=np.int64)),
        Tensor("text", "BYTES", np.array([[b"\x00\xff", b"b"]], dtype=np.object_)),
    ],
]
NUMBERS = st.sampled_from(
    [bool, "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))


def split(message: bytes) -> tuple[str, dict[str, str], bytes]:
    """Request line, headers by lower-case name, and body of an HTTP/1.1 request."""
    head, body = message.split(b"\r\n\r\n", 1)
    line, *rest = head.decode("utf-8").split("\r\n")
    return line, {name.lower(): value for name, value in (h.split(": ", 1) for h in rest)}, body


def tensors(header: dict[str, Any], contents: bytes) -> dict[str, Any]:
    """The arrays of a request with binary tensors, read as Triton's own client reads them."""
    found = {}
    for entry in header["inputs"]:
        size = entry["parameters"]["binary_data_size"]
        found[entry["name"]] = back(contents[:size], entry["datatype"], entry["shape"])
        contents = contents[size:]
    assert contents == b""
    return found


def back(raw: bytes, datatype: str, shape: list[int]) -> Any:
    if datatype == "BYTES":
        return deserialize_bytes_tensor(raw).reshape(shape)
    if datatype == "BF16":
        upper_halves = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
        return upper_halves.view(np.float32).reshape(shape)
    return np.frombuffer(raw, triton_to_np_dtype(datatype)).reshape(shape)


def test_an_http_request_reads_back() -> None:
    target = make_target(Transport.HTTP, "127.0.0.1:8000", "größe%20", POOL)
    assert target.address == "127.0.0.1:8000"
    for message, inputs in zip(target.requests, POOL, strict=True):
        line, headers, body = split(message)
        assert line == "POST /v2/models/größe%20/infer HTTP/1.1"  # Triton decodes no path
        assert headers["host"] == "127.0.0.1:8000"
        assert int(headers["content-length"]) == len(body)
        length = int(headers["inference-header-content-length"])
        header = json.loads(body[:length])
        assert header["parameters"] == {"binary_data_output": True}
        found = tensors(header, body[length:])
        assert list(found) == ["ids", "text"]
        for tensor in inputs:
            np.testing.assert_array_equal(found[tensor.name], tensor.array)


def test_a_grpc_request_reads_back() -> None:
    target = make_target(Transport.GRPC, "127.0.0.1:8001", "my model", POOL)
    for message, inputs in zip(target.requests, POOL, strict=True):
        request = service_pb2.ModelInferRequest.FromString(message)
        assert request.model_name == "my model"
        assert [each.name for each in request.inputs] == ["ids", "text"]
        for entry, raw, tensor in zip(
            request.inputs, request.raw_input_contents, inputs, strict=True
        ):
            found = back(raw, entry.datatype, list(entry.shape))
            np.testing.assert_array_equal(found, tensor.array)


@given(NUMBERS)
@relaxed
def test_numbers_of_every_datatype_read_back(array: Any) -> None:
    tensor = Tensor("x", np_to_triton_dtype(array.dtype), array)
    body, length = http_body([tensor])
    found = tensors(json.loads(body[:length]), body[length:])
    np.testing.assert_array_equal(found["x"], array)


@given(arrays.arrays(np.object_, SHAPES, elements=st.binary(max_size=20)))
@relaxed
def test_strings_read_back(array: Any) -> None:
    body, length = http_body([Tensor("x", "BYTES", array)])
    found = tensors(json.loads(body[:length]), body[length:])
    np.testing.assert_array_equal(found["x"], array)


@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
@relaxed
def test_bf16_reads_back_within_its_seven_bits(array: Any) -> None:
    raw = Tensor("x", "BF16", array).raw()
    assert len(raw) == 2 * array.size
    np.testing.assert_allclose(back(raw, "BF16", list(array.shape)), array, rtol=2**-7, atol=1e-38)


def test_rows_go_one_after_the_other_whatever_the_memory_holds() -> None:
    columns = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert Tensor("x", "INT32", columns).raw() == np.arange(6, dtype=np.int32).tobytes()


def test_no_strings_are_no_bytes() -> None:
    assert Tensor("x", "BYTES", np.empty((0, 2), dtype=np.object_)).raw() == b""


@pytest.mark.parametrize("protocol", Transport)
def test_an_empty_pool_is_refused(protocol: Transport) -> None:
    with pytest.raises(InputDataError, match="no inputs to send to m"):
        make_target(protocol, "127.0.0.1:8000", "m", [])
