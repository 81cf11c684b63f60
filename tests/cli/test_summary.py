"""The terminal says what a search or a measurement came to; the JSON form is whole."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.manifests import make_manifest
from tests.search_records import (
    BATCH,
    EXPERIMENT,
    evaluate,
    failed,
    infeasible,
    priced,
    probe,
    realistic,
)
from tuner.cli.summary import show, show_so_far
from tuner.records.phases import PhaseClock
from tuner.records.results import (
    Evaluation,
    HostReading,
    Outcome,
    ServerTimes,
    StepReading,
)
from tuner.records.run import Run

MakeRun = Callable[..., Run]
PIPELINE = 'backend: "python"\nparameters { key: "pipeline" value { string_value: "2" } }\n'


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(evaluations: list[Evaluation], **changes: Any) -> Run:
        run = Run.create(tmp_path / "run", make_manifest(**EXPERIMENT | changes))
        for evaluation in evaluations:
            run.append(evaluation)
        return run

    return make


def printed(run: Run, as_json: bool = False) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=120)
    code = show(run, None, as_json, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def test_a_search_tells_its_gain_and_how_much_was_seen(make_run: MakeRun) -> None:
    run = make_run(realistic(None))
    run.write_outcome(
        Outcome(
            reason="the time limit was reached",
            candidates=90,
            simulated=90,
            measured=16,
            by=0.02,
            missed=0,
        )
    )
    code, said = printed(run)
    assert code == 0
    assert " × the requests of the baseline within p99 ≤ 20 ms" in said
    assert "Measured 16 of 90 candidates, simulated 90." in said
    assert "more than 2 % better: less than 1 %." in said
    assert "The search ended because the time limit was reached." in said


def test_a_cost_is_told_with_what_it_was(make_run: MakeRun) -> None:
    run = make_run(
        [
            priced(0, {BATCH: 8}, 0.012, baseline=True, phase="confirm"),
            priced(1, {BATCH: 16}, 0.008, phase="confirm"),
        ]
    )
    code, said = printed(run)
    assert code == 0
    assert "p99 at 100/s: 8 ms instead of 12 ms, 33 % less (95 %:" in said
    assert "p99 ≤ 20 ms there" in said


@pytest.mark.parametrize(
    ("evaluations", "code", "words"),
    [
        ([infeasible(0, {BATCH: 8}, 2.5, baseline=True)], 1, "Nothing meets p99 ≤ 20 ms."),
        ([infeasible(0, {BATCH: 8}, 2.5)], 1, "Closest: batch 8, at 2.5 × the bound."),
        ([failed(0, "no GPU", baseline=True)], 3, "No candidate could be measured."),
        ([failed(0, "no [red]GPU")], 3, "failed: no [red]GPU"),
        ([], 3, "No candidate could be measured."),
    ],
)
def test_a_miss_tells_what_came_closest_and_why(
    make_run: MakeRun, evaluations: list[Evaluation], code: int, words: str
) -> None:
    run = make_run(evaluations)
    found, said = printed(run)
    assert found == code
    assert words in said
    assert printed(run, as_json=True)[0] == code


def measured(config: str = "") -> Evaluation:
    one = evaluate(0, {BATCH: 8}, phase="measure", baseline=True, config=config)
    host = HostReading(cpu=1.4, memory=312 * 2**20, client_cores=0.1)
    times = {"mean": 0.0123, "client_wait": 1e-4, "host": host}
    probes = tuple(p.model_copy(update=times) for p in one.probes)
    return one.model_copy(update={"probes": probes})


@pytest.mark.parametrize("config", ["", PIPELINE])
def test_a_measurement_tells_where_the_time_went(make_run: MakeRun, config: str) -> None:
    _, said = printed(make_run([measured(config)]))
    assert "mean latency 12.3 ms at " in said
    assert "server 1.4 cores, 312 MiB" in said
    assert ("the model keeps several batches in flight" in said) is bool(config)


def test_a_search_tells_only_how_its_winner_stands_to_the_constraints(make_run: MakeRun) -> None:
    one = measured().model_copy(update={"phase": "search"})
    _, said = printed(make_run([one], constraints=["cpu<1", "gpu_memory<1GiB"]))
    assert "went at" not in said
    assert "cpu<1: violated (1.4 cores)" in said
    assert "gpu_memory<1GiB: met (" in said


def test_doubts_are_said_once_and_in_the_words_of_the_report(make_run: MakeRun) -> None:
    apart = ((100.0, 0.01), (50.0, 0.01), (100.0, 0.01))
    first = evaluate(0, {BATCH: 8}, phase="confirm", baseline=True, by_round=apart)
    last = evaluate(1, {BATCH: 16}, phase="confirm", client_limited=True)
    _, said = printed(make_run([first, last]))
    assert said.count("Baseline: rounds range from 50/s to 100/s") == 1
    assert said.count("Winner: the load generator saturated before the server") == 1


def test_the_json_form_is_whole_and_keeps_its_keys(make_run: MakeRun) -> None:
    told = json.loads(printed(make_run(realistic(None)), as_json=True)[1])
    assert list(told) == [
        *("run", "stopped", "search", "winner", "baseline", "gain", "gain_shown"),
        *("closest", "steps", "models", "drift"),
        *("time_seconds", "evaluations", "failed", "config", "report"),
    ]
    assert told["winner"]["confirmed"] is True
    assert told["winner"]["capacity_per_second"] > told["baseline"]["capacity_per_second"]
    assert told["failed"] == 1


def test_the_time_is_told_by_phase(make_run: MakeRun) -> None:
    run, now = make_run(realistic(None)), [0.0]
    assert json.loads(printed(run, as_json=True)[1])["time_seconds"] is None
    run.clock = PhaseClock(lambda: now[0])
    run.clock.enter("start")
    now[0] = 3.0
    run.clock.enter("trials")
    with run.clock.part("launches"):
        now[0] = 103.0
    run.append_times()
    said = printed(run)[1]
    assert "Time 1:43: start 0:03, trials 1:40; of which launches 1:40, warm-up 0:00." in said
    times = json.loads(printed(run, as_json=True)[1])["time_seconds"]
    assert (times["start"], times["trials"], times["launches"]) == (3.0, 100.0, 100.0)


def test_a_gain_that_may_be_none_is_not_shown_as_one(make_run: MakeRun) -> None:
    rounds = {"by_round": ((100.0, 0.1), (104.0, 0.1), (98.0, 0.1))}
    first = evaluate(0, {BATCH: 8}, phase="confirm", baseline=True, **rounds)
    last = evaluate(1, {BATCH: 16}, phase="confirm", **rounds)
    _, said = printed(make_run([first, last]))
    if "best found" not in said:
        assert "No gain shown over your current configuration" in said
        assert "Keep it." in said


def test_an_interrupted_search_says_its_best_and_where_the_report_is(make_run: MakeRun) -> None:
    run = make_run(realistic(None))
    run.report.write_text("report")
    console = Console(file=io.StringIO(), width=200)
    show_so_far(run.folder, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("best so far, confirmed: ")
    assert lines[1] == f"report: {run.report}"


def test_a_winner_without_a_gain_is_exported_with_a_note(make_run: MakeRun) -> None:
    rounds = {"by_round": ((100.0, 0.05), (101.0, 0.05)), "phase": "confirm"}
    same = [
        evaluate(0, {BATCH: 8}, baseline=True, capacity=100.0, **rounds),
        evaluate(1, {BATCH: 16}, capacity=101.0, **rounds),
    ]
    run = make_run(same)
    run.winner.mkdir()
    assert f"winner: {run.winner} (it holds the best configuration measured, not" in printed(run)[1]


@pytest.mark.parametrize(("rate", "is_doubt"), [(60.0, True), (88.0, False)])
def test_a_rate_verified_well_below_the_recommended_one_is_a_doubt(
    make_run: MakeRun, rate: float, is_doubt: bool
) -> None:
    verified, _ = probe({BATCH: 16}, rate, 1, "proof", outcome="met", remedy=None)
    winner = evaluate(1, {BATCH: 16}, phase="confirm", probes=(verified,), recommended=90.0)
    said = printed(make_run([winner]))[1]
    assert ("the recommended rate was not verified" in said) is is_doubt


def test_a_pipeline_tells_its_steps_and_the_bottleneck(make_run: MakeRun) -> None:
    times = ServerTimes(
        requests=8000,
        executions=4000,
        queue=0.002,
        compute_input=0.0,
        compute_infer=0.004,
        compute_output=0.0,
        batches={2: 4000},
        batch_seconds={2: 0.004},
    )
    idle = times.model_copy(update={"batch_seconds": {2: 0.001}})
    steps = (
        StepReading(model="first", instances=1, server=idle),
        StepReading(model="second", instances=2, server=times),
    )
    measured, _ = probe({BATCH: 16}, 400.0, 1, steps=steps, seconds=10.0)
    only = evaluate(0, {BATCH: 16}, phase="measure", probes=(measured,))
    said = printed(make_run([only]))[1]
    assert "Steps at 400/s" in said
    assert "Bottleneck: second, busy 80 % of the time." in said
    (row,) = [line.split() for line in said.splitlines() if line.strip().startswith("second")]
    assert row == ["second", "2", "2", "ms", "4", "ms", "2", "2", "80", "%"]
