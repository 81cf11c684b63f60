"""Figures say what the records say, and nothing where the records say nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from tests.search_records import (
    BATCH,
    COUNT,
    LIMIT,
    evaluate,
    failed,
    infeasible,
    priced,
    realistic,
)
from tuner.goals.sla import Sla
from tuner.records.results import Evaluation, GpuReading
from tuner.report import style
from tuner.report.figures_by_rate import gpu_by_rate
from tuner.report.figures_by_rate import latency_by_rate as latency_of_series
from tuner.report.figures_candidates import capacity_by_candidate
from tuner.report.figures_distribution import batch_sizes, latency_distribution, slower_than
from tuner.report.figures_pareto import Offer, front, latency_frontier, memory_frontier
from tuner.report.figures_settings import parallel_coordinates, parameter_importance
from tuner.report.importance import SETTINGS, importances, why_none
from tuner.report.search_figures import NAMES, drawings
from tuner.report.series import candidates
from tuner.stats.samples import Samples

SLA = Sla.parse("p99<20ms")


def latency_by_rate(evaluations: list[Evaluation], sla: Sla) -> go.Figure | None:
    return latency_of_series(candidates(evaluations), sla)


def gpu_utilisation(evaluations: list[Evaluation]) -> go.Figure | None:
    return gpu_by_rate(candidates(evaluations))


@pytest.fixture
def run(tmp_path: Path) -> tuple[list[Evaluation], dict[str, Samples]]:
    (tmp_path / "probes").mkdir()
    found = realistic(tmp_path)
    names = [p.samples for e in found for p in e.probes if p.samples]
    return found, {name: Samples.load(tmp_path / name) for name in names}


def trace(figure: go.Figure | None, name: str) -> Any:
    assert figure is not None
    return next(t for t in figure.data if t.name == name)


def test_a_whole_run_draws_every_figure(run: Any) -> None:
    evaluations, samples = run
    drawn = drawings(evaluations, SLA, samples)
    assert [d.name for d in drawn if d.figure is None] == []
    assert [d.name for d in drawn] == [name for name in NAMES if name != "host"]


def test_no_records_draw_nothing() -> None:
    drawn = drawings([], SLA, {})
    assert all(d.figure is None and d.missing for d in drawn)


def test_without_an_sla_the_other_figures_remain(run: Any) -> None:
    names = {d.name for d in drawings(run[0], None, run[1])}
    assert "capacity" in names
    assert not names & {"latency-by-rate", "latency-distribution"}


def test_the_front_has_what_no_other_beats_in_both() -> None:
    evaluation = evaluate(0, {BATCH: 8})
    pairs = [(100, 5.0), (200, 5.0), (150, 6.0), (300, 9.0), (300, 8.0), (50, 1.0)]
    offers = [Offer(evaluation, rate, price) for rate, price in pairs]
    assert [(o.rate, o.price) for o in front(offers)] == [(50, 1.0), (200, 5.0), (300, 8.0)]


def test_the_frontier_is_over_all_candidates(run: Any) -> None:
    evaluations, _ = run
    figure = latency_frontier(evaluations, SLA)
    line = trace(figure, "Pareto front")
    assert list(line.x) == sorted(line.x)
    assert list(line.y) == sorted(line.y)
    rates = [p.rate for e in evaluations for p in e.probes if p.bound_ratio and p.bound_ratio < 1]
    within = max(x for x, y in zip(line.x, line.y, strict=True) if y <= 20)
    assert within >= 0.95 * max(rates)
    assert latency_frontier([evaluations[0]], SLA) is None


def test_memory_is_the_gpus_where_it_is_known(run: Any) -> None:
    figure = memory_frontier(run[0])
    assert figure is not None
    assert figure.layout.yaxis.title.text == "GPU memory (GiB)"
    assert memory_frontier([]) is None


def test_a_cost_is_drawn_in_the_place_of_capacity() -> None:
    found = [
        priced(0, {BATCH: 8}, 0.012, baseline=True),
        priced(1, {BATCH: 16}, 0.009),
        priced(2, {BATCH: 32}, 0.030, kept=False),
    ]
    figure = capacity_by_candidate(found)
    assert figure is not None
    assert figure.layout.yaxis.title.text == "p99 at 100/s (ms)"
    assert trace(figure, "winner").y == (pytest.approx(9.0),)
    assert trace(figure, "best so far").y == (pytest.approx(12.0), pytest.approx(9.0))
    assert len([t for t in figure.data if t.name == "not met at this rate"]) == 0
    lines = parallel_coordinates(found)
    assert lines is not None
    assert lines.layout.xaxis.ticktext[-1] == "<b>p99</b>"
    assert "memory" not in {d.name for d in drawings(found, SLA, {})}


def test_capacity_has_its_interval_as_error_bars() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    mark = trace(capacity_by_candidate([one]), "baseline")
    assert one.capacity is not None
    assert one.low is not None
    assert one.high is not None
    assert list(mark.y) == [one.capacity]
    assert mark.error_y.array[0] == pytest.approx(one.high - one.capacity)
    assert mark.error_y.arrayminus[0] == pytest.approx(one.capacity - one.low)


def test_candidates_without_capacity_are_never_drawn_at_zero() -> None:
    figure = capacity_by_candidate([failed(0, "died"), infeasible(1, {BATCH: 2}, 1.4)])
    assert figure is not None
    values = [value for t in figure.data for value in t.y]
    assert 0 not in values
    assert {"failed", "not met"} <= set(values)
    assert list(trace(figure, "not met at this rate").y) == [620.0]


def test_the_winner_is_the_confirmed_one_not_the_best_of_the_search() -> None:
    first = evaluate(0, {BATCH: 8}, baseline=True)
    lucky, steady = evaluate(1, {BATCH: 16}), evaluate(2, {BATCH: 4})
    confirmed = [
        evaluate(1, {BATCH: 16}, phase="confirm", capacity=500.0),
        evaluate(2, {BATCH: 4}, phase="confirm", capacity=900.0),
    ]
    figure = capacity_by_candidate([first, lucky, steady, *confirmed])
    assert list(trace(figure, "winner").x) == [2]


def test_one_color_each_for_baseline_winner_and_sla(run: Any) -> None:
    evaluations, samples = run
    colors: dict[str, set[str]] = {}
    for drawing in drawings(evaluations, SLA, samples):
        for t in drawing.figure.data if drawing.figure else ():
            color = t.line.color if t.type == "scatter" and t.line.color else t.marker.color
            colors.setdefault(str(t.name).partition(",")[0], set()).add(str(color))
    assert colors["baseline"] == {style.BASELINE}
    assert colors["winner"] == {style.WINNER}
    assert colors["p99 ≤ 20 ms"] == {style.SLA}


def test_latency_is_in_milliseconds_and_every_probe_is_there() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    marks = trace(latency_by_rate([one], SLA), "baseline")
    assert list(marks.x) == [p.rate for p in one.probes]
    assert list(marks.y) == pytest.approx([1000 * (p.latency["p99"] or 0) for p in one.probes])
    assert list(trace(latency_by_rate([one], SLA), "p99 ≤ 20 ms").y) == [20.0, 20.0]


def test_symbols_tell_outcomes_and_client_limits() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    limited = one.probes[0].model_copy(update={"client_limited": True})
    one = one.model_copy(update={"probes": (limited, *one.probes[1:])})
    symbols = trace(latency_by_rate([one], SLA), "baseline").marker.symbol
    assert symbols[0] == "square-open"
    assert {"circle", "x-thin"} <= set(symbols)


def test_no_answer_is_drawn_at_the_top_as_such() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    lost = one.probes[-1].model_copy(update={"latency": {"p99": float("inf")}})
    one = one.model_copy(update={"probes": (*one.probes[:-1], lost)})
    marks = trace(latency_by_rate([one], SLA), "baseline")
    assert marks.marker.symbol[-1] == "triangle-up-open"
    assert max(marks.y) == marks.y[-1] < 1e4


def test_a_percentile_that_no_probe_reports_gives_no_figure() -> None:
    assert latency_by_rate([evaluate(0, {BATCH: 8}, baseline=True)], Sla.parse("p97<20ms")) is None


def test_wide_latencies_get_a_logarithmic_axis() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    slow = one.probes[-1].model_copy(update={"latency": {"p99": 9.0}})
    figure = latency_by_rate([one.model_copy(update={"probes": (*one.probes[:-1], slow)})], SLA)
    assert figure is not None
    assert figure.layout.yaxis.type == "log"


def test_slower_than_counts_the_requests_above() -> None:
    latency = np.array([0.003, 0.001, 0.002, np.inf])
    x, share = slower_than(latency)
    assert x.tolist() == [0.001, 0.002, 0.003]
    assert share.tolist() == [0.75, 0.5, 0.25]


def test_slower_than_ends_at_half_a_request() -> None:
    x, share = slower_than(np.linspace(0.001, 0.01, 10_000))
    assert x[-1] == pytest.approx(0.01)
    assert share[-1] == pytest.approx(0.5 / 10_000)
    assert len(x) <= 501


def test_without_samples_there_is_no_distribution() -> None:
    assert latency_distribution([evaluate(0, {BATCH: 8}, baseline=True)], SLA, {}) is None


def test_shares_of_batches_sum_to_one(run: Any) -> None:
    figure = batch_sizes(run[0])
    assert figure is not None
    assert len(figure.data) == 4
    assert [sum(t.y) for t in figure.data] == pytest.approx([100.0] * 4)


def test_no_gpu_readings_no_gpu_figure() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    bare = tuple(p.model_copy(update={"gpu": None}) for p in one.probes)
    assert gpu_utilisation([one]) is not None
    without = one.model_copy(update={"probes": bare})
    assert gpu_utilisation([without]) is None
    assert "gpu" not in [d.name for d in drawings([without], SLA, {})]


def test_a_gpu_that_hides_its_utilisation_is_told() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    hidden = GpuReading(utilisation=None, memory=10**9, power=None, devices=1)
    probes = tuple(p.model_copy(update={"gpu": hidden}) for p in one.probes)
    (drawn,) = [
        d for d in drawings([one.model_copy(update={"probes": probes})], SLA, {}) if d.name == "gpu"
    ]
    assert drawn.figure is None
    assert "MIG" in drawn.missing


def test_throttled_probes_are_crosses_that_say_why() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    hot = GpuReading(
        utilisation=0.9,
        memory=2**30,
        power=72.0,
        devices=1,
        clock=1290.0,
        temperature=88.0,
        throttled=("thermal",),
    )
    probes = (one.probes[0].model_copy(update={"gpu": hot}), *one.probes[1:])
    figure = gpu_utilisation([one.model_copy(update={"probes": probes})])
    assert figure is not None
    line = figure.data[0]
    assert line.marker.symbol[0] == "x"
    assert set(line.marker.symbol[1:]) == {"circle"}
    assert line.customdata[0].endswith(
        "90 % busy, 1 GiB, 72 W, 1290 MHz, 88 °C, throttled (thermal)"
    )
    assert line.customdata[1].endswith("% busy, 858 MiB, 61 W")


def test_importance_finds_the_setting_that_matters() -> None:
    batches, counts = (2, 4, 8, 16), (1, 2, 3)
    grid = [{BATCH: b, COUNT: c} for b in batches for c in counts]
    found = [
        evaluate(i, dict(settings), capacity=100.0 * settings[BATCH] + i, probes=())
        for i, settings in enumerate(grid)
    ]
    shares = importances(found)
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == BATCH
    assert parameter_importance(found) is not None


def test_importance_needs_enough_candidates() -> None:
    few = [evaluate(i, {BATCH: 2**i}) for i in range(SETTINGS.candidates - 1)]
    assert parameter_importance(few) is None
    assert f"has {SETTINGS.candidates - 1}" in why_none(few)


def test_parallel_coordinates_name_settings_and_values(run: Any) -> None:
    figure = parallel_coordinates(run[0])
    assert figure is not None
    assert "max batch<br>size" in figure.layout.xaxis.ticktext
    assert {"on", "off", "16", "5000"} <= {a.text for a in figure.layout.annotations}


def test_hostile_text_is_no_markup_in_any_figure() -> None:
    bad = '<a href="javascript:alert(1)">x</a>'
    setting = "parameters[<img src=x onerror=alert(1)>]"
    found = [
        evaluate(i, {BATCH: 2**i, setting: bad if i else "y"}, baseline=i == 0)
        for i in range(SETTINGS.candidates)
    ]
    found.append(failed(20, f"died of {bad}"))
    drawn = drawings(found, SLA, {})
    assert sum(d.figure is not None for d in drawn) >= 6
    text = "".join(json.dumps(json.loads(d.figure.to_json())) for d in drawn if d.figure)
    assert "<a " not in text
    assert "<img" not in text
    assert "&lt;a href" in text


def test_the_limit_of_the_records_is_the_slas() -> None:
    assert SLA.primary.limit == LIMIT


def test_a_line_of_latencies_goes_up_in_order_of_the_rate() -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    restless = (0.012, 0.006, 0.015, 0.007, 0.02, 0.009, 0.03, 0.01)
    probes = [
        probe.model_copy(update={"latency": {"p99": p99}, "rate": rate})
        for probe, p99, rate in zip(
            one.probes, restless, (300, 100, 300, 200, 300, 400, 500, 400), strict=True
        )
    ]
    figure = latency_by_rate([one.model_copy(update={"probes": tuple(probes)})], SLA)
    assert figure is not None
    (line,) = [t for t in figure.data if t.name == "baseline" and t.mode == "lines"]
    assert list(line.x) == [100, 200, 300, 400, 500]
    assert list(line.y) == sorted(line.y)
    assert line.y[2] == pytest.approx(line.y[3])  # 15 ms at 300/s, 9.5 ms at 400/s: one level
