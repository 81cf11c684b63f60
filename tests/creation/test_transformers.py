"""Folders of transformers: exported with open batch and length, and a processing.py that works."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from tests.creation.test_creation import init
from tuner.creation.batches import is_close
from tuner.model.config import read_config
from tuner.model.signature import Signature
from tuner.serving.loading import find_processing
from tuner.serving.onnx import OnnxModel

pytestmark = pytest.mark.slow
TEXTS = ["The cat sat", "a good mat and the bad cat on it"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.creation.pytorch_models import save_bert  # late: it takes seconds

    folder = tmp_path_factory.mktemp("transformers") / "bert"
    save_bert(folder, num_labels=3)
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """The model that becomes of it."""
    repository = folder.parent / "models"
    done = init(str(folder), "--to", str(repository), "--no-serve")
    assert done.exit_code == 0, done.output
    assert "note: processing.py tokenizes texts" in done.stdout
    return repository / "bert"


def test_inputs_are_what_the_tokenizer_gives(made: Path) -> None:
    signature = Signature.of_config(read_config(made))
    assert [(i.name, i.datatype, i.dims) for i in signature.inputs] == [
        ("input_ids", "INT64", (-1,)),
        ("token_type_ids", "INT64", (-1,)),
        ("attention_mask", "INT64", (-1,)),
    ]
    assert [(o.name, o.dims) for o in signature.outputs] == [("logits", (3,))]
    assert signature.max_batch_size == 32
    samples = json.loads((made / "inputs.json").read_text())["data"]
    assert samples[0]["input_ids"]["shape"] == [32], "as many tokens as the model has places"


def test_texts_are_tokenized_and_answered_as_transformers_does(made: Path, folder: Path) -> None:
    """By the project's own loader and engine."""
    engine = OnnxModel(made)
    processing = find_processing(made)(engine.signature)
    items = [
        TypeAdapter(processing.Item).validate_python(each)
        for each in (TEXTS[0], {"text": TEXTS[1]})
    ]
    inputs = processing.encode(items)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    expected = tokenizer(TEXTS, padding="max_length", max_length=32, return_tensors="np")
    for name, array in inputs.items():
        assert np.array_equal(array, expected[name]), name
    outputs = engine.compute(inputs)
    predictions = processing.decode(outputs)
    of_torch = reference(folder, TEXTS)
    assert is_close([each.outputs["logits"] for each in predictions], of_torch)
    assert (made / "processing.py").read_text().count("# FILL IN") == 2


def reference(folder: Path, texts: list[str]) -> Any:
    """Scores as transformers computes them, padded to the longest text alone."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = BertForSequenceClassification.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def test_the_length_is_the_user_s(folder: Path, tmp_path: Path) -> None:
    words = ("--shape", "input_ids:8", "--name", "short", "--no-serve")
    done = init(str(folder), "--to", str(tmp_path), *words)
    assert done.exit_code == 0, done.output
    assert "LENGTH = 8\n" in (tmp_path / "short/processing.py").read_text()
    samples = json.loads((tmp_path / "short/inputs.json").read_text())["data"]
    assert {tuple(each["shape"]) for each in samples[0].values()} == {(8,)}


def test_a_text_has_its_greatest_length(folder: Path, tmp_path: Path) -> None:
    done = init(str(folder), "--to", str(tmp_path), "--shape", "attention_mask:33", "--no-serve")
    assert done.exit_code == 2
    assert "--shape attention_mask:33: the model takes 32 tokens at most" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["Custom"], "auto_map": {"AutoModel": "own.Custom"}}, "is not run"),
        ({"architectures": ["pipeline"]}, "has no architecture 'pipeline'"),
        ({"architectures": []}, "architectures has to name one class"),
        ({"architectures": ["BertForQuestionAnswering"]}, "qa_outputs.weight"),
        ({"hidden_size": 8}, "save_pretrained"),
    ],
)
def test_a_model_that_is_not_there_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    copy = tmp_path / "bert"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    (copy / "own.py").write_text("raise SystemExit('this code was run')\n")
    refused(copy, said)


def test_a_folder_lacks_a_part(folder: Path, tmp_path: Path) -> None:
    for kept, said in (
        ("tokenizer*", "config.json, safetensors and tokenizer"),
        ("*config.json", "save_pretrained, which gives config.json"),
        ("[cm]*", "no tokenizer can be loaded"),
    ):
        part = tmp_path / str(len(kept))
        part.mkdir()
        for file in folder.glob(kept):
            shutil.copy(file, part)
        refused(part, said)


def refused(folder: Path, said: str) -> None:
    done = init(str(folder), "--to", str(folder / "models"), "--no-serve")
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not (folder / "models").exists()
