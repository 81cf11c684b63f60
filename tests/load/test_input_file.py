import base64
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.test_inputs import NUMBERS, signature, x
from tuner.errors import InputDataError
from tuner.load import input_file
from tuner.load.batches import BatchMix
from tuner.load.input_file import read_inputs
from tuner.load.inputs import POOL, PoolSettings
from tuner.load.target import Tensor
from tuner.model.signature import Signature, TensorSpec


def requests(
    folder: Path, content: Any, of: Signature, batches: str = "1", **shapes: tuple[int, ...]
) -> list[list[Tensor]]:
    file = folder / "data.json"
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_text(text, encoding="utf-8")
    return read_inputs(file, of, shapes, BatchMix.parse(batches), seed=3)


def read(
    folder: Path, content: Any, spec: TensorSpec, batched: bool = True, **shapes: Any
) -> list[Any]:
    """The arrays of the single input ``x``."""
    pool = requests(folder, content, signature(spec, batched=batched), **shapes)
    return [request[0].array for request in pool]


def refusal(folder: Path, content: Any, spec: TensorSpec, **shapes: Any) -> str:
    with pytest.raises(InputDataError) as caught:
        read(folder, content, spec, **shapes)
    assert "data.json" in str(caught.value)
    return str(caught.value)


def base64_of(raw: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(raw).decode()}


def length_and(*words: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(word)) + word for word in words)


NAMES = st.sampled_from(["x", "b64", "content", "shape"])


class TestContent:
    @pytest.mark.parametrize("datatype", NUMBERS)
    def test_every_datatype_from_a_list(self, tmp_path: Path, datatype: str) -> None:
        (array,) = read(tmp_path, {"data": [{"x": [0, 1, 1, 0]}]}, x(datatype))
        assert array.dtype == NUMBERS[datatype]
        assert array.tolist() == [[0, 1, 1, 0]]

    @pytest.mark.parametrize("datatype", [name for name in NUMBERS if name != "BF16"])
    def test_every_datatype_from_base64(self, tmp_path: Path, datatype: str) -> None:
        raw = np.array([0, 1, 1, 0], dtype=NUMBERS[datatype]).tobytes()
        (array,) = read(tmp_path, {"data": [{"x": base64_of(raw)}]}, x(datatype))
        assert array.tolist() == [[0, 1, 1, 0]]

    def test_bf16_from_base64(self, tmp_path: Path) -> None:
        raw = b"\x80\x3f\x00\x40\x80\x3f\x00\x40"  # 1, 2, 1, 2
        (array,) = read(tmp_path, {"data": [{"x": base64_of(raw)}]}, x("BF16"))
        assert array.tolist() == [[1, 2, 1, 2]]

    def test_strings_from_a_list(self, tmp_path: Path) -> None:
        content = {"data": [{"x": ["größe", ""]}]}
        assert read(tmp_path, content, x("BYTES", (2,)))[0].tolist() == [["größe".encode(), b""]]

    def test_strings_in_base64_have_their_lengths_before_them(self, tmp_path: Path) -> None:
        content = {"data": [{"x": base64_of(length_and(b"\xff\0", b"hello world"))}]}
        (array,) = read(tmp_path, content, x("BYTES", (2,)))
        assert array.tolist() == [[b"\xff\0", b"hello world"]]

    @pytest.mark.parametrize("raw", [b"hello", b"\xff", length_and(b"ab")[:-1], b"\xff" * 4])
    def test_strings_in_base64_without_lengths_are_refused(
        self, tmp_path: Path, raw: bytes
    ) -> None:
        message = refusal(tmp_path, {"data": [{"x": base64_of(raw)}]}, x("BYTES", (1,)))
        assert "each string must start with its length" in message

    def test_nested_and_flat_lists_are_the_same(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [[1, 2], [3, 4]]}, {"x": [1, 2, 3, 4]}]}
        nested, flat = read(tmp_path, content, x("INT32", (2, 2)))
        assert nested.tolist() == flat.tolist() == [[[1, 2], [3, 4]]]

    def test_entries_may_be_grouped_in_streams(self, tmp_path: Path) -> None:
        content = {"data": [[{"x": [1]}, {"x": [2]}], {"x": [3]}]}
        arrays = read(tmp_path, content, x("INT32", (1,)))
        assert [array.item() for array in arrays] == [1, 2, 3]

    def test_without_a_batch_dimension_nothing_is_added(self, tmp_path: Path) -> None:
        arrays = read(tmp_path, {"data": [{"x": [1, 2]}]}, x("INT32", (2,)), batched=False)
        assert arrays[0].shape == (2,)

    def test_an_optional_input_may_be_left_out_or_given(self, tmp_path: Path) -> None:
        bias = TensorSpec("bias", "FP32", (-1,), optional=True)
        data = {"data": [{"x": [1, 2, 3, 4]}, {"bias": [1, 2], "x": [1, 2, 3, 4]}]}
        pool = requests(tmp_path, data, signature(x(), bias))
        assert [[tensor.name for tensor in each] for each in pool] == [["x"], ["x", "bias"]]

    def test_what_follows_the_data_does_not_count(self, tmp_path: Path) -> None:
        content = {"before": 1, "data": [{"x": [1, 2, 3, 4]}], "validation_data": [{}]}
        assert len(read(tmp_path, content, x())) == 1

    @given(st.lists(st.binary(max_size=20), min_size=1, max_size=6))
    def test_any_strings_survive(self, tmp_path_factory: Any, words: list[bytes]) -> None:
        folder = tmp_path_factory.mktemp("strings")
        content = {"data": [{"x": base64_of(length_and(*words))}]}
        assert read(folder, content, x("BYTES", (-1,)))[0].tolist() == [words]


