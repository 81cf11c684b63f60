"""Emulated models on one device, and on one each, on a real Triton."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from benchmarks.pipelines import EmulatedModel, EmulatedPipeline
from benchmarks.workloads import emulated
from tuner.errors import ServerFailed
from tuner.model.config import read_config, to_json
from tuner.servers.base import Server, ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
SECONDS = 60.0
EXECUTION = 0.2
CALLS = 4
"""Of each of two models, one after the other."""
FAST = EmulatedModel("fast", 2.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with a device each, two on a shared one, and a pipeline."""
    folder = tmp_path_factory.mktemp("models")
    times = {"base_us": 1e6 * EXECUTION, "per_item_us": 0, "exclusive_share": 1}
    for place, name in enumerate(("own_a", "own_b", "shared_a", "shared_b")):
        emulated(folder / name, times | ({"shared_device": 1} if place > 1 else {}))
    return EmulatedPipeline("pipeline", (FAST,), "p99<40ms").repository(folder)


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    spec = ServerSpec(repository, "pipeline", repository / "server.log", SECONDS, opens="model")
    with LocalLauncher() as launcher, launcher.launch(spec) as server:
        yield server


def ask(server: Server, model: str, times: int = 1) -> np.ndarray:
    """The last answer to the numbers 0 to 15."""
    assert server.endpoints.grpc is not None
    tensor = triton.InferInput("INPUT", [1, 16], "FP32")
    tensor.set_data_from_numpy(np.arange(16, dtype=np.float32)[np.newaxis])
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        for _ in range(times):
            answer = client.infer(model, [tensor]).as_numpy("OUTPUT")
    return answer


def seconds_of_both(server: Server, *models: str) -> float:
    with Control(server) as control, control.loaded(models, SECONDS):
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda model: ask(server, model, CALLS), models))
        return time.monotonic() - began


def test_models_on_a_shared_device_exclude_each_other(server: Server) -> None:
    assert seconds_of_both(server, "shared_a", "shared_b") >= 2 * CALLS * EXECUTION


def test_models_with_a_device_each_do_not(server: Server) -> None:
    tries = (seconds_of_both(server, "own_a", "own_b") for _ in range(3))
    assert any(seconds < 1.75 * CALLS * EXECUTION for seconds in tries)


def test_a_device_is_shared_or_not(server: Server, repository: Path) -> None:
    config = read_config(repository / "shared_a")
    config.parameters["shared_device"].string_value = "2"
    with Control(server) as control, pytest.raises(ServerFailed, match="must be 0 or 1"):
        control.load("shared_a", to_json(config), SECONDS)


def test_an_emulated_model_is_a_step_of_an_ensemble(server: Server) -> None:
    with Control(server) as control, control.loaded(["pipeline"], SECONDS):
        assert ask(server, "pipeline").tolist() == [list(range(16))]
