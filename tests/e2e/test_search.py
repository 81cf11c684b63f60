"""One search on the embedded Triton, from its start over Ctrl-C and kill -9 to its end.

A search takes a minute, so there is one, and each test looks at a side of it. The model sleeps for
30 ms per request, so that three instances serve three times as many as the one it has as found.
Half of the candidates cannot load. Requests come evenly, and nine in ten have 70 ms: a bad moment
of the machine costs time, but does not turn the outcome.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import (
    Outcome,
    command,
    environment,
    no_server_left,
    run_in,
    servers_under,
    sleepy_model,
)
from tuner.load.inputs import make_inputs
from tuner.load.target import http_body
from tuner.model.config import parse_config
from tuner.optimizer.storage import is_finished
from tuner.records.results import Evaluation, State, baseline, best
from tuner.records.run import Run
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher
from tuner.stats.samples import Samples

pytestmark = pytest.mark.triton
MODEL = "emulated_gpu"
SPACE = """
parameters:
  instance_group.count: [1, 3]
  parameters[base_us]: ['30000', 'nonsense']
"""
WORDS = (
    *("search", f"models/{MODEL}", "--sla", "p90<70ms", "--load", "constant"),
    *("--space", "space.yaml", "--launcher", "local", "--timeout", "10m", "--json"),
)


@dataclass(frozen=True)
class Session:
    """How one run of the command ended, and what its folder held then."""

    code: int
    err: str
    evaluations: list[Evaluation]
    files: frozenset[str]


@dataclass(frozen=True)
class Story:
    folder: Path
    interrupted: Session
    killed: Session
    finished: Outcome

    @property
    def run(self) -> Run:
        return Run.open(self.folder / self.finished.result["run"])

    @property
    def winner(self) -> Evaluation:
        winner = best(self.run.evaluations())
        assert winner is not None
        return winner


@pytest.fixture(scope="module")
def story(
    embedded_triton: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    folder = tmp_path_factory.mktemp("story")
    sleepy_model(repository, folder, max_batch_size=1, base_ms=30)
    (folder / "space.yaml").write_text(SPACE)
    with no_server_left(folder):
        interrupted = _until_next_trial(folder, signal.SIGINT)
    with no_server_left(folder):
        killed = _until_next_trial(folder, signal.SIGKILL)
    with no_server_left(folder):
        finished = run_in(folder, *WORDS)
    return Story(folder, interrupted, killed, finished)


def _until_next_trial(folder: Path, end: signal.Signals) -> Session:
    """Run the search until an evaluation is on record and another under way, then end it."""
    process = subprocess.Popen(
        command(*WORDS),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_ctrl_c,
    )
    try:
        deadline = time.monotonic() + 120
        while not (_records(folder) and servers_under(folder)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no evaluation was recorded in time"
            time.sleep(0.1)
        if end is signal.SIGINT:
            os.killpg(process.pid, end)  # as a terminal does
        else:
            process.send_signal(end)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    files = {str(path.relative_to(folder)) for path in folder.glob("reports/*/**/*")}
    return Session(process.returncode, err, _records(folder), frozenset(files))


def _hear_ctrl_c() -> None:
    """What a shell starts in the background ignores it, and so would the search."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _records(folder: Path) -> list[Evaluation]:
    return [each for run in folder.glob("reports/*/") for each in Run(run).evaluations()]


def test_interrupt_leaves_a_report_and_the_best_so_far(story: Story) -> None:
    assert story.interrupted.code == 130, story.interrupted.err
    assert "Traceback" not in story.interrupted.err
    assert story.interrupted.evaluations
    inside = {"/".join(Path(name).parts[2:]) for name in story.interrupted.files}
    assert {"report.html", f"winner/{MODEL}/config.pbtxt", "winner/manifest.json"} <= inside
    *_, best, report, winner, how = story.interrupted.err.splitlines()
    assert best.startswith("best so far, not confirmed: ")
    assert report.startswith("report: reports/")
    assert winner.startswith("winner: reports/")
    assert how.startswith("interrupted: the same command resumes a search")


