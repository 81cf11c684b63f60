import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.errors import InputDataError
from tuner.load import inputs
from tuner.load.batches import BatchMix
from tuner.load.inputs import POOL, PoolSettings, make_inputs, read_inputs

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


def metadata(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 4)) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [str(n) for n in shape]}]}


def made(meta: dict[str, Any], batched: bool = True, **shapes: tuple[int, ...]) -> Any:
    return make_inputs(meta, batched, shapes, np.random.default_rng(0))


def read(
    folder: Path, content: Any, meta: dict[str, Any], batched: bool = True, **shapes: Any
) -> list[Any]:
    """The arrays of the single input ``x``."""
    file = folder / "data.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return [request[0].array for request in read_inputs(file, meta, batched, shapes)]


def refusal(folder: Path, content: Any, meta: dict[str, Any], **shapes: Any) -> str:
    with pytest.raises(InputDataError) as caught:
        read(folder, content, meta, **shapes)
    assert "data.json" in str(caught.value)
    return str(caught.value)


class TestMade:
    @pytest.mark.parametrize("datatype", NUMBERS)
    def test_every_datatype_in_its_own_form(self, datatype: str) -> None:
        for (tensor,) in made(metadata(datatype, (-1, 3, 4))):
            assert tensor.name == "x"
            assert tensor.datatype == datatype
            assert tensor.array.dtype == NUMBERS[datatype]
            assert tensor.array.shape == (1, 3, 4)
            assert tensor.array.min() >= 0
            assert tensor.array.max() <= 1

    def test_strings_are_short_words(self) -> None:
        for (tensor,) in made(metadata("BYTES", (-1, 2))):
            assert tensor.array.shape == (1, 2)
            assert all(isinstance(word, bytes) and 0 < len(word) < 10 for word in tensor.array[0])

    def test_a_pool_holds_distinct_requests_that_the_seed_decides(self) -> None:
        pool = made(metadata())
        assert len(pool) == POOL.requests
        assert len({tensor.array.tobytes() for (tensor,) in pool}) == POOL.requests
        again = made(metadata())
        assert all(np.array_equal(a.array, b.array) for (a,), (b,) in zip(pool, again, strict=True))

    def test_without_a_batch_dimension_the_whole_shape_is_the_items(self) -> None:
        assert made(metadata(shape=(2, 4)), batched=False)[0][0].array.shape == (2, 4)

    def test_all_inputs_are_made_in_their_order(self) -> None:
        meta = {"inputs": metadata("INT64")["inputs"] + metadata("BYTES")["inputs"]}
        meta["inputs"][1]["name"] = "y"
        assert [tensor.name for tensor in made(meta)[0]] == ["x", "y"]

    def test_open_dimensions_need_a_shape(self) -> None:
        with pytest.raises(
            InputDataError, match=r"x leaves dimensions open, \[3, -1\]: give --shape x:3,N"
        ):
            made(metadata(shape=(-1, 3, -1)))
        assert made(metadata(shape=(-1, 3, -1)), x=(3, 7))[0][0].array.shape == (1, 3, 7)

    @pytest.mark.parametrize("shape", [(4,), (3, 4, 1), (2, 7)])
    def test_a_shape_must_fit_the_models(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputDataError, match=r"--shape x:.* does not fit \[3, -1\]"):
            made(metadata(shape=(-1, 3, -1)), x=shape)

    def test_a_datatype_that_clients_cannot_send_is_named(self) -> None:
        with pytest.raises(InputDataError, match="FP8"):
            made(metadata("FP8"))


