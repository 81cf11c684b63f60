"""The figures of a gate: both versions in the rounds, and against the rate."""

from collections.abc import Mapping

import plotly.graph_objects as go

from tuner.goals.sla import Sla
from tuner.records.gate import NEW, OLD
from tuner.records.results import Evaluation
from tuner.report import style
from tuner.report.drawing import Drawing
from tuner.report.figures_by_rate import host_by_rate, latency_by_rate
from tuner.report.series import Series
from tuner.stats.estimators import INTERVAL_WIDTH

NAMES = ("rounds", "latency-by-rate", "host")
_COLORS: Mapping[str, str] = {OLD: style.BASELINE, NEW: style.WINNER}


def drawings(evaluations: list[Evaluation], sla: Sla) -> list[Drawing]:
    """Every figure, in reading order."""
    series = [
        Series(each.deployment or NEW, _COLORS[each.deployment or NEW], list(each.probes))
        for each in evaluations
    ]
    return [
        Drawing(
            "rounds",
            "Capacity in each round",
            "Mark: the capacity of one server, by its own probes. Line: its 95 % interval. In each "
            "round both versions have a fresh server; the verdict rests on all rounds together.",
            _rounds(evaluations),
            "There are not two rounds with a capacity.",
        ),
        Drawing(
            "latency-by-rate",
            "Latency against rate",
            "Mark: one probe. Line: the rising fit to a version's probes, in order of rate. It "
            f"crosses the red line where {sla.primary} is violated; further right is better.",
            latency_by_rate(series, sla),
            f"No probe at a set rate reports {sla.primary.name}.",
        ),
        Drawing(
            "host",
            "CPU and memory against rate",
            "Mean cores and peak memory of each probe. Lines connect medians.",
            host_by_rate(series),
            "tuner did not start the servers, so it cannot see their processes.",
        ),
    ]


def _rounds(evaluations: list[Evaluation]) -> go.Figure | None:
    known = [each for each in evaluations if len(each.by_round) > 1]
    if not known:
        return None
    figure = go.Figure()
    for place, each in enumerate(known):
        name = each.deployment or NEW
        rates = [rate for rate, _ in each.by_round]
        aside = [rate * error * INTERVAL_WIDTH / 2 for rate, error in each.by_round]
        figure.add_trace(
            go.Scatter(
                x=[number + 1 + (place - 0.5) * 0.12 for number in range(len(rates))],
                y=rates,
                error_y={"type": "data", "array": aside, "thickness": 1.5, "width": 0},
                mode="markers",
                name=name,
                marker={"color": _COLORS[name], "size": 9},
                hovertemplate=f"{name}: %{{y:.4g}}/s<extra></extra>",
            )
        )
    style.layout(figure, height=360)
    figure.update_xaxes(title_text="round", dtick=1)
    figure.update_yaxes(title_text="capacity (requests/s)", rangemode="tozero")
    return figure