def test_the_same_command_goes_on_with_what_was_cut(story: Story) -> None:
    assert story.killed.code == -signal.SIGKILL
    assert story.finished.code == 0, story.finished.err
    assert list((story.folder / "reports").iterdir()) == [story.run.folder]
    after = story.run.evaluations()
    for before in (story.interrupted.evaluations, story.killed.evaluations):
        assert after[: len(before)] == before
    searched = [each.candidate for each in after if each.phase == "search"]
    assert len(set(searched)) == len(searched) >= 3
    assert is_finished(story.run, None)


def test_the_model_as_found_comes_first_and_is_measured_twice(story: Story) -> None:
    first, *others = story.run.evaluations()
    assert (first.trial, first.phase, first.baseline) == (0, "search", True)
    assert [each.phase for each in others if each.baseline] == ["confirm"]


def test_a_better_configuration_is_found(story: Story) -> None:
    found, winner = baseline(story.run.evaluations()), story.winner
    assert found is not None
    assert winner.phase == "confirm"
    assert winner.settings == {"instance_group.count": 3, "parameters[base_us]": "30000"}
    assert (winner.capacity or 0) > 1.1 * (found.capacity or 0) > 0
    result = story.finished.result
    assert result["winner"]["capacity_per_second"] == winner.capacity
    assert story.run.report.stat().st_size > 1_000_000


def test_candidates_that_cannot_load_are_failed_trials(story: Story) -> None:
    failed = [each for each in story.run.evaluations() if each.state is State.FAILED]
    assert {each.settings["parameters[base_us]"] for each in failed} == {"nonsense"}
    assert all("base_us is 'nonsense'" in (each.failure or "") for each in failed)
    assert story.finished.result["failed"] == len(failed) >= 1


def test_it_is_calibrated_once_and_says_how_it_ended(story: Story) -> None:
    alone = [w for w in story.run.windows() if w.concurrency == 1]
    assert alone
    slept = [window.server.batch_seconds[1] for window in alone]
    assert min(slept) == pytest.approx(0.03, rel=0.5)
    assert {w.instances for w in story.run.windows()} == {1, 3}
    logs = [log.name for log in story.run.logs.glob("*-calibrate.log")]
    assert len(logs) == 1
    outcome = story.run.outcome()
    assert outcome is not None
    assert (outcome.candidates, outcome.simulated) == (4, 4)
    assert story.finished.result["search"] == outcome.model_dump(mode="json")


def test_each_trial_leaves_a_log_and_each_probe_its_samples(story: Story) -> None:
    for evaluation in story.run.evaluations():
        assert any(story.run.logs.glob(f"{evaluation.trial:04d}-{evaluation.phase}*.log"))
    probe = story.winner.at_capacity()
    assert probe is not None
    assert probe.samples is not None
    samples = Samples.load(story.run.folder / probe.samples)
    assert len(samples) == probe.n > 0
    assert (samples.sent >= samples.intended).all()
    assert probe.server is not None
    assert sum(size * n for size, n in probe.server.batches.items()) == probe.server.requests


