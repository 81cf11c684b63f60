"""Requests and answers that are tensors: what is sent comes back, what does not fit is refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from tuner.model.signature import Signature, TensorSpec
from tuner.serving.schema import TensorProcessing


def signature(datatype: str, dims: tuple[int, ...], batch: int = 8, **more: Any) -> Signature:
    given_, back = TensorSpec("X", datatype, dims, **more), TensorSpec("Y", datatype, dims)
    return Signature("m", (given_,), (back,), batch)


def sent(processing: TensorProcessing, *values: Any) -> dict[str, np.ndarray[Any, Any]]:
    bodies = [json.dumps({"X": value}) for value in values]
    items = [processing.Request.model_validate_json(body) for body in bodies]
    return dict(processing.encode(items))


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [("INT64", "int64"), ("UINT8", "uint8"), ("INT32", "int32"), ("FP32", "float32")],
)
@given(data=st.data())
def test_numbers_come_back_as_sent(datatype: str, dtype: str, data: st.DataObject) -> None:
    elements: Any = None
    if dtype == "float32":
        elements = st.floats(-(2.0**100), 2.0**100, width=32)
    array = data.draw(arrays(dtype, (3, 2, 4), elements=elements))
    processing = TensorProcessing(signature(datatype, (2, 4)))
    found = sent(processing, *array.tolist())["X"]
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()
    back = [p.model_dump(by_alias=True)["Y"] for p in processing.decode({"Y": array})]
    assert back == array.tolist()


@given(texts=st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_texts_come_back_as_they_were_sent(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    processing = TensorProcessing(signature("BYTES", (1,)))
    found = sent(processing, *([text] for text in texts))["X"]
    assert [row[0].decode() if isinstance(row[0], bytes) else row[0] for row in found] == texts
    raw = np.array([[text.encode()] for text in texts], dtype=object)
    assert [p.model_dump(by_alias=True)["Y"] for p in processing.decode({"Y": raw})] == [
        [t] for t in texts
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_word_for_is_null(value: float) -> None:
    processing = TensorProcessing(signature("FP32", (2,)))
    (said,) = processing.decode({"Y": np.array([[1.0, value]], dtype=np.float32)})
    assert json.loads(said.model_dump_json(by_alias=True)) == {"Y": [1.0, None]}


@pytest.mark.parametrize(
    ("datatype", "dims", "value"),
    [
        ("INT8", (2,), [1, 128]),
        ("UINT8", (2,), [1, -1]),
        ("INT64", (2,), [1, 2**63]),
        ("INT64", (2,), [1.5, 2]),
        ("INT64", (2,), ["1", 2]),
        ("INT64", (2,), [1]),
        ("INT64", (2,), [1, 2, 3]),
        ("INT64", (2, 2), [1, 2]),
        ("INT64", (2,), None),
        ("FP32", (2,), ["x", 1]),
        ("BYTES", (2,), [1, 2]),
        ("BOOL", (1,), [2]),
    ],
)
def test_what_does_not_fit_is_refused(datatype: str, dims: tuple[int, ...], value: Any) -> None:
    processing = TensorProcessing(signature(datatype, dims))
    with pytest.raises(ValidationError):
        sent(processing, value)


def test_an_unknown_name_is_refused() -> None:
    processing = TensorProcessing(signature("INT64", (1,)))
    with pytest.raises(ValidationError):
        processing.Request.model_validate({"X": [1], "Z": [1]})


def test_rows_that_differ_in_length_are_refused() -> None:
    processing = TensorProcessing(signature("INT64", (-1, -1)))
    with pytest.raises((ValueError, ValidationError)):
        sent(processing, [[1, 2], [3]])
    with pytest.raises(ValueError, match="X"):
        sent(processing, [[1, 2]], [[1, 2, 3]])


def test_what_is_optional_may_be_left_out() -> None:
    processing = TensorProcessing(signature("INT64", (1,), optional=True))
    item = processing.Request.model_validate_json("{}")
    assert dict(processing.encode([item])) == {}


def test_without_a_batch_the_item_is_the_tensor() -> None:
    processing = TensorProcessing(signature("FP32", (2,), batch=0))
    assert sent(processing, [1.0, 2.0])["X"].shape == (2,)
    (said,) = processing.decode({"Y": np.array([3.0, 4.0], dtype=np.float32)})
    assert said.model_dump(by_alias=True) == {"Y": [3.0, 4.0]}
