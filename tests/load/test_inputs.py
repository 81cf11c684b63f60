from typing import Any

import numpy as np
import pytest

from tuner.errors import InputDataError
from tuner.load import inputs
from tuner.load.batches import BatchMix
from tuner.load.inputs import POOL, PoolSettings, make_inputs
from tuner.model.signature import Signature, TensorSpec

NUMBERS = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": np.float32,  # halved when it is sent
}


def signature(*inputs: TensorSpec, batched: bool = True) -> Signature:
    return Signature("m", inputs, (), 8 if batched else 0)


def x(datatype: str = "FP32", dims: tuple[int, ...] = (4,)) -> TensorSpec:
    return TensorSpec("x", datatype, dims)


def made(
    *specs: TensorSpec, batched: bool = True, batches: str = "1", **shapes: tuple[int, ...]
) -> Any:
    rng, mix = np.random.default_rng(0), BatchMix.parse(batches)
    return make_inputs(signature(*specs, batched=batched), shapes, rng, batches=mix)


class TestMade:
    @pytest.mark.parametrize("datatype", NUMBERS)
    def test_every_datatype_in_its_own_form(self, datatype: str) -> None:
        for (tensor,) in made(x(datatype, (3, 4))):
            assert tensor.name == "x"
            assert tensor.datatype == datatype
            assert tensor.array.dtype == NUMBERS[datatype]
            assert tensor.array.shape == (1, 3, 4)
            assert tensor.array.min() >= 0
            assert tensor.array.max() <= 1

    def test_strings_are_short_words(self) -> None:
        for (tensor,) in made(x("BYTES", (2,))):
            assert tensor.array.shape == (1, 2)
            assert all(isinstance(word, bytes) and 0 < len(word) < 10 for word in tensor.array[0])

    def test_a_pool_holds_distinct_requests_that_the_seed_decides(self) -> None:
        pool = made(x())
        assert len(pool) == POOL.requests
        assert len({tensor.array.tobytes() for (tensor,) in pool}) == POOL.requests
        again = made(x())
        assert all(np.array_equal(a.array, b.array) for (a,), (b,) in zip(pool, again, strict=True))

    def test_without_a_batch_dimension_the_whole_shape_is_the_items(self) -> None:
        assert made(x(dims=(2, 4)), batched=False)[0][0].array.shape == (2, 4)

    def test_all_inputs_are_made_in_their_order(self) -> None:
        y = TensorSpec("y", "BYTES", (4,))
        assert [tensor.name for tensor in made(x("INT64"), y)[0]] == ["x", "y"]

    def test_open_dimensions_need_a_shape(self) -> None:
        spec = x(dims=(3, -1))
        with pytest.raises(
            InputDataError, match=r"input leaves dimensions open, x \[3, -1\]: add --shape x:3,N"
        ):
            made(spec)
        assert made(spec, x=(3, 7))[0][0].array.shape == (1, 3, 7)

    def test_all_shapes_that_are_missing_are_asked_for_at_once(self) -> None:
        with pytest.raises(InputDataError, match=r"add --shape x:3,N --shape z:N$"):
            made(x(dims=(3, -1)), TensorSpec("y", "FP32", (2,)), TensorSpec("z", "FP32", (-1,)))

    def test_a_shape_of_no_input_is_refused(self) -> None:
        with pytest.raises(InputDataError, match=r"--shape imagee: m has no such input; did you"):
            made(TensorSpec("image", "FP32", (4,)), imagee=(4,))

    def test_an_optional_input_is_left_out_unless_it_has_a_shape(self) -> None:
        bias = TensorSpec("bias", "FP32", (-1,), optional=True)
        assert [tensor.name for tensor in made(x(), bias)[0]] == ["x"]
        (first, *_) = made(x(), bias, bias=(3,))
        assert [tensor.array.shape for tensor in first] == [(1, 4), (1, 3)]

    def test_where_all_inputs_are_optional_all_are_made(self) -> None:
        assert len(made(TensorSpec("a", "FP32", (4,), optional=True))[0]) == 1

    def test_a_scalar_has_no_dimensions(self) -> None:
        assert made(x(dims=()))[0][0].array.shape == (1,)
        assert made(x(dims=()), batched=False)[0][0].array.shape == ()
        assert made(x("BYTES", ()), batched=False)[0][0].array.shape == ()

    @pytest.mark.parametrize("shape", [(4,), (3, 4, 1), (2, 7)])
    def test_a_shape_must_fit_the_models(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputDataError, match=r"--shape x:.* does not fit \[3, -1\]"):
            made(x(dims=(3, -1)), x=shape)

    def test_a_datatype_that_clients_cannot_send_is_named(self) -> None:
        with pytest.raises(InputDataError, match="FP8"):
            made(x("FP8"))


class TestBatches:
    def test_made_up_requests_have_sizes_in_their_shares(self) -> None:
        pool = made(x(), batches="1:3,4:1")
        sizes = [len(tensor.array) for (tensor,) in pool]
        assert (sizes.count(1), sizes.count(4)) == (96, 32)
        assert sizes != sorted(sizes)
        assert {tensor.array.shape[1:] for (tensor,) in pool} == {(4,)}
        items = {item.tobytes() for (tensor,) in pool for item in tensor.array}
        assert len(items) == sum(sizes)

    def test_all_inputs_of_a_request_have_its_size(self) -> None:
        for first, second in made(x("INT64"), TensorSpec("y", "BYTES", (2,)), batches="1,3"):
            assert len(first.array) == len(second.array)

    def test_large_requests_are_fewer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = x(dims=(1 << 10,))
        assert len(made(spec)) == POOL.requests
        monkeypatch.setattr(inputs, "POOL", PoolSettings(size=1 << 18))
        assert len(made(spec)) == 64
        assert len(made(spec, batches="1,3")) == 32
        assert len(made(spec, batches="1,30,50")) == 3  # one of each at least

    def test_a_model_without_a_batch_dimension_takes_one_item(self) -> None:
        with pytest.raises(InputDataError, match="max_batch_size 0"):
            made(x(), batched=False, batches="4")


@pytest.mark.parametrize(
    ("spec", "batches", "shape", "words"),
    [
        (x(dims=(-1,)), "1", (2**31 - 1,), "a request of 1 items would exceed 1 GiB"),
        (x(), "100000000", (4,), "a request of 100,000,000 items would exceed 1 GiB"),
        (x("BYTES", (-1, -1)), "1", (10**4, 10**4), "exceed 1 GiB"),
        (x(dims=(1,) * 32), "1", (1,) * 32, "input 'x' has 32 dimensions; at most 31"),
    ],
)
def test_what_could_not_be_held_is_refused(
    spec: TensorSpec, batches: str, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InputDataError, match=words):
        made(spec, batches=batches, x=shape)
