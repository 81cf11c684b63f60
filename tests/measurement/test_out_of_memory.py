"""Candidates that do not fit into the GPU's memory, on real servers, in PyTorch's own words."""

from pathlib import Path
from typing import Any

import pytest

from tests.evaluating import Silent, measure
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.model.space import MAX_BATCH_SIZE, Candidate
from tuner.records.results import Evaluation, State

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
CONFIG = """\
name: "hungry"
backend: "python"
max_batch_size: 2
input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }
dynamic_batching { max_queue_delay_microseconds: 20000 }
instance_group { count: 1 kind: KIND_CPU }
"""
MODEL = """\
import json
import pathlib

import triton_python_backend_utils as pb_utils

FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 21.96 GiB of "
    "which 1.10 GiB is free. Including non-PyTorch memory, this process has 20.86 GiB memory in "
    "use. Of the allocated memory 20.10 GiB is allocated by PyTorch, and 512.00 MiB is reserved by "
    "PyTorch but unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


class OutOfMemoryError(RuntimeError):
    pass


class TritonPythonModel:
    def initialize(self, args):
        if json.loads(args["model_config"])["max_batch_size"] >= 16:
            raise OutOfMemoryError(FULL)

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        if sum(len(x) for x in inputs) >= 4 or pathlib.Path(__file__).with_name("full").exists():
            raise OutOfMemoryError(FULL)
        outputs = [pb_utils.Tensor("Y", x) for x in inputs]
        return [pb_utils.InferenceResponse([y]) for y in outputs]
"""


class Filling(Silent):
    """Progress that lets the memory be full from the first probe at a rate on."""

    def __init__(self, full: Path) -> None:
        self._full = full

    def probing(self, what: str, rate: float | None) -> None:
        if rate is not None:
            self._full.touch()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose batches of 4 do not fit, and that does not load for batches of 16."""
    folder = tmp_path_factory.mktemp("models") / "hungry"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1/model.py").write_text(MODEL)
    return folder


def at_rate(
    model: Path, generator: LoadGenerator, folder: Path, batch: int, **how: Any
) -> Evaluation:
    candidate = Candidate.of({MAX_BATCH_SIZE: batch})
    return measure(model, generator, folder, "p99<400ms", candidate, rate=60.0, **how)


def test_a_model_that_does_not_fit_when_loaded(
    model: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    found = at_rate(model, generator, tmp_path, 16)
    assert found.state is State.FAILED
    assert found.cause == "out of memory"
    assert found.failure is not None
    assert found.failure.startswith("the server refused")
    assert "CUDA out of memory. Tried to allocate 2.00 GiB" in found.failure


@pytest.mark.parametrize("protocol", list(Transport))
def test_batches_that_do_not_fit_under_load(
    model: Path, generator: LoadGenerator, tmp_path: Path, protocol: Transport
) -> None:
    found = at_rate(model, generator, tmp_path, 8, protocol=protocol)
    assert found.state is State.FAILED
    assert found.cause == "out of memory"
    assert found.failure is not None
    assert found.failure.startswith("requests fail under load: ")
    assert "CUDA out of memory. Tried to allocate 2.00 GiB" in found.failure
    assert found.launch_seconds is not None


def test_memory_that_runs_out_in_a_probe(
    model: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    full = model / "1/full"
    try:
        found = at_rate(model, generator, tmp_path, 2, progress=Filling(full))
    finally:
        full.unlink(missing_ok=True)
    assert (found.state, found.cause) == (State.FAILED, "out of memory")
    assert found.capacity is None
    assert [p.purpose for p in found.probes] == ["unloaded", "measure"]
    assert found.probes[-1].errors > 0


def test_batches_that_fit(model: Path, generator: LoadGenerator, tmp_path: Path) -> None:
    found = at_rate(model, generator, tmp_path, 2)
    assert found.state is not State.FAILED
    assert (found.cause, found.failure) == (None, None)
