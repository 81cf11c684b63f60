"""Figures of the search as a whole: which candidates were tried, and what they reached."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from tuner.model.space import Value, format_value
from tuner.records.costs import describe_cost
from tuner.records.results import Evaluation, State
from tuner.report import style
from tuner.report.importance import importances
from tuner.report.story import Subject, same, subjects
from tuner.report.yardstick import Yardstick
from tuner.units import format_rate

_SPREAD = 0.035
"""How far apart lines through one value lie, so that none hides another."""
_NOT_APPLICABLE = -0.08


def capacity_by_candidate(evaluations: list[Evaluation]) -> go.Figure | None:
    """Capacity in trial order, with its 95 % interval, and the best so far as a line; or what was
    minimised in its place.

    Candidates without a capacity stand in a strip of their own below, never at zero.
    """
    yardstick = Yardstick.of(evaluations)
    searched = [e for e in evaluations if e.phase != "confirm"]
    measured = [e for e in searched if e.merit is not None]
    if not searched:
        return None
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.86, 0.14], vertical_spacing=0.04)
    if measured:
        figure.add_trace(_running_best(measured, yardstick), 1, 1)
    for name, colour, group in _by_role(searched, subjects(evaluations)):
        found = [e for e in group if e.merit is not None]
        if found:
            figure.add_trace(_capacities(found, name, colour, yardstick), 1, 1)
    for trace in _confirmed(evaluations, searched, yardstick):
        figure.add_trace(trace, 1, 1)
    behind = [e for e in searched if e.state is State.BEATEN]
    if behind:
        figure.add_trace(_left_behind(behind), 1, 1)
    rest = [e for e in searched if e.merit is None and e.state is not State.BEATEN]
    rates = yardstick.objective is None
    below = [e for e in rest if rates and _lowest_rate(e) is not None]
    if below:
        figure.add_trace(_not_met(below), 1, 1)
    for trace in _without_capacity(rest):
        figure.add_trace(trace, 2, 1)
    style.layout(figure, height=460)
    figure.update_yaxes(title_text=yardstick.axis, rangemode="tozero", row=1, col=1)
    _label_strip(figure, ["failed", "not met"] if rest else [])
    last = max(e.trial for e in searched)
    figure.update_xaxes(**_whole_steps(len(searched), last))
    figure.update_xaxes(title_text="trial", row=2, col=1)
    return figure


def _label_strip(figure: go.Figure, states: list[str]) -> None:
    figure.update_yaxes(
        type="category",
        categoryarray=states,
        range=[-0.6, 1.6],
        tickvals=states,
        showgrid=False,
        row=2,
        col=1,
    )


def _by_role(
    evaluations: list[Evaluation], chosen: list[Subject]
) -> Iterable[tuple[str, str, list[Evaluation]]]:
    others = [e for e in evaluations if not any(same(e, s.evaluation) for s in chosen)]
    yield "candidates", style.OTHERS, others
    for subject in chosen:
        group = [e for e in evaluations if same(e, subject.evaluation)]
        yield subject.name, subject.colour, group


def _running_best(measured: list[Evaluation], yardstick: Yardstick) -> go.Scatter:
    in_turn = [e for e in measured if e.phase != "again"]
    so_far = np.minimum if yardstick.smaller_is_better else np.maximum
    best = so_far.accumulate([yardstick.drawn(yardstick.value(e)) for e in in_turn])
    return go.Scatter(
        x=[e.trial for e in in_turn],
        y=best.tolist(),
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": style.WINNER, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )


def _capacities(
    found: list[Evaluation], name: str, colour: str, yardstick: Yardstick
) -> go.Scatter:
    values = [yardstick.drawn(yardstick.value(e)) for e in found]
    ranges = [yardstick.range(e) for e in found]
    pairs = list(zip(values, ranges, strict=True))
    upward = [yardstick.drawn(high) - at if high else 0.0 for at, (_, high) in pairs]
    downward = [at - yardstick.drawn(low) if low else 0.0 for at, (low, _) in pairs]
    return go.Scatter(
        x=[e.trial for e in found],
        y=values,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": upward,
            "arrayminus": downward,
            "thickness": 1.5,
            "width": 4,
        },
        mode="markers",
        name=name,
        marker={"color": colour, "size": 8 if name == "candidates" else 12},
        customdata=[_hover(e) for e in found],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _confirmed(
    evaluations: list[Evaluation], searched: list[Evaluation], yardstick: Yardstick
) -> list[go.Scatter]:
    """Second measurements, beside the trial of the same candidate."""
    traces = []
    for name, colour, group in _by_role(evaluations, subjects(evaluations)):
        again = [e for e in group if e.phase == "confirm" and e.merit is not None]
        if not again:
            continue
        trials = [next((s.trial for s in searched if same(s, e)), e.trial) for e in again]
        trace = _capacities(again, f"{name}, confirmed", colour, yardstick)
        trace.update(x=[trial + 0.25 for trial in trials])
        trace.update(marker={"symbol": "diamond-open", "size": 11, "line": {"width": 2}})
        traces.append(trace)
    return traces


def _lowest_rate(evaluation: Evaluation) -> float | None:
    return min((p.rate for p in evaluation.probes if p.rate is not None), default=None)


def _left_behind(behind: list[Evaluation]) -> go.Scatter:
    """What was given up once it could not win: the range in which its capacity lies."""
    middle = [e.estimate or 0.0 for e in behind]
    pairs = list(zip(behind, middle, strict=True))
    return go.Scatter(
        x=[e.trial for e in behind],
        y=middle,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [(e.high or at) - at for e, at in pairs],
            "arrayminus": [at - (e.low or at) for e, at in pairs],
            "thickness": 1.5,
            "width": 4,
        },
        mode="markers",
        name="left behind: lies in this range",
        marker={"symbol": "line-ew-open", "size": 7, "color": style.OTHERS},
        customdata=[_hover(e) for e in behind],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _not_met(below: list[Evaluation]) -> go.Scatter:
    return go.Scatter(
        x=[e.trial for e in below],
        y=[_lowest_rate(e) for e in below],
        mode="markers",
        name="not met at this rate",
        marker={"symbol": "triangle-down-open", "size": 9, "color": style.SLA},
        customdata=[_hover(e) for e in below],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _without_capacity(rest: list[Evaluation]) -> list[go.Scatter]:
    rows = (("failed", State.FAILED, "x-thin"), ("not met", State.INFEASIBLE, "triangle-down-open"))
    traces = []
    for name, state, symbol in rows:
        # A record that is OK but has no capacity contradicts itself; it still must not vanish.
        group = [e for e in rest if (e.state is State.FAILED) == (state is State.FAILED)]
        traces.append(
            go.Scatter(
                x=[e.trial for e in group],
                y=[name] * len(group),
                mode="markers",
                showlegend=False,
                marker={
                    "symbol": symbol,
                    "size": 9,
                    "line": {"width": 2, "color": [_role_colour(e) for e in group]},
                    "color": [_role_colour(e) for e in group],
                },
                customdata=[_hover(e) for e in group],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    return traces


def _role_colour(evaluation: Evaluation) -> str:
    if evaluation.baseline:
        return style.BASELINE
    return style.OTHERS if evaluation.state is State.FAILED else style.SLA


def _hover(evaluation: Evaluation) -> str:
    lines = [f"<b>trial {evaluation.trial}</b>" + (", baseline" if evaluation.baseline else "")]
    lines += [style.label(part) for part in evaluation.label.split(", ")]
    if evaluation.cost is not None:
        lines.append(describe_cost(evaluation.cost))
    elif evaluation.capacity is not None:
        lines.append(f"capacity {format_rate(evaluation.capacity)}")
    if evaluation.state is State.BEATEN:
        lines.append("left behind: it could not win any more")
    if evaluation.low is not None and evaluation.high is not None:
        lines.append(f"95 %: {format_rate(evaluation.low)} to {format_rate(evaluation.high)}")
    if evaluation.failure:
        lines.append(style.label(evaluation.failure.strip().splitlines()[0][:120]))
    return "<br>".join(lines)


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


def _whole_steps(count: int, last: int) -> dict[str, Any]:
    steps = {"dtick": 1} if count <= 10 else {}
    return {"range": [-0.6, last + 0.6], **steps}


def parallel_coordinates(evaluations: list[Evaluation]) -> go.Figure | None:
    """One line per candidate, through its settings to the capacity it reached, or may reach.

    Plain lines instead of Plotly's own trace for this, which needs WebGL and draws nothing without.
    """
    yardstick = Yardstick.of(evaluations)
    best_of = {e.candidate: e for e in evaluations if yardstick.estimate(e) is not None}
    found = sorted(
        best_of.values(),
        key=lambda e: yardstick.estimate(e) or 0.0,
        reverse=yardstick.smaller_is_better,
    )
    axes = _axes(found)
    if len(found) < 2 or not axes:
        return None
    worst, best = yardstick.estimate(found[0]) or 0.0, yardstick.estimate(found[-1]) or 0.0
    figure = go.Figure()
    for rank, evaluation in enumerate(found):
        shift = (rank / (len(found) - 1) - 0.5) * _SPREAD
        heights = [_height(values, evaluation, path) + shift for path, values in axes.items()]
        at = yardstick.estimate(evaluation) or 0.0
        share = (at - worst) / (best - worst) if best != worst else 1.0
        figure.add_trace(_candidate_line([*heights, share], share, evaluation, evaluations))
    for position, values in enumerate(axes.values()):
        _write_values(figure, position, values)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = yardstick.show(worst + share * (best - worst))
        _write_value(figure, len(axes), share, value, left=False)
    titles = [style.setting(path, 10) for path in axes]
    style.layout(figure, height=480, showlegend=False, margin={"l": 40, "r": 72, "t": 8, "b": 60})
    figure.update_xaxes(
        tickvals=list(range(len(axes) + 1)),
        ticktext=[*titles, f"<b>{yardstick.short_name}</b>"],
        tickangle=0,
        range=[-0.4, len(axes) + 0.1],
        gridcolor=style.OTHERS,
        zeroline=False,
    )
    figure.update_yaxes(visible=False, range=[-0.12, 1.12])
    return figure


def _axes(found: list[Evaluation]) -> dict[str, list[Value]]:
    """The settings that vary, each with its values in order."""
    seen: dict[str, set[Value]] = {}
    for evaluation in found:
        for path, value in evaluation.candidate.settings:
            seen.setdefault(path, set()).add(value)
    lacking = {p for p in seen if any(e.candidate.get(p) is None for e in found)}
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
    heights: list[float], share: float, evaluation: Evaluation, evaluations: list[Evaluation]
) -> go.Scatter:
    role = next((s for s in subjects(evaluations) if same(s.evaluation, evaluation)), None)
    colour = role.colour if role else sample_colorscale(style.CAPACITY_SCALE, [share])[0]
    return go.Scatter(
        x=list(range(len(heights))),
        y=heights,
        mode="lines+markers",
        line={"color": colour, "width": 4 if role else 1.8},
        marker={"color": colour, "size": 8 if role else 5},
        customdata=[_hover(evaluation)] * len(heights),
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
