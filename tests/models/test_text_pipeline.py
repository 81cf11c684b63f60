"""The pipeline of sample models on a real Triton, as an ensemble and by calls from Python (BLS)."""

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT
from tuner.errors import ServerFailed
from tuner.load.input_file import read_inputs
from tuner.model.config import read_config, to_json
from tuner.model.signature import Signature
from tuner.servers.base import Server, ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher
from tuner.serving.onnx import OnnxModel

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
MODELS = ROOT / "model_repository"
CLASSIFIER = MODELS / "text_classifier"
STEPS = ("text_tokenizer", "text_classifier", "text_label")
SECONDS = 120.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with (
        LocalLauncher() as launcher,
        launcher.launch(ServerSpec(MODELS, "text_pipeline", log, SECONDS, opens="model")) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    """Of the server with both pipelines."""
    assert server.endpoints.grpc is not None
    with Control(server) as control:
        for name in (*STEPS, "text_pipeline", "text_pipeline_bls"):
            control.load(name, None, SECONDS)
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        yield client


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return (CLASSIFIER / "samples.txt").read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def expected(texts: list[str]) -> list[Any]:
    """Label and confidence of each text, as a service gets them by the classifier's processing."""
    spec = importlib.util.spec_from_file_location("processing", CLASSIFIER / "processing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    processing = module.create(CLASSIFIER, None)
    return list(processing.decode(OnnxModel(CLASSIFIER).compute(processing.encode(texts))))


def ask(
    client: triton.InferenceServerClient, model: str, texts: list[bytes]
) -> list[tuple[str, float]]:
    tensor = triton.InferInput("text", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([texts], dtype=np.object_).T)
    reply = client.infer(model, [tensor])
    labels, shares = reply.as_numpy("label"), reply.as_numpy("probability")
    assert labels.shape == shares.shape == (len(texts), 1)
    pairs = zip(labels[:, 0], shares[:, 0], strict=True)
    return [(label.decode(), float(share)) for label, share in pairs]


@pytest.mark.parametrize("model", ["text_pipeline", "text_pipeline_bls"])
def test_it_answers_as_the_processing_of_the_classifier_does(model, client, texts, expected):
    """With requests of one and of several texts, many at a time."""
    parts = [texts[:1], texts[1:9], *([text] for text in texts[9:])]
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, client, model, [t.encode() for t in part]) for part in parts]
        found = [answer for each in asked for answer in each.result()]
    assert [label for label, _ in found] == [each.label for each in expected]
    assert {label for label, _ in found} == {"negative", "positive"}
    shares = [share for _, share in found]
    np.testing.assert_allclose(shares, [each.confidence for each in expected], atol=1e-4)


@pytest.mark.parametrize("model", ["text_pipeline", "text_pipeline_bls"])
def test_a_text_that_is_not_utf_8_fails_its_own_request_alone(model, client, texts, expected):
    good = (expected[0].label, pytest.approx(expected[0].confidence, abs=1e-4))
    with ThreadPoolExecutor(12) as pool:
        bytes_ = [texts[0].encode(), b"\xff"] * 12
        asked = [pool.submit(ask, client, model, [each]) for each in bytes_]
        for number, each in enumerate(asked):
            if number % 2:
                with pytest.raises(InferenceServerException, match="text is not UTF-8"):
                    each.result()
            else:
                assert each.result() == [good]


def test_a_step_of_smaller_batches_serves_the_pipeline_in_python(server, client, texts, expected):
    config = read_config(MODELS / "text_label")
    config.max_batch_size = 1
    with changed(server, "text_label", to_json(config)), ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, client, "text_pipeline_bls", [t.encode()]) for t in texts]
        labels = [label for each in asked for label, _ in each.result()]
    assert labels == [each.label for each in expected]


@pytest.mark.parametrize(
    ("model", "key"), [("text_tokenizer", "tokenizer"), ("text_label", "labels")]
)
def test_without_the_classifier_beside_it_a_step_says_what_it_lacks(server, client, model, key):
    config = read_config(MODELS / model)
    config.parameters[key].string_value = "../gone/file"
    refused = pytest.raises(ServerFailed, match="copy the folder text_classifier beside")
    with refused, changed(server, model, to_json(config)):
        pass


@contextmanager
def changed(server: Server, model: str, config: str) -> Iterator[None]:
    """The model has another configuration meanwhile."""
    with Control(server) as control:
        try:
            control.load(model, config, SECONDS)
            yield
        finally:
            control.load(model, to_json(read_config(MODELS / model)), SECONDS)


def test_the_inputs_to_ask_with_are_the_samples_of_the_classifier(texts):
    folder = MODELS / "text_pipeline"
    pool = read_inputs(folder / "inputs.json", Signature.of_config(read_config(folder)), {})
    assert [inputs[0].array.tolist() for inputs in pool] == [[[text.encode()]] for text in texts]
