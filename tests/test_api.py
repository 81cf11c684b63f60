"""The Python API: the same options as the command line, and results for a notebook."""

import contextlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
import typer

import tuner
from tests.conftest import ROOT
from tuner.cli.app import app
from tuner.commands.results import CompareResult, MeasureResult, RunResult, SearchResult
from tuner.errors import RunError, UnitError, UsageError
from tuner.records.results import State
from tuner.records.run import Run
from tuner.units import format_rate

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "search": tuner.search,
    "measure": tuner.measure,
    "simulate": tuner.simulate,
    "compare": tuner.compare,
}
OF_THE_COMMAND_LINE = {"as_json", "quiet", "help", "dry_run"}
"""How a result is printed, or a plan."""
OF_PYTHON = {"progress", "command", "began"}
"""Who hears what happens, and what is recorded as the command."""


@pytest.fixture(scope="module")
def searched() -> SearchResult:
    return SearchResult(Run.open(ROOT / "reports/sample"), "finished")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_command_and_function_take_the_same_options(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    of_command = {each.name for each in command.params} - OF_THE_COMMAND_LINE
    of_function = set(inspect.signature(FUNCTIONS[name]).parameters) - OF_PYTHON
    assert of_command == of_function


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_option_is_documented(name: str) -> None:
    function = FUNCTIONS[name]
    for option in inspect.signature(function).parameters:
        assert option in (function.__doc__ or "") or option in ("model", "run")


def test_the_command_line_starts_without_what_a_search_needs() -> None:
    code = (
        "import sys, tuner.cli.app; "
        "print([m for m in ('optuna', 'plotly', 'pandas', 'tuner.api') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_misspelt_option_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match=r"unknown option 'trails'.*trials"):
        tuner.search("text_classifier", sla_p99="20ms", trails=3)
    with pytest.raises(UsageError, match="unknown option 'minimize'"):
        tuner.measure("text_classifier", sla_p99="20ms", minimize="p99")


def test_a_wrong_value_is_told_as_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(UnitError, match="'soon' is not valid"):
        tuner.search("text_classifier", sla_p99="20ms", timeout="soon", output=tmp_path)
    with pytest.raises(UsageError, match="rounds"):
        tuner.compare("text_classifier", sla_p99="20ms", rounds=0, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_whole_experiment_stands_for_model_and_options(tmp_path: Path) -> None:
    experiment = tuner.Experiment.model_validate(
        {"model": ROOT / "model_repository/text_classifier", "sla": "p99<20ms"}
    )
    with pytest.raises(UsageError, match="unknown option 'timeout'"):
        tuner.search(experiment, timeout=3.0, output=tmp_path)


def test_a_search_gives_its_winner_and_a_frame(searched: SearchResult) -> None:
    assert searched.winner is not None
    assert searched.baseline is not None
    assert searched.gain is not None
    assert searched.gain.value > 1
    assert searched.config == searched.winner.config
    frame = searched.to_dataframe()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == len(searched.evaluations)
    assert frame["capacity"].max() >= (searched.winner.capacity or 0.0)
    assert {"max_batch_size", "latency_p99", "phase", "state"} <= set(frame.columns)


@pytest.mark.parametrize("folder", ["sample", "sample-compare"])
def test_a_result_shows_itself_in_a_notebook(folder: str) -> None:
    result = RunResult(Run.open(ROOT / "reports" / folder))
    html = result._repr_html_()
    assert html.startswith("<")
    assert "<script" not in html
    figures = []
    for name in result.figures:  # some need raw samples, which are not kept here
        with contextlib.suppress(UsageError):
            figures.append(result.figure(name))
    assert len(figures) >= 3
    assert all(isinstance(figure, go.Figure) for figure in figures)
    with pytest.raises(UsageError, match="no figure is called 'nothing'"):
        result.figure("nothing")


def test_a_result_is_short_and_tells_what_was_found(searched: SearchResult) -> None:
    winner = searched.winner
    assert winner is not None
    found = f"{winner.label}: {format_rate(winner.capacity)}"
    assert repr(searched) == f"SearchResult({str(searched.folder)!r}, {found})"
    measured = winner.model_copy(update={"capacity": None, "state": State.INFEASIBLE})
    told = f"MeasureResult({str(searched.folder)!r}, {winner.label}: infeasible)"
    assert repr(MeasureResult(searched.run, measured)) == told
    compared = CompareResult(Run.open(ROOT / "reports/sample-compare"))
    assert repr(compared).startswith(f"CompareResult({str(compared.folder)!r}, ")
    assert " up to " in repr(compared)


def test_a_comparison_gives_its_recommendation() -> None:
    result = CompareResult(Run.open(ROOT / "reports/sample-compare"))
    assert result.recommendation.answers
    assert {each.deployment for each in result.evaluations} >= {"fastapi", "hybrid"}


def test_a_run_simulates_another_configuration() -> None:
    forecast = tuner.simulate(ROOT / "reports/sample", changes={"max_batch_size": 4}, rate=50)
    assert forecast.rate == 50
    assert forecast.capacity > 0
    assert (forecast.sla, "met" if forecast.kept else "violated") in forecast.lines()
    assert forecast.to_dataframe().loc["p99", "seconds"] == forecast.latency["p99"]
    assert isinstance(forecast.figure("batches"), go.Figure)
    assert "p99" in forecast._repr_html_()
    with pytest.raises(UsageError, match="no figure is called 'pareto'"):
        forecast.figure("pareto")
    with pytest.raises(RunError):
        tuner.simulate(ROOT / "tests")
