"""Figures of settings: which of them matter, and what each combination reached."""

from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from tuner.analysis.search_findings import ComparedCandidate, is_same_candidate, subjects
from tuner.model.parameter import Value
from tuner.model.space import format_value
from tuner.records.results import Evaluation
from tuner.report import style
from tuner.report.figures_candidates import evaluation_hover
from tuner.report.importance import importances
from tuner.report.metric import Metric
from tuner.report.series import color_of

_SPREAD = 0.035
"""How far apart lines through one value lie, so that none hides another."""
_NOT_APPLICABLE = -0.08
"""The height at which a line passes an axis whose setting its candidate does not have."""


def parameter_importance(evaluations: list[Evaluation]) -> go.Figure | None:
    """How much each setting decides whether a candidate is among the best."""
    shares = importances(evaluations)
    if not shares:
        return None
    paths = list(reversed(shares))
    figure = go.Figure(
        go.Bar(
            x=[100 * shares[path] for path in paths],
            y=[style.setting(path, 22) for path in paths],
            text=[f"{100 * shares[path]:.0f} %" for path in paths],
            textposition="outside",
            cliponaxis=False,
            orientation="h",
            marker={"color": style.WINNER},
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
    )
    style.layout(figure, height=110 + 38 * len(paths), showlegend=False, bargap=0.35)
    figure.update_xaxes(title_text="importance (%)", rangemode="tozero")
    figure.update_layout(margin={"r": 48})
    figure.update_yaxes(showgrid=False)
    return figure


def parallel_coordinates(evaluations: list[Evaluation]) -> go.Figure | None:
    """One line per candidate, through its settings to the capacity it reached, or may reach.

    Plain lines instead of Plotly's own trace for this, which needs WebGL and draws nothing without.
    """
    metric = Metric.of(evaluations)
    known = {e.candidate: e for e in evaluations if metric.estimate(e) is not None}
    ranked = sorted(
        known.values(),
        key=lambda e: metric.estimate(e) or 0.0,
        reverse=metric.smaller_is_better,
    )
    axes = _axes(ranked)
    if len(ranked) < 2 or not axes:
        return None
    worst, best = metric.estimate(ranked[0]) or 0.0, metric.estimate(ranked[-1]) or 0.0
    figure, chosen = go.Figure(), subjects(evaluations)
    for rank, evaluation in enumerate(ranked):
        shift = (rank / (len(ranked) - 1) - 0.5) * _SPREAD
        heights = [_height(values, evaluation, path) + shift for path, values in axes.items()]
        at = metric.estimate(evaluation) or 0.0
        share = (at - worst) / (best - worst) if best != worst else 1.0
        figure.add_trace(_candidate_line([*heights, share], share, evaluation, chosen))
    for position, values in enumerate(axes.values()):
        _write_values(figure, position, values)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = metric.show(worst + share * (best - worst))
        _write_value(figure, len(axes), share, value, left=False)
    _lay_out_axes(figure, list(axes), metric)
    return figure


def _lay_out_axes(figure: go.Figure, paths: list[str], metric: Metric) -> None:
    titles = [style.setting(path, 10) for path in paths]
    style.layout(figure, height=480, showlegend=False, margin={"l": 40, "r": 72, "t": 8, "b": 60})
    figure.update_xaxes(
        tickvals=list(range(len(paths) + 1)),
        ticktext=[*titles, f"<b>{metric.short_name}</b>"],
        tickangle=0,
        range=[-0.4, len(paths) + 0.1],
        gridcolor=style.OTHERS,
        zeroline=False,
    )
    figure.update_yaxes(visible=False, range=[-0.12, 1.12])


def _axes(ranked: list[Evaluation]) -> dict[str, list[Value]]:
    """The settings that vary, each with its values in order."""
    seen: dict[str, set[Value]] = {}
    for evaluation in ranked:
        for path, value in evaluation.candidate.settings:
            seen.setdefault(path, set()).add(value)
    lacking = {p for p in seen if any(e.candidate.get(p) is None for e in ranked)}
    return {
        path: sorted(values, key=_order)
        for path, values in sorted(seen.items(), key=lambda item: (item[0].count("."), item[0]))
        if len(values) > 1 or path in lacking
    }


def _order(value: Value) -> tuple[int, Any]:
    """Numbers by size, lists by their sizes, words by the alphabet."""
    match value:
        case tuple():
            return (1, value)
        case str():
            return (2, value)
        case _:
            return (0, value)


def _height(values: list[Value], evaluation: Evaluation, path: str) -> float:
    """Values at equal steps in 0..1; a setting that does not apply lies below them."""
    value = evaluation.candidate.get(path)
    if value is None:
        return _NOT_APPLICABLE
    return values.index(value) / (len(values) - 1) if len(values) > 1 else 0.5


def _candidate_line(
    heights: list[float], share: float, evaluation: Evaluation, chosen: list[ComparedCandidate]
) -> go.Scatter:
    role = next((s for s in chosen if is_same_candidate(s.evaluation, evaluation)), None)
    color = color_of(role) if role else sample_colorscale(style.CAPACITY_SCALE, [share])[0]
    return go.Scatter(
        x=list(range(len(heights))),
        y=heights,
        mode="lines+markers",
        line={"color": color, "width": 4 if role else 1.8},
        marker={"color": color, "size": 8 if role else 5},
        customdata=[evaluation_hover(evaluation)] * len(heights),
        hovertemplate="%{customdata}<extra></extra>",
    )


def _write_values(figure: go.Figure, position: int, values: list[Value]) -> None:
    for index, value in enumerate(values):
        height = index / (len(values) - 1) if len(values) > 1 else 0.5
        _write_value(figure, position, height, format_value(value), left=True)


def _write_value(figure: go.Figure, x: float, y: float, text: str, left: bool) -> None:
    figure.add_annotation(
        x=x,
        y=y,
        text=style.label(text),
        showarrow=False,
        xanchor="right" if left else "left",
        xshift=-8 if left else 8,
    )