class TestShapes:
    def test_content_may_bring_its_own(self, tmp_path: Path) -> None:
        content = {"data": [{"x": {"content": [1, 2, 3], "shape": [3]}}]}
        assert read(tmp_path, content, x("INT32", (-1,)))[0].shape == (1, 3)

    @pytest.mark.parametrize("beside", [True, False])
    def test_base64_may_bring_one_too(self, tmp_path: Path, beside: bool) -> None:
        raw = base64_of(np.arange(6, dtype=np.int32).tobytes())
        tensor = {**raw, "shape": [2, 3]} if beside else {"content": raw, "shape": [2, 3]}
        assert read(tmp_path, {"data": [{"x": tensor}]}, x("INT32", (-1, -1)))[0].shape == (1, 2, 3)

    def test_an_option_gives_it(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [1, 2, 3, 4, 5, 6]}]}
        assert read(tmp_path, content, x("INT32", (-1, -1)), x=(2, 3))[0].shape == (1, 2, 3)

    def test_nesting_tells_it(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [[1, 2, 3], [4, 5, 6]]}]}
        assert read(tmp_path, content, x("INT32", (-1, -1)))[0].shape == (1, 2, 3)

    def test_the_number_of_elements_tells_a_single_open_dimension(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [1, 2, 3, 4, 5, 6]}, {"x": [1, 2, 3]}]}
        shapes = [array.shape for array in read(tmp_path, content, x("INT32", (3, -1)))]
        assert shapes == [(1, 3, 2), (1, 3, 1)]

    def test_what_is_still_open_is_asked_for(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, {"data": [{"x": [1, 2]}]}, x("INT32", (-1, -1)))
        assert "add --shape x:N,N" in message

    @pytest.mark.parametrize("shape", [4, "4", [4.0], [True, 4], [-4], [5], [2, 2]])
    def test_one_that_does_not_fit_is_refused(self, tmp_path: Path, shape: Any) -> None:
        content = {"data": [{"x": {"content": [1, 2, 3, 4], "shape": shape}}]}
        assert "entry 0" in refusal(tmp_path, content, x())