def test_the_winner_is_served_by_a_fresh_server(story: Story, tmp_path: Path) -> None:
    spec = ServerSpec(story.run.winner, MODEL, tmp_path / "fresh.log")
    with (
        LocalLauncher() as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load(MODEL, None, 60)
        in_force = control.in_force(MODEL)
        wanted = parse_config(story.winner.config, "record")
        assert in_force.max_batch_size == wanted.max_batch_size == 1
        assert in_force.instance_group[0].count == wanted.instance_group[0].count == 3
        rng = np.random.default_rng(0)
        inputs = make_inputs(control.signature(MODEL), {}, rng, count=1)
        control.infer(MODEL, "", *http_body(inputs[0]), timeout=30)


def test_report_and_export_work_from_records_alone(
    story: Story, tuner: Callable[..., Outcome], tmp_path: Path
) -> None:
    shutil.copytree(story.folder / "models", tmp_path / "models")
    folder = Path(shutil.copytree(story.run.folder, tmp_path / "reports/copy"))
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "probes")
    assert tuner("report", str(folder)).code == 0
    assert (folder / "report.html").is_file()
    assert tuner("export", str(folder), "--to", "deploy").code == 0
    manifest = json.loads((tmp_path / "deploy/manifest.json").read_text())
    assert manifest["capacity_per_second"] == story.winner.capacity
    assert tuner("export", str(folder), "--to", ".").code == 2


def test_a_finished_run_in_the_place_of_the_sample_leaves_the_checkout_clean(
    story: Story, tmp_path: Path
) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    shutil.copytree(story.run.folder, tmp_path / "reports/sample", symlinks=True)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    untracked = _files(tmp_path, "--others", "--exclude-standard")
    assert untracked
    assert untracked <= _files(ROOT, "--cached")


def _files(checkout: Path, *which: str) -> set[str]:
    """What git lists below the sample run's folder, first level only."""
    command = ["git", "ls-files", *which, "--", "reports/sample"]
    listed = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
    return {Path(name).parts[2] for name in listed.stdout.splitlines()}


def test_what_it_learned_answers_without_a_server(
    story: Story, tuner: Callable[..., Outcome], tmp_path: Path
) -> None:
    words = ("simulate", str(story.run.folder), "--set", "instance_count=3", "--json")
    with no_server_left(tmp_path):
        slow, fast = (tuner(*words, "--rate", rate) for rate in ("10", "1000"))
    assert (slow.code, fast.code) == (0, 1)
    assert slow.result["kept"]
    assert slow.result["latency"]["p50"] == pytest.approx(0.03, rel=0.5)
    assert 60 < slow.result["capacity"] < 105  # three instances of 30 ms and a bit
    assert fast.result["latency"]["p99"] > 1
    plain = tuner("simulate", str(story.run.folder), "--sla-p99", "1ms")
    assert plain.code == 1
    assert "simulated, not measured" in plain.out


def test_another_question_starts_from_what_was_learned(
    story: Story, tuner: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Another promise, and the least latency at a rate that the model as found does not serve."""
    shutil.copytree(story.folder / "models", tmp_path / "models")
    shutil.copy(story.folder / "space.yaml", tmp_path)
    promise = ("--sla", "p90<90ms", "--warm-start", str(story.run.folder))
    asked = ("--minimize", "p90/10ms + instances", "--rate", "50")
    more = ("--confirm", "none", "--trials", "3", "--timeout", "2m")
    done = tuner(*WORDS[:2], *promise, *asked, *WORDS[4:-3], *more, "--json")
    assert done.code == 0, done.err
    run = Run.open(tmp_path / done.result["run"])
    assert not list(run.logs.glob("*-calibrate.log"))
    before = story.run.windows()
    assert run.windows()[: len(before)] == before
    assert done.result["search"]["simulated"] == 4
    first, *_ = run.evaluations()
    assert first.baseline
    assert first.state is State.INFEASIBLE
    winner = done.result["winner"]
    assert winner["settings"]["instance_group.count"] == 3
    assert winner["cost"]["rate"] == 50
    assert 6 < winner["cost"]["value"] < 12  # three instances, and 30 ms or more
    assert "p90/10ms + instances at 50/s" in run.report.read_text(encoding="utf-8")


def test_a_run_of_another_model_is_no_start(story: Story, refusal: Callable[..., str]) -> None:
    words = ("search", "text_classifier", "--sla-p99", "20ms")
    said = refusal(*words, "--warm-start", str(story.run.folder))
    assert "is a run of emulated_gpu, and this is text_classifier" in said
