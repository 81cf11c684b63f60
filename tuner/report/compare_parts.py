"""The figure of where the time goes, one request at a time and at about half of capacity."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.analysis.parts import Parts, excess, overhead, parts_of
from tuner.analysis.records import PARTS, Contender
from tuner.records.results import ProbeRecord
from tuner.report import style
from tuner.units import format_duration, format_rate

_MS = 1000.0
_HALF = 0.5
_NEAR_HALF = (0.25, 0.8)
_WORDS = {"client": "client, before sending", "transport": "to Triton and back"}
_COLOURS = {
    "client": "#c97a6a",
    "parsing": "#e0a458",
    "tokenising": "#c9c058",
    "transport": "#5aa7c8",
    "queue": "#a978c9",
    "inference": "#3f9c6b",
    "serialisation": "#d98cae",
    "rest": "#98a1ad",
}
_ALONE, _BUSY = "one request at a time", "at about half of its capacity"
Named = Sequence[tuple[Contender, str]]


def half_capacity(each: Contender) -> ProbeRecord | None:
    """The probe nearest to half of the capacity whose parts are known; None without one near."""
    capacity = each.evaluation.capacity
    if capacity is None:
        return None
    near = [
        p
        for p in each.evaluation.probes
        if p.purpose != "unloaded"
        and p.rate
        and _NEAR_HALF[0] <= p.rate / capacity <= _NEAR_HALF[1]
        and parts_of(p, each.deployed) is not None
    ]
    return min(near, key=lambda p: abs(math.log((p.rate or 1.0) / capacity / _HALF)), default=None)


def time_parts(named: Named) -> go.Figure | None:
    """Stacked bars; ``named`` has the contenders with the words at their side."""
    panels = []
    for title, probes in (
        (_ALONE, [each.evaluation.unloaded() for each, _ in named]),
        (_BUSY, [half_capacity(each) for each, _ in named]),
    ):
        bars = [
            (each, words, probe, parts)
            for (each, words), probe in zip(named, probes, strict=True)
            if probe is not None and (parts := parts_of(probe, each.deployed)) is not None
        ]
        if bars:
            panels.append((title, bars))
    if not panels:
        return None
    heights = [len(bars) + 0.6 for _, bars in panels]
    total = 120 + 46 * sum(heights) + 60 * len(panels)
    figure = make_subplots(
        len(panels),
        1,
        subplot_titles=[title for title, _ in panels],
        row_heights=heights,
        vertical_spacing=min(0.4, 90 / total),
    )
    counted = {name for _, bars in panels for *_, parts in bars for name, v in parts.items() if v}
    for row, (_, bars) in enumerate(panels, 1):
        for name in PARTS:
            if name in counted:
                figure.add_trace(_stack(name, bars, legend=row == 1), row, 1)
    style.layout(figure, height=round(total), barmode="stack", bargap=0.35)
    figure.update_layout(margin={"t": 56, "b": 110})
    for annotation in figure.layout.annotations:
        annotation.update(font={"size": 14}, yshift=6)
    for row, (_, bars) in enumerate(panels, 1):
        figure.update_yaxes(
            tickvals=list(range(len(bars))),
            ticktext=[words for _, words, _, _ in bars],
            range=[len(bars) - 0.5, -0.5],
            showgrid=False,
            zeroline=False,
            row=row,
            col=1,
        )
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="mean latency (ms)", row=len(panels), col=1)
    return figure


def _stack(
    name: str, bars: Sequence[tuple[Contender, str, ProbeRecord, Parts]], legend: bool
) -> go.Bar:
    words = _WORDS.get(name, name)
    return go.Bar(
        orientation="h",
        y=list(range(len(bars))),
        x=[parts[name] * _MS if name in parts else None for *_, parts in bars],
        name=words,
        legendgroup=name,
        showlegend=legend,
        marker={"color": _COLOURS[name]},
        customdata=[_hover(each, probe, parts) for each, _, probe, parts in bars],
        hovertemplate=f"{words}: %{{x:.3g}} ms%{{customdata}}<extra></extra>",
    )


def _hover(each: Contender, probe: ProbeRecord, parts: Parts) -> str:
    total = sum(parts.values())
    at = "one at a time" if probe.purpose == "unloaded" else f"at {format_rate(probe.rate)}"
    words = [
        f"<b>{style.label(each.deployed.title)}</b>, {at}",
        f"of {format_duration(total)}, {format_duration(overhead(parts))} outside inference",
    ]
    over = excess(probe, each.deployed)
    if over > 0:
        words.append(f"shrunk: {format_duration(over)} more was counted than the client saw")
    return "".join(f"<br>{line}" for line in words)