class TestBatches:
    def mixed(self, text: str, meta: dict[str, Any], batched: bool = True) -> Any:
        rng = np.random.default_rng(0)
        return make_inputs(meta, batched, {}, rng, batches=BatchMix.parse(text))

    def test_made_up_requests_have_sizes_in_their_shares(self) -> None:
        pool = self.mixed("1:3,4:1", metadata())
        sizes = [len(tensor.array) for (tensor,) in pool]
        assert (sizes.count(1), sizes.count(4)) == (96, 32)
        assert sizes != sorted(sizes)
        assert {tensor.array.shape[1:] for (tensor,) in pool} == {(4,)}
        items = {item.tobytes() for (tensor,) in pool for item in tensor.array}
        assert len(items) == sum(sizes)

    def test_all_inputs_of_a_request_have_its_size(self) -> None:
        meta = {"inputs": metadata("INT64")["inputs"] + metadata("BYTES", (-1, 2))["inputs"]}
        for first, second in self.mixed("1,3", meta):
            assert len(first.array) == len(second.array)

    def test_large_requests_are_fewer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        meta = metadata("FP32", (-1, 1 << 10))
        assert len(made(meta)) == POOL.requests
        monkeypatch.setattr(inputs, "POOL", PoolSettings(size=1 << 18))
        assert len(made(meta)) == 64
        assert len(self.mixed("1,3", meta)) == 32
        assert len(self.mixed("1,30,50", meta)) == 3  # one of each at least

    def test_items_of_a_file_are_joined_in_turn(self, tmp_path: Path) -> None:
        file = tmp_path / "data.json"
        file.write_text(json.dumps({"data": [{"x": [n]} for n in range(5)]}))
        meta = metadata("INT32", (-1, 1))
        pool = read_inputs(file, meta, True, {}, BatchMix.parse("1,2"), seed=3)
        assert len(pool) == POOL.requests
        items = np.concatenate([tensor.array for (tensor,) in pool])
        assert items.ravel().tolist() == np.resize(np.arange(5), len(items)).tolist()
        sizes = [len(tensor.array) for (tensor,) in pool]
        assert (sizes.count(1), sizes.count(2)) == (64, 64)
        assert sizes != sorted(sizes)

    def test_every_item_of_a_long_file_is_sent(self, tmp_path: Path) -> None:
        file = tmp_path / "data.json"
        file.write_text(json.dumps({"data": [{"x": [n]} for n in range(2 * POOL.requests + 1)]}))
        pool = read_inputs(file, metadata("INT32", (-1, 1)), True, {}, BatchMix.parse("2"))
        sent = {int(item) for (tensor,) in pool for item in tensor.array.ravel()}
        assert sent == set(range(2 * POOL.requests + 1))

    def test_items_of_different_shapes_are_not_joined(self, tmp_path: Path) -> None:
        data = [{"x": {"content": [1, 2], "shape": [2]}}, {"x": {"content": [1], "shape": [1]}}]
        file = tmp_path / "data.json"
        file.write_text(json.dumps({"data": data}))
        with pytest.raises(InputDataError, match=r"input x has different shapes, \[1\] and \[2\]"):
            read_inputs(file, metadata("INT32", (-1, -1)), True, {}, BatchMix.parse("2"))

    def test_a_model_without_a_batch_dimension_takes_one_item(self, tmp_path: Path) -> None:
        with pytest.raises(InputDataError, match="max_batch_size 0"):
            self.mixed("4", metadata(), batched=False)
        with pytest.raises(InputDataError, match="max_batch_size 0"):
            read_inputs(tmp_path / "x", metadata(), False, {}, BatchMix.parse("1,2"))