class TestBatches:
    def test_items_are_joined_in_turn(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [n]} for n in range(5)]}
        pool = requests(tmp_path, content, signature(x("INT32", (1,))), "1,2")
        assert len(pool) == POOL.requests
        items = np.concatenate([tensor.array for (tensor,) in pool])
        assert items.ravel().tolist() == np.resize(np.arange(5), len(items)).tolist()
        sizes = [len(tensor.array) for (tensor,) in pool]
        assert (sizes.count(1), sizes.count(2)) == (64, 64)
        assert sizes != sorted(sizes)

    def test_every_item_of_a_long_file_is_sent(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [n]} for n in range(2 * POOL.requests + 1)]}
        pool = requests(tmp_path, content, signature(x("INT32", (1,))), "2")
        sent = {int(item) for (tensor,) in pool for item in tensor.array.ravel()}
        assert sent == set(range(2 * POOL.requests + 1))

    def test_items_of_different_shapes_are_not_joined(self, tmp_path: Path) -> None:
        content = {"data": [{"x": [1, 2]}, {"x": [1]}]}
        with pytest.raises(InputDataError, match=r"input x has different shapes, \[1\] and \[2\]"):
            requests(tmp_path, content, signature(x("INT32", (-1,))), "2")

    def test_items_with_different_inputs_are_not_joined(self, tmp_path: Path) -> None:
        bias = TensorSpec("bias", "FP32", (1,), optional=True)
        data = {"data": [{"x": [1, 2, 3, 4]}, {"bias": [1], "x": [1, 2, 3, 4]}]}
        with pytest.raises(InputDataError, match="only some of them have an optional input"):
            requests(tmp_path, data, signature(x(), bias), "2")

    def test_a_model_without_a_batch_dimension_takes_one_item(self, tmp_path: Path) -> None:
        with pytest.raises(InputDataError, match="max_batch_size 0"):
            requests(tmp_path, {"data": [{"x": [1]}]}, signature(x(), batched=False), "1,2")


class TestRefused:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputDataError, match=r"cannot read --input-data .*nowhere\.json: No"):
            read_inputs(tmp_path / "nowhere.json", signature(x()), {})

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("{", "is not JSON"),
            ("", "is not JSON"),
            ("\x00", "is not JSON"),
            ('{"data": [{"x": [NaN, 1, 1, 1]}]}', "is not JSON"),
            ("[]", 'needs a list "data"'),
            ({"data": []}, "at least one entry"),
            ({"data": {}}, 'needs a list "data"'),
            ({"data": [3]}, "entry 0: an entry must map input names"),
            ({"data": [None]}, "entry 0: an entry must map input names"),
            ({"data": [{}]}, "entry 0: input 'x' is missing"),
            ({"data": [{"x": [1, 2, 3, 4]}, {"y": [1]}]}, "entry 1: m has no input 'y'"),
            ({"data": [{"x": [1, 2, 3, 4], "payload": []}]}, "m has no input 'payload'"),
            ({"data": [{"x": None}]}, "must be a list or"),
            ({"data": [{"x": 3}]}, "must be a list or"),
            ({"data": [{"x": "abcd"}]}, "must be a list or"),
            ({"data": [{"x": {}}]}, 'either "b64" or "content"'),
            ({"data": [{"x": {"content": [1, 2, 3, 4], "more": 1}}]}, 'either "b64" or "content"'),
            ({"data": [{"x": {"content": [1], "b64": "AAAA"}}]}, 'either "b64" or "content"'),
            ({"data": [{"x": {"content": {"content": [1]}}}]}, 'as {"b64"'),
            ({"data": [{"x": [1, 2]}]}, "is not a valid FP32 tensor of shape [4]"),
            ({"data": [{"x": ["a", "b", "c", "d"]}]}, "only numbers"),
            ({"data": [{"x": [1, None, 3, 4]}]}, "only numbers"),
            ({"data": [{"x": [1, {}, 3, 4]}]}, "only numbers"),
            ({"data": [{"x": [[1, 2], [3]]}]}, "is not a valid FP32 tensor"),
            ({"data": [{"x": {"b64": "!"}}]}, "is not a valid FP32 tensor"),
            ({"data": [{"x": {"b64": "AAA="}}]}, "is not a valid FP32 tensor"),
            ({"data": [{"x": {"b64": 3}}]}, "is not a valid FP32 tensor"),
            ({"data": [{"x": {"content": [1], "shape": [2]}}]}, "tensor of shape [2]"),
            ('{"data": [{"x": ' + "[" * 5000 + "]" * 5000 + "}]}", "entry 0"),
            ('{"data": [{"x": [' + "9" * 5000 + ", 1, 1, 1]}]}", "data.json"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, content: Any, words: str) -> None:
        assert words in refusal(tmp_path, content, x())

    @pytest.mark.parametrize("word", [None, 3, True, {}, ["a"]])
    def test_what_is_no_string_is_no_text(self, tmp_path: Path, word: Any) -> None:
        message = refusal(tmp_path, {"data": [{"x": ["a", word]}]}, x("BYTES", (2,)))
        assert "is not a valid BYTES tensor" in message

    @pytest.mark.parametrize(
        ("datatype", "number"), [("UINT8", 300), ("UINT8", -1), ("INT64", 1.7), ("INT64", 1e300)]
    )
    def test_a_number_that_the_datatype_cannot_hold_is_refused(
        self, tmp_path: Path, datatype: str, number: float
    ) -> None:
        refusal(tmp_path, {"data": [{"x": [0, 0, 0, number]}]}, x(datatype))

    def test_a_shape_of_no_input_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputDataError, match="--shape y: m has no such input"):
            read(tmp_path, {"data": [{"x": [1, 2, 3, 4]}]}, x(), y=(3,))

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, tmp_path_factory: Any, raw: bytes) -> None:
        file = tmp_path_factory.mktemp("any") / "data.json"
        file.write_bytes(raw)
        with pytest.raises(InputDataError):
            read_inputs(file, signature(x()), {})

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
            max_leaves=12,
        )
    )
    def test_any_content_is_read_or_refused(self, tmp_path_factory: Any, content: Any) -> None:
        file = tmp_path_factory.mktemp("any") / "data.json"
        file.write_text(json.dumps({"data": [{"x": content}]}))
        try:
            (request,) = read_inputs(file, signature(x("INT32", (-1,))), {})
        except InputDataError:
            return
        assert request[0].array.dtype == np.int32


