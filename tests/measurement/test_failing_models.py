"""Servers that fail, hang or use too much: an honest end each time, and never a number."""

from pathlib import Path

import pytest

from tests.evaluating import measure
from tuner.load.generator import LoadGenerator
from tuner.model.space import Candidate
from tuner.records.results import State

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
CONFIG = """\
name: "moody"
backend: "python"
max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }
dynamic_batching { }
instance_group { count: 1 kind: KIND_CPU }
parameters { key: "turns_after" value { string_value: "AFTER" } }
parameters { key: "into" value { string_value: "INTO" } }
"""
MODEL = """\
import json
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        given = json.loads(args["model_config"])["parameters"]
        self.left = int(given["turns_after"]["string_value"])
        self.into = given["into"]["string_value"]

    def execute(self, requests):
        self.left -= len(requests)
        if self.left < 0 and self.into == "errors":
            raise ValueError("the weights are gone")
        if self.left < 0 and self.into == "silence":
            time.sleep(60)
        inputs = [pb_utils.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]) for x in inputs]
"""


def moody(folder: Path, after: int, into: str) -> Path:
    """A model that serves so many requests, and then none."""
    model = folder / "models/moody"
    (model / "1").mkdir(parents=True)
    text = CONFIG.replace("AFTER", str(after)).replace("INTO", into)
    (model / "config.pbtxt").write_text(text)
    (model / "1/model.py").write_text(MODEL)
    return model


@pytest.mark.parametrize(
    ("after", "into", "why"),
    [
        (0, "errors", "the model failed an inference: "),
        (10, "errors", "the weights are gone"),
        (10, "silence", "requests failed: no reply arrived"),
        (8_000, "errors", "the weights are gone"),
    ],
)
def test_a_server_that_fails_or_falls_silent_has_no_capacity(
    generator: LoadGenerator, tmp_path: Path, after: int, into: str, why: str
) -> None:
    found = measure(moody(tmp_path, after, into), generator, tmp_path, "p99<50ms", Candidate())
    assert (found.state, found.capacity) == (State.FAILED, None)
    assert why in (found.failure or "")


def test_a_model_that_needs_too_much_memory_is_settled_by_its_first_probe(
    generator: LoadGenerator, tmp_path: Path
) -> None:
    model = moody(tmp_path, 10**9, "nothing")
    found = measure(model, generator, tmp_path, "p99<50ms", Candidate(), constraints="memory<5MiB")
    assert (found.state, found.capacity) == (State.INFEASIBLE, None)
    assert "memory<5MiB: violated" in (found.failure or "")
    assert [p.outcome for p in found.probes] == ["violated"]
