"""The same requests in every form: text and tensors, or tensors and JSON."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.conftest import ROOT
from tuner.deployments import payload
from tuner.deployments.payload import Payload, read_bodies
from tuner.errors import InputDataError
from tuner.load.batches import BatchMix
from tuner.load.input_file import read_inputs
from tuner.load.inputs import PoolSettings
from tuner.model.config import parse_config, read_config
from tuner.model.signature import Signature

CLASSIFIER = ROOT / "model_repository" / "text_classifier"


def signature(model: Path = CLASSIFIER) -> Signature:
    return Signature.of_config(read_config(model))


def test_texts_become_tensors_by_the_models_own_processing(tmp_path: Path) -> None:
    file = tmp_path / "requests.txt"
    file.write_text(
        '房间很干净，服务员也很热情。\n\n{"text": "太差了", "max_length": 8}\n', "utf-8"
    )
    found = Payload.of(CLASSIFIER, signature(), requests=file)
    assert found.sends_text
    assert [body["text"] for body in found.bodies] == ["房间很干净，服务员也很热情。", "太差了"]
    ids, mask = (tensor.array for tensor in found.pool[1])
    assert ids.shape == mask.shape == (1, 128)
    assert mask.sum() == 4  # three characters after the mark of the beginning
    session = ort.InferenceSession(str(CLASSIFIER / "1" / "model.onnx"))
    feed = {tensor.name: tensor.array for tensor in found.pool[0]}
    (logits,) = session.run(["logits"], feed)
    assert logits[0, 1] > logits[0, 0], "a friendly review"


def test_the_samples_of_the_model_are_sent_where_none_are_given() -> None:
    found = Payload.of(CLASSIFIER, signature())
    assert len(found.bodies) >= 32
    assert len({json.dumps(body) for body in found.bodies}) == len(found.bodies)


def test_a_model_without_processing_is_asked_with_tensors(tmp_path: Path) -> None:
    config = parse_config(
        'name: "m" max_batch_size: 4 '
        "input [{ name: 'X' data_type: TYPE_FP32 dims: [2, 3] },"
        "{ name: 'WORD' data_type: TYPE_STRING dims: [1] }]",
        "m",
    )
    of = Signature.of_config(config)
    found = Payload.of(tmp_path, of)
    assert not found.sends_text
    body, (x, word) = found.bodies[0], found.pool[0]
    assert x.array.shape == (1, 2, 3)
    assert np.allclose(np.array(body["X"]), x.array[0])
    assert body["WORD"] == [word.array[0, 0].decode()]
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"data": found.entries()}))
    again = read_inputs(file, of, {}, BatchMix())
    assert np.allclose(again[0][0].array, x.array)
    assert again[0][1].array.tolist() == word.array.tolist()


def test_texts_for_a_model_that_takes_none_are_refused(tmp_path: Path) -> None:
    model = ROOT / "model_repository" / "emulated_gpu"
    file = tmp_path / "requests.txt"
    file.write_text("a text\n")
    with pytest.raises(InputDataError, match="needs the model's own processing"):
        Payload.of(model, signature(model), requests=file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "contains no request"),
        ("{broken\n", "not JSON"),
        ('{"text": ""}\n', "is not valid for"),
    ],
)
def test_requests_that_are_none_are_refused(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "requests.txt"
    file.write_text(content)
    with pytest.raises(InputDataError, match=words):
        Payload.of(CLASSIFIER, signature(), requests=file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="cannot read"):
        read_bodies(tmp_path / "none.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InputDataError, match="not UTF-8"):
        read_bodies(tmp_path / "bytes")


def test_a_large_file_is_read_as_far_as_the_pool_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "requests.txt"
    file.write_text("word\n" * 1000)
    monkeypatch.setattr(payload, "POOL", PoolSettings(entries=7))
    assert read_bodies(file) == [{"text": "word"}] * 7
    monkeypatch.setattr(payload, "POOL", PoolSettings(size=50))
    assert len(read_bodies(file)) == 11
    file.write_text("x" * 1000)
    with pytest.raises(InputDataError, match="line 1 is longer than 50"):
        read_bodies(file)


@pytest.mark.parametrize("line", ["{" * 1000, '{"a": ' * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_line_that_is_not_json_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "requests.jsonl").write_text(f"text\n{line}\n")
    with pytest.raises(InputDataError, match=r"requests\.jsonl:2: ") as caught:
        read_bodies(tmp_path / "requests.jsonl")
    assert len(str(caught.value)) < 1000