class TestRead:
    @pytest.mark.parametrize("datatype", NUMBERS)
    def test_every_datatype_from_a_list(self, tmp_path: Path, datatype: str) -> None:
        (array,) = read(tmp_path, {"data": [{"x": [0, 1, 1, 0]}]}, metadata(datatype))
        assert array.dtype == NUMBERS[datatype]
        assert array.tolist() == [[0, 1, 1, 0]]

    @pytest.mark.parametrize("datatype", [name for name in NUMBERS if name != "BF16"])
    def test_every_datatype_from_base64(self, tmp_path: Path, datatype: str) -> None:
        raw = np.array([0, 1, 1, 0], dtype=NUMBERS[datatype]).tobytes()
        content = {"data": [{"x": {"b64": base64.b64encode(raw).decode()}}]}
        (array,) = read(tmp_path, content, metadata(datatype))
        assert array.tolist() == [[0, 1, 1, 0]]

    def test_bf16_from_base64(self, tmp_path: Path) -> None:
        raw = b"\x80\x3f\x00\x40\x80\x3f\x00\x40"  # 1, 2, 1, 2
        content = {"data": [{"x": {"b64": base64.b64encode(raw).decode()}}]}
        (array,) = read(tmp_path, content, metadata("BF16"))
        assert array.tolist() == [[1, 2, 1, 2]]

    def test_strings_from_a_list_and_from_base64(self, tmp_path: Path) -> None:
        meta = metadata("BYTES", (-1, 1))
        content = {"data": [{"x": ["größe"]}, {"x": {"b64": base64.b64encode(b"\xff\0").decode()}}]}
        first, second = read(tmp_path, content, meta)
        assert first.tolist() == [["größe".encode()]]
        assert second.tolist() == [[b"\xff\0"]]

    def test_nested_and_flat_lists_are_the_same(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [[1, 2], [3, 4]]}, {"x": [1, 2, 3, 4]}]}
        nested, flat = read(tmp_path, content, metadata("INT32", (-1, 2, 2)))
        assert nested.tolist() == flat.tolist() == [[[1, 2], [3, 4]]]

    def test_content_may_bring_its_own_shape(self, tmp_path: Path) -> None:
        content = {"data": [{"x": {"content": [1, 2, 3], "shape": [3]}}]}
        assert read(tmp_path, content, metadata("INT32", (-1, -1)))[0].shape == (1, 3)

    def test_open_dimensions_come_from_the_shapes_given(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [1, 2, 3]}]}
        assert read(tmp_path, content, metadata("INT32", (-1, -1)), x=(3,))[0].shape == (1, 3)

    def test_entries_may_be_grouped(self, tmp_path: Path) -> None:
        content = {"data": [[{"x": [1]}, {"x": [2]}], {"x": [3]}]}
        arrays = read(tmp_path, content, metadata("INT32", (-1, 1)))
        assert [array.item() for array in arrays] == [1, 2, 3]

    def test_without_a_batch_dimension_nothing_is_added(self, tmp_path: Path) -> None:
        arrays = read(tmp_path, {"data": [{"x": [1, 2]}]}, metadata("INT32", (2,)), batched=False)
        assert arrays[0].shape == (2,)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputDataError, match=r"cannot read --input-data .*nowhere\.json: No"):
            read_inputs(tmp_path / "nowhere.json", metadata(), True, {})

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("{", "is not JSON"),
            ("[]", 'needs a list "data"'),
            ({"data": []}, "at least one entry"),
            ({"data": {}}, 'needs a list "data"'),
            ({"data": [3]}, "entry 0: an entry maps input names"),
            ({"data": [{"x": [1, 2, 3, 4]}, {"y": [1]}]}, "entry 1: input 'x' is missing"),
            ({"data": [{"x": [1, 2]}]}, "does not make a FP32 tensor of shape [4]"),
            ({"data": [{"x": ["a", "b", "c", "d"]}]}, "something other than numbers"),
            ({"data": [{"x": [1, None, 3, 4]}]}, "something other than numbers"),
            ({"data": [{"x": [[1, 2], [3]]}]}, "does not make a FP32 tensor"),
            ({"data": [{"x": {"b64": "!"}}]}, "does not make a FP32 tensor"),
            ({"data": [{"x": {"b64": "AAA="}}]}, "does not make a FP32 tensor"),
            ({"data": [{"x": {"b64": 3}}]}, "does not make a FP32 tensor"),
            ({"data": [{"x": {"content": [1], "shape": [2]}}]}, "tensor of shape [2]"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, content: Any, words: str) -> None:
        assert words in refusal(tmp_path, content, metadata())

    def test_open_dimensions_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputDataError, match="give --shape x:N"):
            read(tmp_path, {"data": [{"x": [1]}]}, metadata("INT32", (-1, -1)))

    def test_a_shape_that_is_no_list_is_refused(self, tmp_path: Path) -> None:
        content = {"data": [{"x": {"content": [1, 2, 3, 4], "shape": 4}}]}
        assert "entry 0: input 'x'" in refusal(tmp_path, content, metadata())

    def test_a_shape_must_fit_the_models(self, tmp_path: Path) -> None:
        content = {"data": [{"x": {"content": [1, 2], "shape": [2]}}]}
        assert "entry 0" in refusal(tmp_path, content, metadata())

    @pytest.mark.parametrize(
        ("datatype", "number"), [("UINT8", 300), ("UINT8", -1), ("INT64", 1.7)]
    )
    def test_a_number_that_the_datatype_cannot_hold_is_refused(
        self, tmp_path: Path, datatype: str, number: float
    ) -> None:
        refusal(tmp_path, {"data": [{"x": [0, 0, 0, number]}]}, metadata(datatype))
