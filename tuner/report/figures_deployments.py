"""Figures of deployments side by side: bands of rates, capacities, and swaps of the model."""

import math
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

import plotly.graph_objects as go

from tuner.analysis.bands import Answer, Band
from tuner.records.comparison import Swap
from tuner.records.results import Evaluation, State
from tuner.report import style
from tuner.report.series import ShownDeployment
from tuner.report.wording import swap_words
from tuner.report.wording_recommendation import CLIENTS
from tuner.units import format_duration, format_rate

_ROW = 46
"""Pixels of a bar, its title in up to three lines beside it."""
_ROOM = 1.4
"""Of the axis, over the longest bar: what is written behind it has to fit."""
_DARK, _OUTLINE = "#1d242c", "#eef0f3"


def bands_of_rates(answers: Iterable[Answer], shown: Sequence[ShownDeployment]) -> go.Figure | None:
    """One row for each kind of clients, along the rate."""
    by_name = {each.deployed.name: each for each in shown}
    rows = [answer for answer in answers if answer.bands]
    if not rows:
        return None
    reach = max(answer.bands[-1].low for answer in rows)
    highs = [b.edge[1] or 0.0 for answer in rows for b in answer.bands if b.edge]
    end = max(1.2 * reach, min(1.7 * reach, 1.04 * max(highs, default=0.0)))
    figure, named = go.Figure(), set[str]()
    for row, answer in enumerate(rows):
        for band in answer.bands:
            is_new = band.deployment not in named
            figure.add_trace(_band(row, band, by_name[band.deployment], end, is_new))
            named.add(band.deployment)
    edges = [(row, b.edge) for row, answer in enumerate(rows) for b in answer.bands if b.edge]
    spans = [(row, low, high or end) for row, (low, high) in edges]
    figure.add_traces(list(_whiskers(spans)))
    hatched = _fill(style.OTHERS, True)
    figure.add_bar(x=[None], y=[None], orientation="h", name="replicas", marker=hatched)
    style.layout(figure, height=150 + 64 * len(rows), barmode="overlay")
    figure.update_xaxes(title_text="rate (requests/s)", range=[0, end])
    names = ["<br>".join(wrap(CLIENTS[answer.clients], 12)) for answer in rows]
    style.name_rows(figure, names)
    return figure


def _band(row: int, band: Band, shown: ShownDeployment, end: float, legend: bool) -> go.Bar:
    high = end if band.high is None else band.high
    name = f"replicas of {shown.title}" if band.replicas else shown.title
    reach = "" if band.high is None else f" to {format_rate(band.high)}"
    return go.Bar(
        orientation="h",
        y=[row],
        base=[band.low],
        x=[high - band.low],
        width=0.55,
        name=shown.title,
        showlegend=legend and not band.replicas,
        marker=_fill(shown.color, band.replicas),
        hovertemplate=f"<b>{name}</b><br>{format_rate(band.low)}{reach}<extra></extra>",
    )


def _whiskers(intervals: Sequence[tuple[int, float, float]]) -> Iterator[go.Scatter]:
    """Lines from low to high in their rows, outlined to be seen on any color, light or dark."""
    x = [end for _, low, high in intervals for end in (low, high, None)]
    y = [end for row, *_ in intervals for end in (row, row, None)]
    for color, width in ((_OUTLINE, 5), (_DARK, 2)):
        line = {"color": color, "width": width}
        yield go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _fill(color: str, hatched: bool) -> dict[str, object]:
    if not hatched:
        return {"color": color}
    pattern = {"shape": "/", "fgcolor": color, "bgcolor": "rgba(0,0,0,0)", "size": 7}
    return {"color": color, "pattern": pattern, "line": {"color": color, "width": 1}}


