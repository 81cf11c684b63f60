"""The figure of all candidates in the order of trials: what each of them reached."""

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.analysis.search_findings import is_same_candidate, subjects
from tuner.records.costs import describe_cost
from tuner.records.results import Evaluation, State
from tuner.report import style
from tuner.report.metric import Metric
from tuner.report.series import by_role
from tuner.units import format_rate

_CANDIDATES = "candidates"
_STRIP = ["failed", "not met"]
Place = Callable[[Evaluation], float]


def capacity_by_candidate(evaluations: list[Evaluation]) -> go.Figure | None:
    """Capacity in trial order, with its 95 % interval, and the best so far as a line; or what was
    minimised in its place.

    Candidates without a capacity stand in a strip of their own below, never at zero.
    """
    metric = Metric.of(evaluations)
    searched = [e for e in evaluations if e.phase != "confirm"]
    if not searched:
        return None
    rest = [e for e in searched if e.merit is None and e.state is not State.BEATEN]
    heights = [0.86, 0.14] if rest else [1.0]
    figure = make_subplots(
        len(heights), 1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.04
    )
    figure.add_traces(_measured(evaluations, searched, metric), 1, 1)
    figure.add_traces(_eliminated([e for e in searched if e.state is State.BEATEN]), 1, 1)
    if metric.objective is None:
        figure.add_traces(_not_met([e for e in rest if _lowest_rate(e) is not None]), 1, 1)
    style.layout(figure, height=460)
    figure.update_yaxes(title_text=metric.axis, rangemode="tozero", row=1, col=1)
    if rest:
        _add_strip(figure, rest)
    last = max(e.trial for e in searched)
    figure.update_xaxes(**_whole_steps(len(searched), last))
    figure.update_xaxes(title_text="trial", row=len(heights), col=1)
    return figure


def _measured(
    evaluations: list[Evaluation], searched: list[Evaluation], metric: Metric
) -> list[go.Scatter]:
    """The best so far, what the search measured, and confirmations beside the same candidate."""
    chosen, traces = subjects(evaluations), []
    measured = [e for e in searched if e.merit is not None]
    if measured:
        traces.append(_running_best(measured, metric))
    for name, color, group in by_role(searched, chosen, _CANDIDATES):
        if known := [e for e in group if e.merit is not None]:
            traces.append(_marks(known, name, color, metric, lambda e: e.trial))
    for name, color, group in by_role(evaluations, chosen, _CANDIDATES):
        again = [e for e in group if e.phase == "confirm" and e.merit is not None]
        if again:
            title = f"{name}, confirmed"
            trace = _marks(again, title, color, metric, lambda e: _beside(e, searched))
            trace.update(marker={"symbol": "diamond-open", "size": 11, "line": {"width": 2}})
            traces.append(trace)
    return traces


def _beside(confirmed: Evaluation, searched: list[Evaluation]) -> float:
    same = (e.trial for e in searched if is_same_candidate(e, confirmed))
    return next(same, confirmed.trial) + 0.25


def _add_strip(figure: go.Figure, rest: list[Evaluation]) -> None:
    figure.add_traces(_without_capacity(rest), 2, 1)
    figure.update_yaxes(
        type="category",
        categoryarray=_STRIP,
        range=[-0.6, 1.6],
        tickvals=_STRIP,
        showgrid=False,
        row=2,
        col=1,
    )


