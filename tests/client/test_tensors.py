"""Properties of tensors on the wire."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tritonclient.utils import serialize_byte_tensor

from tuner.client.batching import make_batches, split_outputs
from tuner.client.errors import InvalidInput, ServerError
from tuner.client.tensors import check, from_bytes, to_buffer
from tuner.model.signature import Signature, TensorSpec

shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0)


@given(npst.arrays(np.float32, shapes, elements=st.floats(width=32)))
def test_bf16_is_rounded_as_ml_dtypes_rounds(array: np.ndarray) -> None:
    spec = TensorSpec("x", "BF16", array.shape)
    with np.errstate(all="ignore"):
        expected = array.astype(ml_dtypes.bfloat16).astype(np.float32)
    found = from_bytes("x", "BF16", array.shape, bytes(to_buffer(spec, array)))
    np.testing.assert_array_equal(found, expected)


@given(st.lists(st.one_of(st.binary(), st.text()), min_size=1))
def test_texts_are_joined_as_triton_wants_them(texts: list[bytes | str]) -> None:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    raw = bytes(to_buffer(TensorSpec("x", "BYTES", (-1,)), array))
    assert raw == serialize_byte_tensor(array).item()
    expected = [t if isinstance(t, bytes) else t.encode() for t in texts]
    assert from_bytes("x", "BYTES", array.shape, raw).tolist() == expected


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT16", "INT64", "FP16", "FP32", "FP64"])
@given(data=st.data())
def test_numbers_come_back_as_they_went(datatype: str, data: st.DataObject) -> None:
    spec = TensorSpec("x", datatype, ())
    array = data.draw(npst.arrays(spec.dtype, shapes))
    for laid_out in (array, np.asfortranarray(array)):
        raw = bytes(to_buffer(spec, laid_out))
        np.testing.assert_array_equal(from_bytes("x", datatype, array.shape, raw), array)


@given(st.binary(min_size=1, max_size=40))
def test_bytes_that_are_no_texts_are_an_error_of_the_server(raw: bytes) -> None:
    try:
        found = from_bytes("x", "BYTES", (1,), raw)
    except ServerError:
        return
    assert int.from_bytes(raw[:4], "little") == len(found[0]) == len(raw) - 4


def test_an_output_of_the_wrong_size_is_an_error_of_the_server() -> None:
    with pytest.raises(ServerError, match="'x' has 3 bytes"):
        from_bytes("x", "FP32", (1,), b"abc")


@given(
    st.lists(st.integers(1, 3), max_size=30),
    st.integers(1, 5),
)
def test_items_of_any_shapes_keep_their_order(sizes: list[int], most: int) -> None:
    spec = TensorSpec("x", "INT64", (-1,))
    signature = Signature("m", (spec,), (spec,), most)
    items = [{"x": np.full(size, number)} for number, size in enumerate(sizes)]
    batches = make_batches(signature, items)
    assert all(1 <= len(batch["x"]) <= most for batch in batches)
    back = [item for batch in batches for item in split_outputs(signature, batch)]
    assert [item["x"].tolist() for item in back] == [item["x"].tolist() for item in items]


def test_inputs_of_different_batches_are_refused() -> None:
    specs = tuple(TensorSpec(name, "FP32", (1,)) for name in "ab")
    inputs = {name: np.zeros((size, 1), np.float32) for name, size in (("a", 2), ("b", 3))}
    with pytest.raises(InvalidInput, match="'b' holds 3 items, a previous input 2"):
        check(Signature("m", specs, (), 8), inputs)


def test_a_model_without_a_batch_dimension_takes_its_own_shape() -> None:
    signature = Signature("m", (TensorSpec("a", "FP32", (2, -1)),), (), 0)
    assert len(check(signature, {"a": np.zeros((2, 5), np.float32)})) == 1
    with pytest.raises(InvalidInput, match="'a' has shape"):
        check(signature, {"a": np.zeros((1, 2, 5), np.float32)})
