"""What the views say of GPUs and of failures."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.records.test_results import evaluation, probe
from tuner.cli.view import LiveView, PlainView, describe_probe, describe_result
from tuner.goals.sla import Sla
from tuner.records.results import GpuReading, State
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


def test_notes_are_lines_of_the_plain_view() -> None:
    console = Console(file=StringIO(), width=200)
    with PlainView(console, SLA) as view:
        view.begins(Run(Path("reports/x")), "local: Triton", 0, NOTES)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.partition("] ")[2] for line in lines[-2:]] == [f"note: {note}" for note in NOTES]


def test_notes_stay_in_the_live_view() -> None:
    console = Console(file=StringIO(), width=200, force_terminal=True)
    with LiveView(console, SLA, "model", None) as view:
        view.begins(Run(Path("reports/x")), "local: Triton", 0, NOTES)
        view.search_ended("trials", confirms=True)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(f"note: {note}" in shown for note in NOTES)
