"""A notebook gets each figure by its name, and a run on a few lines of HTML."""

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import pytest

from tests import comparing_records
from tests.search_records import BATCH, evaluate, failed, priced
from tuner.errors import UsageError
from tuner.model.parameter import Value
from tuner.records.run import Run
from tuner.report import summary_html
from tuner.report.figures import drawings, figure, names

MakeRun = Callable[..., Run]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def compared(tmp_path: Path) -> Run:
    return comparing_records.write_run(tmp_path / "run", *comparing_records.realistic(gpu=True))


def test_each_figure_of_a_search_has_a_stable_name(whole_run: Run) -> None:
    assert names(whole_run) == (
        *("capacity", "latency-by-rate", "latency-distribution", "pareto", "memory", "settings"),
        *("importance", "batch-sizes", "time-breakdown", "host", "gpu", "stalls"),
    )
    assert {d.name for d in drawings(whole_run)} == set(names(whole_run)) - {"host"}
    pareto = figure(whole_run, "pareto")
    assert isinstance(pareto, go.Figure)
    assert "Pareto front" in [trace.name for trace in pareto.data]


def test_each_figure_of_a_comparison_has_a_stable_name(compared: Run) -> None:
    assert tuple(d.name for d in drawings(compared)) == names(compared)
    for name in names(compared):
        assert len(figure(compared, name).data) > 0


def test_a_figure_that_is_not_there_says_why(whole_run: Run, make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="no figure is called 'parato'; did you mean 'pareto'"):
        figure(whole_run, "parato")
    with pytest.raises(UsageError, match="nothing to draw 'host' from"):
        figure(whole_run, "host")
    with pytest.raises(UsageError, match="Fewer than two candidates"):
        figure(make_run([evaluate(0, {BATCH: 8}, baseline=True)]), "pareto")


def test_a_search_is_told_on_a_few_lines(whole_run: Run) -> None:
    html = summary_html(whole_run)
    assert "2.5\N{NO-BREAK SPACE}× the requests within p99 ≤ 20 ms" in html
    assert "winner: batch 16" in html
    assert "Client-limited: 1 probe" in html
    assert len(html) < 8_000


def test_a_cost_is_told_in_its_unit(make_run: MakeRun) -> None:
    settings: dict[str, Value] = {BATCH: 16}
    html = summary_html(
        make_run([priced(0, {BATCH: 8}, 0.012, baseline=True), priced(1, settings, 0.008)])
    )
    assert "<b>8 ms</b>" in html
    assert "p99 at 100/s" in html


def test_a_comparison_is_told_on_a_few_lines(compared: Run) -> None:
    html = summary_html(compared)
    assert "FastAPI up to 269/s, then FastAPI in front of Triton up to 751/s" in html
    assert html.count("<tr>") == 1 + len(comparing_records.SHAPES)
    assert len(html) < 8_000


def test_a_run_that_has_just_begun_is_told(make_run: MakeRun) -> None:
    assert "Nothing has been measured yet" in summary_html(make_run([]))


def test_hostile_records_are_no_markup(make_run: MakeRun) -> None:
    bad: dict[str, Value] = {BATCH: 4, "parameters[x]": HOSTILE}
    run = make_run([evaluate(0, bad, baseline=True), failed(1, HOSTILE)])
    html = summary_html(run)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