@pytest.mark.parametrize("grouped", [False, True])
def test_entries_are_read_one_by_one_out_of_streams_too(tmp_path: Path, grouped: bool) -> None:
    entries = ", ".join(f'{{"x": [{n}, 0, 0, 0]}}' for n in range(30_000))
    content = f'{{"data": [{f"[{entries}]" if grouped else entries}]}}'
    file = tmp_path / "data.json"
    file.write_text(content)
    tracemalloc.start()
    try:
        with file.open("rb") as opened:
            number = sum(1 for _ in input_file._Reader(opened, "x").entries())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert number == 30_000
    assert peak < 4 << 20  # all at once, they take 12 MB


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"values": 3}, "entry 1: it has more than 3 values; encode large tensors as b64"),
        ({"depth": 2}, "entry 1: it has more than 2 levels"),
        ({"text": 10}, "MiB of text"),
    ],
)
def test_what_one_entry_may_take_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], words: str
) -> None:
    monkeypatch.setattr(input_file, "LIMITS", input_file.EntryLimits(**limits))
    content = {"data": [{"x": [1]}, {"x": [[1, 2, 3, 4]]}]}
    assert words in refusal(tmp_path, content, x("INT32", (-1,)))


def test_what_stands_before_and_beside_the_data_does_not_count(tmp_path: Path) -> None:
    content = '{"a": {"data": [3]}, "b": [[{"data": [4]}]], "data": [{"x": [1]}], "c": [{}]}'
    assert len(read(tmp_path, content, x("INT32", (1,)))) == 1


def test_so_many_entries_are_read_however_small_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_file, "POOL", PoolSettings(entries=7))
    content = {"data": [{"x": [n]} for n in range(100)]}
    assert len(read(tmp_path, content, x("INT32", (1,)))) == 7


def test_a_large_file_is_read_as_far_as_the_pool_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_file, "POOL", PoolSettings(size=400))
    content = {"data": [{"x": [n, 0, 0, 0]} for n in range(100)]}
    assert len(read(tmp_path, content, x())) == 26  # of 16 bytes each