def _running_best(measured: list[Evaluation], metric: Metric) -> go.Scatter:
    in_turn = [e for e in measured if e.phase != "again"]
    so_far = np.minimum if metric.smaller_is_better else np.maximum
    best = so_far.accumulate([metric.drawn(metric.value(e)) for e in in_turn])
    return go.Scatter(
        x=[e.trial for e in in_turn],
        y=best.tolist(),
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": style.WINNER, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )


def _marks(
    measured: list[Evaluation], name: str, color: str, metric: Metric, place: Place
) -> go.Scatter:
    """With their 95 % intervals."""
    values = [metric.drawn(metric.value(e)) for e in measured]
    ends = [metric.range(e) for e in measured]
    lows = [metric.drawn(low) if low else at for at, (low, _) in zip(values, ends, strict=True)]
    highs = [metric.drawn(high) if high else at for at, (_, high) in zip(values, ends, strict=True)]
    return go.Scatter(
        x=[place(e) for e in measured],
        y=values,
        error_y=_error_bars(values, lows, highs),
        mode="markers",
        name=name,
        marker={"color": color, "size": 8 if name == _CANDIDATES else 12},
        customdata=[evaluation_hover(e) for e in measured],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _error_bars(values: list[float], lows: list[float], highs: list[float]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - at for at, high in zip(values, highs, strict=True)],
        "arrayminus": [at - low for at, low in zip(values, lows, strict=True)],
        "thickness": 1.5,
        "width": 4,
    }


def _lowest_rate(evaluation: Evaluation) -> float | None:
    return min((p.rate for p in evaluation.probes if p.rate is not None), default=None)


def _eliminated(behind: list[Evaluation]) -> list[go.Scatter]:
    """What was given up once it could not win: the range in which its capacity lies."""
    middle = [e.estimate or 0.0 for e in behind]
    lows = [e.low or at for e, at in zip(behind, middle, strict=True)]
    highs = [e.high or at for e, at in zip(behind, middle, strict=True)]
    marker = {"symbol": "line-ew-open", "size": 7, "color": style.OTHERS}
    traces = _without_value(behind, middle, "eliminated: capacity in this range", marker)
    return [trace.update(error_y=_error_bars(middle, lows, highs)) for trace in traces]


def _not_met(below: list[Evaluation]) -> list[go.Scatter]:
    rates = [_lowest_rate(e) or 0.0 for e in below]
    marker = {"symbol": "triangle-down-open", "size": 9, "color": style.SLA}
    return _without_value(below, rates, "not met at this rate", marker)


def _without_value(
    evaluations: list[Evaluation], values: list[float], name: str, marker: dict[str, Any]
) -> list[go.Scatter]:
    trace = go.Scatter(
        x=[e.trial for e in evaluations],
        y=values,
        mode="markers",
        name=name,
        marker=marker,
        customdata=[evaluation_hover(e) for e in evaluations],
        hovertemplate="%{customdata}<extra></extra>",
    )
    return [trace] if evaluations else []


def _without_capacity(rest: list[Evaluation]) -> list[go.Scatter]:
    failed = [e for e in rest if e.state is State.FAILED]
    # A record that is OK but has no capacity contradicts itself; it still must not vanish.
    others = [e for e in rest if e.state is not State.FAILED]
    symbols = ("x-thin", "triangle-down-open")
    return [
        go.Scatter(
            x=[e.trial for e in group],
            y=[name] * len(group),
            mode="markers",
            showlegend=False,
            marker={
                "symbol": symbol,
                "size": 9,
                "line": {"width": 2, "color": [_role_color(e) for e in group]},
                "color": [_role_color(e) for e in group],
            },
            customdata=[evaluation_hover(e) for e in group],
            hovertemplate="%{customdata}<extra></extra>",
        )
        for name, symbol, group in zip(_STRIP, symbols, (failed, others), strict=True)
    ]


def _role_color(evaluation: Evaluation) -> str:
    if evaluation.baseline:
        return style.BASELINE
    return style.OTHERS if evaluation.state is State.FAILED else style.SLA


def evaluation_hover(evaluation: Evaluation) -> str:
    """What a candidate is and reached, line by line."""
    lines = [f"<b>trial {evaluation.trial}</b>" + (", baseline" if evaluation.baseline else "")]
    lines += [style.label(part) for part in evaluation.label.split(", ")]
    if evaluation.cost is not None:
        lines.append(describe_cost(evaluation.cost))
    elif evaluation.capacity is not None:
        lines.append(f"capacity {format_rate(evaluation.capacity)}")
    if evaluation.state is State.BEATEN:
        lines.append("eliminated: winning became unlikely")
    if evaluation.low is not None and evaluation.high is not None:
        lines.append(f"95 %: {format_rate(evaluation.low)} to {format_rate(evaluation.high)}")
    if evaluation.failure:
        lines.append(style.label(evaluation.failure.strip().splitlines()[0][:120]))
    return "<br>".join(lines)


def _whole_steps(count: int, last: int) -> dict[str, Any]:
    steps = {"dtick": 1} if count <= 10 else {}
    return {"range": [-0.6, last + 0.6], **steps}