def capacities(shown: Sequence[ShownDeployment]) -> go.Figure | None:
    """Bars; where there is no capacity, a word says why."""
    known = [(i, e, c) for i, e in enumerate(shown) if (c := e.evaluation) and c.capacity]
    if not known:
        return None
    figure = go.Figure()
    figure.add_bar(
        orientation="h",
        y=[i for i, _, _ in known],
        x=[evaluation.capacity for *_, evaluation in known],
        width=0.62,
        marker={"color": [each.color for _, each, _ in known]},
        showlegend=False,
        customdata=[_capacity_hover(each, evaluation) for _, each, evaluation in known],
        hovertemplate="%{customdata}<extra></extra>",
    )
    ends = [(i, f.low, f.high or f.capacity) for i, _, f in known]
    intervals = [(i, low, high) for i, low, high in ends if low is not None and high is not None]
    figure.add_traces(list(_whiskers(intervals)))
    figure.add_scatter(
        x=[each.contender.safe_rate for _, each, _ in known if each.contender],
        y=[i for i, each, _ in known if each.contender],
        mode="markers",
        marker={"symbol": "line-ns", "size": 24, "line": {"width": 2.5, "color": _DARK}},
        hoverinfo="skip",
        showlegend=False,
    )
    most = max(max(f.capacity or 0.0, f.high or 0.0) for *_, f in known)
    figure.add_trace(_labels_beside(shown, most))
    style.layout(figure, height=96 + _ROW * len(shown))
    figure.update_xaxes(title_text="capacity (requests/s)", range=[0, _ROOM * most])
    style.name_rows(figure, [each.lines for each in shown])
    return figure


def _capacity_hover(shown: ShownDeployment, evaluation: Evaluation) -> str:
    end = "or more" if evaluation.high is None else f"to {format_rate(evaluation.high)}"
    return (
        f"<b>{shown.title}</b><br>{format_rate(evaluation.capacity)}, "
        f"95 %: {format_rate(evaluation.low)} {end}<br>"
        f"recommended rate: {format_rate(evaluation.recommended)}"
    )


def _labels_beside(shown: Sequence[ShownDeployment], most: float) -> go.Scatter:
    """The capacity, or why there is none, behind each bar."""
    places, labels = [], []
    for evaluation in (each.evaluation for each in shown):
        if evaluation is None:
            places.append(0.0)
            labels.append("not measured")
        elif evaluation.capacity is None:
            places.append(0.0)
            failed = evaluation.state is State.FAILED
            labels.append("failed" if failed else "SLA not met")
        else:
            places.append(max(evaluation.high or 0.0, evaluation.capacity))
            more = " or more" if evaluation.client_limited else ""
            labels.append(f"{format_rate(evaluation.capacity)}{more}")
    return go.Scatter(
        x=[place + 0.012 * most for place in places],
        y=list(range(len(shown))),
        mode="text",
        text=labels,
        textposition="middle right",
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )


def swaps_of_model(shown: Sequence[ShownDeployment]) -> go.Figure | None:
    """From the usual p99 to the slowest answer during the swap, on a logarithmic axis."""
    swaps = [(each, s) for each in shown if (s := each.deployed.swap) and s.failure is None]
    known = [(e, s) for e, s in swaps if s.worst and s.usual and math.isfinite(s.worst)]
    if not known:
        return None
    figure = go.Figure([_swap(row, each, swap) for row, (each, swap) in enumerate(known)])
    style.layout(figure, height=96 + 56 * len(known))
    values = [v * style.MS for _, s in known for v in (s.usual, s.worst) if v]
    figure.update_xaxes(title_text="latency (ms)", **style.log_axis(min(values), max(values) * 1.1))
    style.name_rows(figure, [f"{each.lines}<br>{_lost(swap)}" for each, swap in known])
    return figure


def _swap(row: int, shown: ShownDeployment, swap: Swap) -> go.Scatter:
    result = swap_words(swap.seconds, swap.lost, swap.requests)
    return go.Scatter(
        x=[(swap.usual or 0.0) * style.MS, (swap.worst or 0.0) * style.MS],
        y=[row, row],
        mode="lines+markers",
        line={"color": shown.color, "width": 4},
        marker={
            "size": 12,
            "color": shown.color,
            "symbol": ["circle-open", "circle"],
            "line": {"width": 2.5, "color": shown.color},
        },
        showlegend=False,
        hovertemplate=f"<b>{shown.title}</b>: {result}<br>%{{x:.3g}} ms<extra></extra>",
    )


def _lost(swap: Swap) -> str:
    return f"<i>{format_duration(swap.seconds)}, {swap.lost:,} lost</i>"
