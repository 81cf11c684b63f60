"""perf_analyzer as the load engine: its records, and the real program on a real server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load import program
from tests.conftest import need
from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.errors import InputDataError, LauncherUnavailable, LoadFailed
from tuner.load import perf_analyzer
from tuner.load.perf_analyzer import PerfAnalyzer, complaint, match, parse
from tuner.load.target import Tensor, Transport, make_target
from tuner.model.config import read_config
from tuner.servers.local import LocalLauncher

EXPORT = (
    b'{"experiments":[{"experiment":{"mode":"request_rate","value":48.0},"requests":['
    b'{"timestamp":1795394764384198300,"request_inputs":{"X":null},'
    b'"response_timestamps":[1795394764384198900],"response_outputs":[{"Y":"\\"timestamp\\":1"}]},'
    b'{"timestamp":1795394764364198300,"request_inputs":{"X":null},'
    b'"response_timestamps":[1795394764370489735],"response_outputs":[{"Y":"\x80\n\xff"}]}],'
    b'"window_boundaries":[1,2]}]}'
)


def test_times_are_read_in_order_of_sending_whatever_the_outputs_hold():
    sent, done = parse(EXPORT)
    np.testing.assert_allclose(sent, [0.0, 0.02], atol=1e-12)
    np.testing.assert_allclose(done, [0.006291435, 0.0200006], atol=1e-12)


def test_an_export_without_requests_is_a_failure():
    with pytest.raises(LoadFailed, match="recorded no request"):
        parse(b'{"experiments":[]}')


def test_the_most_punctual_request_counts_as_on_time_and_missing_ones_as_errors():
    planned = np.array([0.1, 0.2, 0.3])
    samples = match(np.array([0.0, 0.15]), np.array([0.01, 0.16]), planned)
    np.testing.assert_allclose(samples.sent[:2], [0.1, 0.25])
    np.testing.assert_allclose(samples.lateness, [0.0, 0.05], atol=1e-12)
    np.testing.assert_allclose(samples.latency, [0.01, 0.06, np.inf])
    assert samples.errors == 1


def test_a_complaint_is_what_stands_before_the_usage_text():
    log = "WARNING: data type 'FP32'...\nerror: no model\nUsage: perf_analyzer\n--help"
    assert complaint(log) == "error: no model"


def test_another_program_is_refused(monkeypatch):
    monkeypatch.setenv(perf_analyzer.VARIABLE, "true")
    with pytest.raises(LauncherUnavailable, match="is not a working perf_analyzer"):
        PerfAnalyzer()


def test_a_missing_program_is_told(monkeypatch):
    monkeypatch.setenv(perf_analyzer.VARIABLE, "/nowhere/perf_analyzer")
    with pytest.raises(
        LauncherUnavailable, match="perf_analyzer was not found: put it on the PATH"
    ):
        PerfAnalyzer()


@pytest.fixture(scope="module")
def binary() -> str:
    found = program.prepared()
    need(found is not None, "no perf_analyzer; run python -m benchmarks.load.program")
    assert found is not None
    return found


@pytest.fixture
def engine(binary: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PerfAnalyzer]:
    monkeypatch.setenv(perf_analyzer.VARIABLE, binary)
    with PerfAnalyzer() as engine:
        yield engine


@pytest.fixture(scope="module")
def running(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTriton]:
    need(program.prepared() is not None, "perf_analyzer was not found")
    model = repository / "emulated_gpu"
    log = tmp_path_factory.mktemp("logs") / "log"
    with LocalLauncher() as launcher:
        config = read_config(model)
        deployment = TritonDeployment(
            launcher, model, config, Transport.HTTP, Inputs(), opens="model"
        )
        with deployment.start(None, log) as running:
            yield running


@pytest.mark.triton
@pytest.mark.parametrize("protocol", Transport)
@pytest.mark.usefixtures("embedded_triton")
def test_both_loops_on_a_real_server(
    engine: PerfAnalyzer, running: RunningTriton, protocol: Transport
) -> None:
    engine.aim(running.towards(protocol).target)
    closed = engine.closed_loop(4, 0.6, 5.0)
    assert closed.samples.errors == 0
    assert len(closed.samples) >= 20
    assert closed.samples.latency.min() >= 0.004  # the model's own time
    assert closed.cpu > 0
    times = np.sort(np.random.default_rng(0).random(40)) * 0.8
    opened = engine.open_loop(times, 5.0).samples
    assert len(opened) == 40
    assert opened.errors == 0
    assert opened.lateness.min() == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(opened.intended, times, atol=1e-4)


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_a_refusal_says_why(engine: PerfAnalyzer, running: RunningTriton) -> None:
    pool = [[Tensor("INPUT", "FP32", np.zeros((1, 16), np.float32))]]
    engine.aim(make_target(Transport.HTTP, running.target.address, "nope", pool, batched=True))
    with pytest.raises(LoadFailed, match="unknown model"):
        engine.closed_loop(1, 0.3, 1.0)


def test_bytes_that_are_no_text_are_refused(engine: PerfAnalyzer) -> None:
    pool = [[Tensor("X", "BYTES", np.array([[b"\xff"]], dtype=np.object_))]]
    with pytest.raises(InputDataError, match="not UTF-8"):
        engine.aim(make_target(Transport.HTTP, "127.0.0.1:1", "m", pool, batched=True))
