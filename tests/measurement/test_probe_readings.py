"""What a probe reads of a real server: cores, memory, and the parts of the latency."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tuner.analysis.breakdown import break_down
from tuner.analysis.steps import step_uses
from tuner.deployments.repository import RepositoryDeployment
from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.errors import ServerFailed
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.measurement.probe import Prober
from tuner.measurement.watch import Thoroughness
from tuner.model.config import read_config
from tuner.model.repository import Repository
from tuner.records.results import ProbeRecord
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
SECONDS = 0.004
HELD = 80 * 2**20
TENSORS = """\
max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }
"""
BUSY = 'name: "busy"\nbackend: "python"\ndynamic_batching { }\n' + TENSORS
CHAIN = f"""\
name: "chain"
platform: "ensemble"
{TENSORS}
ensemble_scheduling {{
  step {{
    model_name: "busy" model_version: -1
    input_map {{ key: "X" value: "X" }} output_map {{ key: "Y" value: "Y" }}
  }}
}}
"""
MODEL = f"""\
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.held = bytearray(b"1" * {HELD})

    def execute(self, requests):
        end = time.thread_time() + {SECONDS} * len(requests)
        while time.thread_time() < end:
            pass
        outputs = [pb_utils.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", y)]) for y in outputs]
"""
HOW = Thoroughness(seconds=1.0, least_seconds=1.0, most_seconds=1.0, confidence=0.95)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that spends 4 ms of a core on each request, holding 80 MiB; and an ensemble of it."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("busy", BUSY), ("chain", CHAIN)):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
    (folder / "busy" / "1" / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def generator() -> Iterator[LoadGenerator]:
    with LoadGenerator() as generator:
        yield generator


@contextmanager
def running(model: Path, folder: Path) -> Iterator[RunningTriton]:
    with LocalLauncher() as launcher:
        config = read_config(model)
        repository = Repository.of_pipeline(model, config)
        deployment = (
            TritonDeployment(launcher, model, config, "http", Inputs())
            if repository is None
            else RepositoryDeployment(launcher, repository, "http", {model.name: Inputs()})
        )
        with deployment.start(None, folder / "log") as running:
            yield running


def prober(running: RunningTriton, generator: LoadGenerator, folder: Path) -> Prober:
    sla = Sla.parse("p99<2s")
    return Prober(running, generator, sla, folder, "0", np.random.default_rng(0))


def probe(prober: Prober, rate: float) -> ProbeRecord:
    record, _ = prober.open_loop(Arrivals.parse("constant"), rate, HOW, "measure")
    return record


def test_cores_and_parts_of_the_latency_follow_the_load(
    models: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    with running(models / "busy", tmp_path) as server:
        one = prober(server, generator, tmp_path)
        low, high = probe(one, 10), probe(one, 80)
    for record in (low, high):
        assert record.errors == 0
        assert record.host is not None
        assert record.host.memory is not None
        assert HELD < record.host.memory < HELD + 2**30
        assert record.host.client_cores is not None
        assert 0 < record.host.client_cores < 1
        parts = break_down(record)
        assert parts is not None
        assert parts.infer >= SECONDS
        assert parts.rest is not None
        total = sum(value or 0.0 for value in parts.parts.values())
        assert total == pytest.approx(parts.mean + parts.over)
    assert low.host is not None
    assert high.host is not None
    assert low.host.cpu is not None
    assert high.host.cpu is not None
    assert low.host.cpu > 0
    busy = SECONDS * high.n / (high.seconds + 6)  # at least this much, however slow the machine
    assert high.host.cpu > busy
    assert high.host.cpu * high.seconds > low.host.cpu * low.seconds


def test_a_rate_far_too_high_costs_the_next_one_nothing(
    models: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    """2,000 requests take the server 8 s, of which 5 s are waited for their answers."""
    with running(models / "busy", tmp_path) as server:
        one = prober(server, generator, tmp_path)
        assert probe(one, 5).errors == 0
        overrun = probe(one, 2000)
        after = probe(one, 5)
    assert overrun.outcome == "violated"
    assert overrun.errors > 0
    assert after.errors == 0
    assert after.latency["p50"] is not None
    assert after.latency["p50"] < 0.5


def test_an_ensemble_has_no_parts_of_its_own_but_those_of_its_steps(
    models: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    with running(models / "chain", tmp_path) as server:
        record = probe(prober(server, generator, tmp_path), 20)
    assert record.errors == 0
    assert record.mean is not None
    assert record.server is None
    assert break_down(record) is None
    (use,) = step_uses(record)
    assert (use.model, use.instances, use.calls) == ("busy", 1, 1.0)
    assert SECONDS <= use.compute < record.mean
    assert SECONDS * record.n <= use.utilization * record.seconds < record.seconds
    assert record.host is not None
    assert record.host.cpu is not None


def test_a_server_that_dies_in_a_probe_is_told_as_before(
    models: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    with running(models / "busy", tmp_path) as server:
        pid = server.server.pids()[0]
        timer = threading.Timer(0.4, os.kill, (pid, signal.SIGKILL))
        timer.start()
        with pytest.raises(ServerFailed, match="SIGKILL"):
            probe(prober(server, generator, tmp_path), 50)
        timer.join()
