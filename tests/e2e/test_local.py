"""Whole runs on the embedded Triton: searching, confirming, exporting, stopping, going on."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.conftest import Outcome, command, environment, servers_under
from tuner.load.inputs import make_inputs
from tuner.load.target import http_body
from tuner.model_config import from_json, parse_config
from tuner.results import Evaluation, Run, baseline, best
from tuner.samples import Samples
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher
from tuner.study import is_finished

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]


@pytest.fixture
def model(repository: Path, tmp_path: Path) -> Path:
    """A model of this test alone, so that its servers can be told from others."""
    return Path(shutil.copytree(repository / "emulated_gpu", tmp_path / "models/emulated_gpu"))


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    yield
    deadline = time.monotonic() + 10
    while servers_under(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert servers_under(tmp_path) == []


def test_search_finds_exports_and_reports_a_better_configuration(
    tuner: Tuner, model: Path, tmp_path: Path
) -> None:
    done = tuner(
        "search", str(model), "--sla-p99", "120ms", "--trials", "4", "--json", "--seed", "1"
    )
    assert done.code == 0, done.err
    result = done.result
    run = Run.open(tmp_path / result["run"])
    evaluations = run.evaluations()
    first = evaluations[0]
    assert first.trial == 0
    assert first.baseline
    searched = [e for e in evaluations if e.phase == "search"]
    assert len({e.candidate for e in searched}) == len(searched) == 4
    found, winner = baseline(evaluations), best(evaluations)
    assert found is not None
    assert winner is not None
    assert winner.phase == "confirm"
    assert (winner.capacity or 0) > 1.1 * (found.capacity or 0)
    assert result["winner"]["capacity_per_second"] == winner.capacity
    assert run.report.stat().st_size > 1_000_000
    for evaluation in searched:
        assert any(run.logs.glob(f"{evaluation.trial:04d}-search*.log"))
    _check_samples(run, winner)
    _check_is_served(run.winner, winner, tmp_path)


def _check_samples(run: Run, winner: Evaluation) -> None:
    probe = winner.at_capacity()
    assert probe is not None
    assert probe.samples is not None
    samples = Samples.load(run.folder / probe.samples)
    assert len(samples) == probe.n > 0
    assert (samples.sent >= samples.intended).all()
    assert probe.server is not None
    assert sum(size * n for size, n in probe.server.batches.items()) == probe.server.requests


def _check_is_served(repository: Path, winner: Evaluation, tmp_path: Path) -> None:
    """A fresh server takes the exported repository as it is, and answers."""
    spec = ServerSpec(repository, "emulated_gpu", tmp_path / "fresh.log")
    with (
        LocalLauncher() as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load("emulated_gpu", None, 60)
        in_force = from_json(control.config("emulated_gpu"))
        wanted = parse_config(winner.config, "record")
        assert in_force.max_batch_size == wanted.max_batch_size
        assert in_force.instance_group[0].count == wanted.instance_group[0].count
        rng = np.random.default_rng(0)
        inputs = make_inputs(control.metadata("emulated_gpu"), True, {}, rng, count=1)
        control.infer("emulated_gpu", *http_body(inputs[0]), timeout=30)


def test_killed_search_goes_on_where_it_was(tuner: Tuner, model: Path, tmp_path: Path) -> None:
    words = ("search", str(model), "--sla-p99", "120ms", "--trials", "2", "--json")
    process = subprocess.Popen(
        command(*words), cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL
    )
    _wait_for_evaluations(tmp_path, process, 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [folder] = (tmp_path / "reports").iterdir()
    before = Run.open(folder).evaluations()

    done = tuner(*words)

    assert done.code == 0, done.err
    assert list((tmp_path / "reports").iterdir()) == [folder]
    after = Run.open(folder).evaluations()
    assert after[: len(before)] == before
    assert len([e for e in after if e.phase == "search"]) == 2
    assert is_finished(Run.open(folder), None)


def test_interrupt_leaves_a_report_and_the_best_so_far(model: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("search", str(model), "--sla-p99", "120ms"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_for_evaluations(tmp_path, process, 1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    [folder] = (tmp_path / "reports").iterdir()
    assert (folder / "report.html").is_file()
    assert (folder / "winner/emulated_gpu/config.pbtxt").is_file()


def _wait_for_evaluations(
    tmp_path: Path, process: "subprocess.Popen[str] | subprocess.Popen[bytes]", count: int
) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = [
            line
            for file in tmp_path.glob("reports/*/evaluations.jsonl")
            for line in file.read_text().splitlines()
        ]
        if len(lines) >= count:
            time.sleep(1.5)  # into the next trial
            return
        time.sleep(0.1)
    pytest.fail("no evaluation was recorded in time")


def test_promise_below_a_single_request_is_told_soon(tuner: Tuner, model: Path) -> None:
    done = tuner("search", str(model), "--sla-p99", "2ms")
    assert done.code == 1, done.err
    assert "Nothing meets p99 ≤ 2 ms" in done.out
    assert "Closest: " in done.out
    assert "A single request alone takes" in done.out


def test_candidates_that_cannot_load_are_failed_trials(
    tuner: Tuner, model: Path, tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "parameters:\n  parameters[base_us]: ['4000', 'nonsense', '-5']\n  max_batch_size: [8]\n"
    )
    done = tuner("search", str(model), "--sla-p99", "120ms", "--space", str(space), "--json")
    assert done.code == 0, done.err
    result = done.result
    assert result["failed"] == 2
    evaluations = Run.open(tmp_path / result["run"]).evaluations()
    reasons = [e.failure for e in evaluations if e.failure]
    assert any("base_us is 'nonsense'" in reason for reason in reasons)
    assert result["winner"]["settings"]["parameters[base_us]"] == "4000"


@pytest.mark.parametrize(
    "words",
    [
        ("--protocol", "grpc", "--rate", "150"),
        ("--load", "constant", "--rate", "150"),
        ("--set", "max_batch_size=16", "--set", "preferred_batch_size=4,8", "--rate", "150"),
        ("--sla", "p50<60ms,p99<120ms", "--rate", "150", "--workers", "2"),
    ],
)
def test_measure_judges_a_rate(tuner: Tuner, model: Path, words: tuple[str, ...]) -> None:
    promise = () if "--sla" in words else ("--sla-p99", "120ms")
    done = tuner("measure", str(model), *promise, *words, "--json")
    assert done.code == 0, done.err
    assert done.result["winner"]["capacity_per_second"] == 150


def test_measure_in_a_closed_loop(tuner: Tuner, model: Path) -> None:
    done = tuner("measure", str(model), "--sla-p99", "120ms", "--load", "closed", "--json")
    assert done.code == 0, done.err
    assert done.result["winner"]["capacity_per_second"] > 300


def test_sample_model_is_served_with_its_own_configuration(tuner: Tuner, tmp_path: Path) -> None:
    done = tuner("measure", "text_classifier", "--sla-p99", "500ms", "--rate", "100", "--json")
    assert done.code == 0, done.err
    assert (
        done.result["winner"]["settings"]["dynamic_batching.max_queue_delay_microseconds"] == 5000
    )


def test_attached_server_gets_its_configuration_back(
    tuner: Tuner, model: Path, tmp_path: Path
) -> None:
    spec = ServerSpec(model.parent, model.name, tmp_path / "attached.log")
    with (
        LocalLauncher() as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load(model.name, None, 60)
        before = control.config(model.name)
        done = tuner(
            *("measure", str(model), "--sla-p99", "120ms", "--rate", "100", "--json"),
            *("--set", "max_batch_size=4", "--set", "instance_count=2"),
            *("--launcher", "attached", "--url", f"http://{server.endpoints.http}"),
        )
        assert done.code == 0, done.err
        assert control.config(model.name) == before


def test_report_and_export_work_from_records_alone(
    tuner: Tuner, model: Path, tmp_path: Path
) -> None:
    done = tuner("search", str(model), "--sla-p99", "120ms", "--trials", "1", "--json")
    assert done.code == 0, done.err
    folder = tmp_path / done.result["run"]
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "probes")
    assert tuner("report", str(folder)).code == 0
    assert (folder / "report.html").is_file()
    assert tuner("export", str(folder), "--to", "deploy").code == 0
    manifest = json.loads((tmp_path / "deploy/manifest.json").read_text())
    assert manifest["capacity_per_second"] > 0
    assert tuner("export", str(folder), "--to", ".").code == 2
