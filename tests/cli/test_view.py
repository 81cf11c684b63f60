"""What the views say of GPUs and of failures."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.records.test_results import evaluation, probe
from tuner.cli.view import (
    LiveView,
    PlainView,
    describe_probe,
    describe_result,
    format_capacity,
)
from tuner.deployments.subjects import Subject
from tuner.goals.sla import Sla
from tuner.model.space import Candidate
from tuner.records.results import Evaluation, GpuReading, State
from tuner.records.run import Run

SLA = Sla.parse("p99<20ms")
NOTES = ["GPU 0 is in use by python3 (pid 7)", "the GPU is partitioned (MIG)"]


def reading(*throttled: str) -> GpuReading:
    return GpuReading(utilisation=0.9, memory=1, power=1.0, devices=1, throttled=throttled)


def test_a_probe_in_which_the_gpu_throttled_is_marked() -> None:
    line = describe_probe(probe(gpu=reading("power cap", "thermal")), SLA)
    assert line.endswith("met (1 of 480 late), GPU throttled (power cap, thermal)")


@pytest.mark.parametrize("gpu", [None, reading()])
def test_other_probes_say_nothing_of_gpus(gpu: GpuReading | None) -> None:
    assert "GPU" not in describe_probe(probe(gpu=gpu), SLA)


def test_a_failure_names_its_cause() -> None:
    full = evaluation(state=State.FAILED, failure="CUDA said no", cause="out of memory")
    assert describe_result(full) == "failed, out of memory: CUDA said no"
    assert describe_result(full.model_copy(update={"cause": None})) == "failed: CUDA said no"


def test_how_far_a_candidate_is_from_the_bound_has_the_sign_of_all_ratios() -> None:
    far = evaluation(state=State.INFEASIBLE, capacity=None, bound_ratio=1.31)
    assert (
        describe_result(far)
        == "meets the SLA at no rate: at best 1.31\N{NO-BREAK SPACE}× the bound"
    )


def test_notes_are_lines_of_the_plain_view() -> None:
    console = Console(file=StringIO(), width=200)
    with PlainView(console, SLA) as view:
        view.begins(Run(Path("reports/x")), "local: Triton", [], NOTES)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.partition("] ")[2] for line in lines[-2:]] == [f"note: {note}" for note in NOTES]


def test_notes_stay_in_the_live_view() -> None:
    console = Console(file=StringIO(), width=200, force_terminal=True)
    with LiveView(console, SLA, "model", None) as view:
        view.begins(Run(Path("reports/x")), "local: Triton", [], NOTES)
        view.search_ended("trials", confirms=True)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(f"note: {note}" in shown for note in NOTES)


KNOWN = [
    evaluation(trial=0, baseline=True, capacity=100.0),
    evaluation(trial=1, baseline=False, capacity=185.0, settings={"max_batch_size": 16}),
]


def rendered(width: int, known: list[Evaluation]) -> list[str]:
    console = Console(file=StringIO(), width=width, height=24)
    with LiveView(console, SLA, "my_model, p99 ≤ 20 ms", 60.0) as view:
        view.begins(Run(Path("reports/x")), "local: Triton", known, [])
        view.launching(Subject(2, Candidate.of({"max_batch_size": 32})), "search")
        view.probing("capacity", 150.0)
        console.print(view._render())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_live_view_fits_its_terminal(width: int) -> None:
    lines = rendered(width, KNOWN)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 9, "nothing is wrapped"
    assert "best so far: 185/s, 1.85\N{NO-BREAK SPACE}×" in "\n".join(lines)


def test_a_resumed_search_shows_what_was_measured_and_the_time_that_is_left() -> None:
    spent = [each.model_copy(update={"seconds": 40.0}) for each in KNOWN]
    text = "\n".join(rendered(120, spent))
    assert "resumed, 2 evaluations on record" in text
    assert "(baseline)" in text
    assert "1.85\N{NO-BREAK SPACE}×" in text
    assert "at most 0:00 left" in text
    assert "trial 2, probing at 150/s: batch 32" in text


def test_the_plain_view_says_what_a_resumed_search_has_found() -> None:
    console = Console(file=StringIO(), width=200)
    with PlainView(console, SLA) as view:
        view.begins(Run(Path("reports/x")), "local: Triton", KNOWN, [])
    first = console.file.getvalue().splitlines()[0]  # type: ignore[attr-defined]
    assert first.partition("] ")[2].startswith(
        "run reports/x: resumed, 2 evaluations on record, best batch 16: capacity 185/s"
    )


def test_what_was_eliminated_is_told_so() -> None:
    gone = evaluation(state=State.BEATEN, capacity=None, high=90.0)
    assert describe_result(gone) == "eliminated: at most 90/s"


def test_every_line_of_a_confirmation_names_its_trial() -> None:
    console = Console(file=StringIO(), width=200)
    leader = Subject(1, Candidate.of({"max_batch_size": 32}))
    with PlainView(console, SLA) as view:
        view.leaving(Subject(2))
        view.verifying(leader, 150.0)
        view.evaluated(KNOWN[1])
        view.evaluated(evaluation(deployment="hybrid", capacity=9.0))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.partition("] ")[2].strip() for line in said.splitlines()]
    assert lines[:2] == [
        "trial 2 leaves the confirmation: another is shown to be better",
        "verifying trial 1 at 150/s",
    ]
    assert lines[2].startswith("result of trial 1: capacity 185/s")
    assert lines[3].startswith("result of hybrid: capacity 9/s"), lines[3]


def test_the_live_view_names_what_is_verified() -> None:
    console = Console(file=StringIO(), width=120, height=24)
    with LiveView(console, SLA, "model", None) as view:
        view.turning(Subject(2), 1)
        view.verifying(Subject(1, Candidate.of({"max_batch_size": 32})), 150.0)
        view.probing("proof", 140.0)
        console.print(view._render())
    assert "verifying trial 1, probing at 140/s: batch 32" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_lower_bound_is_shown_as_one() -> None:
    assert format_capacity(evaluation(capacity=300.0, low=300.0, high=None)) == "≥ 300/s"
    assert format_capacity(evaluation(capacity=300.0, low=280.0, high=310.0)) == "300/s"
