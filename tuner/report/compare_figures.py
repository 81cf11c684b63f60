"""The figures of a comparison: one colour per deployment, the same in all of them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

import plotly.graph_objects as go

from tuner.analysis.bands import UNBATCHED, Answer, Band
from tuner.analysis.recommend import CLIENTS, Recommendation, sla_of
from tuner.analysis.records import Comparison, Contender, Deployed, contenders
from tuner.records.results import Evaluation
from tuner.report import style
from tuner.report.compare_curves import gpu_by_rate, host_by_rate, latency_by_rate
from tuner.report.compare_parts import time_parts
from tuner.report.figures import Drawing
from tuner.units import format_duration, format_rate

_MS = 1000.0
_ROW = 46
_ROOM = 1.4
_KINDS = {
    "naive": "#c9a46a",
    "fastapi": style.BASELINE,
    "hybrid": "#9361c4",
    "triton": "#6fb3df",
}
_DARK, _OUTLINE = "#1d242c", "#eef0f3"
_OWN = ("#2f9e6e", "#c0567a", "#7d8f2a", "#5b6fd0")


@dataclass(frozen=True)
class Look:
    """A deployment as figures show it; ``contender`` is None where it was not measured."""

    deployed: Deployed
    contender: Contender | None
    colour: str

    @property
    def title(self) -> str:
        return style.label(self.deployed.title)

    @property
    def lines(self) -> str:
        """The title, broken for the side of a figure."""
        lines = wrap(self.deployed.title, 17) or [self.deployed.name]
        return "<br>".join(map(style.label, lines))


def looks(comparison: Comparison, evaluations: list[Evaluation]) -> list[Look]:
    by_name = {each.name: each for each in contenders(comparison, evaluations)}
    own = [d.name for d in comparison.deployments if d.kind == "service"]
    return [
        Look(deployed, by_name.get(deployed.name), _colour(deployed, own))
        for deployed in comparison.deployments
    ]


def _colour(deployed: Deployed, own: Sequence[str]) -> str:
    if deployed.kind == "service":
        return _OWN[own.index(deployed.name) % len(_OWN)]
    if deployed.kind == "triton":
        if deployed.name == UNBATCHED:
            return style.OTHERS
        return style.WINNER if deployed.tuned else _KINDS["triton"]
    return _KINDS[deployed.kind]


def drawings(
    comparison: Comparison, evaluations: list[Evaluation], recommendation: Recommendation
) -> list[Drawing]:
    """Every figure, in reading order; what the machine does not have is left out."""
    shown = looks(comparison, evaluations)
    sla = sla_of(comparison)
    measured = [(each.contender, each.colour) for each in shown if each.contender is not None]
    found = [_bands(recommendation, shown), _capacities(shown)]
    found.append(
        Drawing(
            "latency-by-rate",
            "Latency against rate",
            "Each mark is a probe: a cross where it broke the promise, open where it left it open. "
            "Lines are the rising ones that come nearest to the marks; where the upper ones cross "
            "the red line, the promise breaks. Click a name in the legend to hide or show it.",
            latency_by_rate(measured, sla),
            "No deployment was probed at a set rate.",
        )
    )
    found.append(
        Drawing(
            "time-parts",
            "Where the time goes",
            "The mean latency and its parts, as services and Triton counted them. All but the "
            'green is overhead. "Rest" is what nobody counted: network, HTTP server, client; for '
            "Triton alone also its front end, for what it counts begins with the queue.",
            time_parts([(e.contender, e.lines) for e in shown if e.contender is not None]),
            "No deployment counted its parts.",
        )
    )
    found.append(
        Drawing(
            "host",
            "Processor and memory against rate",
            "Cores are the mean over each probe, memory is the most that was seen in it; those of "
            "a service and of the Triton behind it together. Lines go through medians.",
            host_by_rate(measured),
            "The processes of servers that tuner did not start cannot be seen.",
        )
    )
    gpu = gpu_by_rate(measured)
    if gpu is not None or comparison.gpu is not None:
        found.append(
            Drawing(
                "gpu",
                "GPU utilisation against rate",
                "The share of the time in which the GPU computed, the mean over each probe. What "
                "serves more at the same utilisation uses the GPU better.",
                gpu,
                "The GPU does not tell how busy it is.",
            )
        )
    return [*found, _swaps(shown)]


def _bands(recommendation: Recommendation, shown: Sequence[Look]) -> Drawing:
    return Drawing(
        "bands",
        "Which deployment at which rate",
        "The simplest deployment that keeps the promise, by the rate that it has to serve. The "
        "thin lines are the intervals of 95 % of the capacities, from which bands keep a margin.",
        bands(recommendation.answers, shown),
        "No deployment keeps the promise at any rate that was tried.",
    )


def bands(answers: Iterable[Answer], shown: Sequence[Look]) -> go.Figure | None:
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
            look = by_name[band.deployment]
            figure.add_trace(_band(row, band, look, end, band.deployment not in named))
            named.add(band.deployment)
    edges = [(row, b.edge) for row, answer in enumerate(rows) for b in answer.bands if b.edge]
    spans = [(row, low, high or end) for row, (low, high) in edges]
    figure.add_traces(list(_whiskers(spans)))
    hatched = _fill(style.OTHERS, True)
    figure.add_bar(x=[None], y=[None], orientation="h", name="replicas of it", marker=hatched)
    style.layout(figure, height=150 + 64 * len(rows), barmode="overlay")
    figure.update_xaxes(title_text="rate (requests/s)", range=[0, end])
    names = ["<br>".join(wrap(CLIENTS[answer.clients], 12)) for answer in rows]
    _rows(figure, names)
    return figure


def _band(row: int, band: Band, look: Look, end: float, legend: bool) -> go.Bar:
    high = end if band.high is None else band.high
    words = f"replicas of {look.title}" if band.replicas else look.title
    reach = "" if band.high is None else f" to {format_rate(band.high)}"
    return go.Bar(
        orientation="h",
        y=[row],
        base=[band.low],
        x=[high - band.low],
        width=0.55,
        name=look.title,
        showlegend=legend and not band.replicas,
        marker=_fill(look.colour, band.replicas),
        hovertemplate=f"<b>{words}</b><br>{format_rate(band.low)}{reach}<extra></extra>",
    )


def _whiskers(intervals: Sequence[tuple[int, float, float]]) -> Iterator[go.Scatter]:
    """Lines from low to high in their rows, outlined to be seen on any colour, light or dark."""
    x = [end for _, low, high in intervals for end in (low, high, None)]
    y = [end for row, *_ in intervals for end in (row, row, None)]
    for colour, width in ((_OUTLINE, 5), (_DARK, 2)):
        line = {"color": colour, "width": width}
        yield go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _fill(colour: str, hatched: bool) -> dict[str, object]:
    if not hatched:
        return {"color": colour}
    pattern = {"shape": "/", "fgcolor": colour, "bgcolor": "rgba(0,0,0,0)", "size": 7}
    return {"color": colour, "pattern": pattern, "line": {"color": colour, "width": 1}}


def _rows(figure: go.Figure, names: Sequence[str]) -> None:
    """Rows by their number, the first on top, for two of them may have the same name."""
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )


def _capacities(shown: Sequence[Look]) -> Drawing:
    return Drawing(
        "capacities",
        "Capacity of every deployment",
        "The highest rate that keeps the promise, with the interval of 95 %. The upright line is "
        "the rate to operate at.",
        capacities(shown),
        "Nothing was measured.",
    )


def capacities(shown: Sequence[Look]) -> go.Figure | None:
    """Bars; where there is no capacity, a word says why."""
    known = [(i, e, c) for i, e in enumerate(shown) if (c := _evaluation(e)) and c.capacity]
    if not known:
        return None
    figure = go.Figure()
    figure.add_bar(
        orientation="h",
        y=[i for i, _, _ in known],
        x=[found.capacity for _, _, found in known],
        width=0.62,
        marker={"color": [each.colour for _, each, _ in known]},
        showlegend=False,
        customdata=[_capacity_hover(each, found) for _, each, found in known],
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
    figure.add_trace(_words_beside(shown, most))
    style.layout(figure, height=96 + _ROW * len(shown))
    figure.update_xaxes(title_text="capacity (requests/s)", range=[0, _ROOM * most])
    _rows(figure, [each.lines for each in shown])
    return figure


def _evaluation(look: Look) -> Evaluation | None:
    return look.contender.evaluation if look.contender is not None else None


def _capacity_hover(look: Look, found: Evaluation) -> str:
    high = "open" if found.high is None else format_rate(found.high)
    return (
        f"<b>{look.title}</b><br>{format_rate(found.capacity)}, 95 %: {format_rate(found.low)} to "
        f"{high}<br>rate to operate at: {format_rate(found.recommended)}"
    )


def _words_beside(shown: Sequence[Look], most: float) -> go.Scatter:
    """The capacity, or why there is none, behind each bar."""
    places, words = [], []
    for each in shown:
        found = _evaluation(each)
        if found is None:
            places.append(0.0)
            words.append("not measured")
        elif found.capacity is None:
            places.append(0.0)
            words.append("failed" if found.state == "failed" else "no rate kept the promise")
        else:
            places.append(max(found.high or 0.0, found.capacity))
            more = " or more" if found.client_limited else ""
            words.append(f"{format_rate(found.capacity)}{more}")
    return go.Scatter(
        x=[place + 0.012 * most for place in places],
        y=list(range(len(shown))),
        mode="text",
        text=words,
        textposition="middle right",
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )


def _swaps(shown: Sequence[Look]) -> Drawing:
    return Drawing(
        "swaps",
        "What clients feel while the model is replaced",
        "From the usual p99 (open) to the slowest answer during the swap (filled). Requests that "
        "were lost, and how long it took until every answer came from the new model, stand beside.",
        swaps(shown),
        "No model was replaced while it served.",
    )


def swaps(shown: Sequence[Look]) -> go.Figure | None:
    found = [(each, s) for each in shown if (s := each.deployed.swap) and s.failure is None]
    known = [(e, s) for e, s in found if s.worst and s.usual and math.isfinite(s.worst)]
    if not known:
        return None
    figure = go.Figure()
    for row, (look, swap) in enumerate(known):
        usual, worst = (swap.usual or 0.0) * _MS, (swap.worst or 0.0) * _MS
        words = f"{format_duration(swap.seconds)}, {swap.lost:,} of {swap.requests:,} lost"
        figure.add_scatter(
            x=[usual, worst],
            y=[row, row],
            mode="lines+markers",
            line={"color": look.colour, "width": 4},
            marker={
                "size": 12,
                "color": look.colour,
                "symbol": ["circle-open", "circle"],
                "line": {"width": 2.5, "color": look.colour},
            },
            showlegend=False,
            hovertemplate=f"<b>{look.title}</b>: {words}<br>%{{x:.3g}} ms<extra></extra>",
        )
    style.layout(figure, height=96 + 56 * len(known))
    values = [v * _MS for _, s in known for v in (s.usual, s.worst) if v]
    figure.update_xaxes(title_text="latency (ms)", **style.log_axis(min(values), max(values) * 1.1))
    _rows(figure, [f"{look.lines}<br>{_lost(look)}" for look, _ in known])
    return figure


def _lost(look: Look) -> str:
    swap = look.deployed.swap
    if swap is None:
        return ""
    return f"<i>{format_duration(swap.seconds)}, {swap.lost:,} lost</i>"
