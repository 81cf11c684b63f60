"""Figures of where the time of a request goes: by rate, and from deployment to deployment."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.analysis.breakdown import Breakdown, break_down, representative
from tuner.analysis.contenders import Contender
from tuner.analysis.search_findings import probes_of, subjects
from tuner.analysis.stages import StageSeconds, excess, overhead, stages_of
from tuner.records.comparison import STAGES
from tuner.records.results import Evaluation, ProbeRecord
from tuner.report import style
from tuner.report.series import ShownDeployment, color_of, label_of
from tuner.stats.samples import Samples
from tuner.units import format_duration, format_number, format_rate

_PARTS = {"client": "client, before sending", "rest": "rest: network, serialization, client"}
_STAGES = {
    "client": "client, before sending",
    "tokenising": "tokenizing",
    "transport": "to Triton and back",
    "serialisation": "serialization",
}


@dataclass(frozen=True)
class BarSettings:
    """Which probes become bars."""

    most: int = 7
    """Bars of one candidate: two candidates side by side still have room for the rates' labels."""
    apart: float = 1.12
    """Ratio of neighbouring rates: nearer ones look alike."""
    farthest: float = 3.0
    """Times the mean latency at capacity: beyond capacity the queue grows as long as one cares to
    look, and would flatten all else."""
    near_half: tuple[float, float] = (0.25, 0.8)
    """Shares of the capacity that still pass for about half of it."""


BARS = BarSettings()


def time_breakdown(
    evaluations: list[Evaluation], samples: Mapping[str, Samples]
) -> go.Figure | None:
    """The parts of the mean latency as stacked bars, by rate, baseline and winner side by side.

    Rates far beyond capacity are left out. ``samples`` stand in for what old records lack.
    """
    chosen = [(s, _bars(evaluations, s.evaluation, samples)) for s in subjects(evaluations)]
    drawn = [(subject, bars) for subject, bars in chosen if bars]
    if not drawn:
        return None
    titles = [label_of(subject) for subject, _ in drawn]
    figure = make_subplots(1, len(drawn), shared_yaxes=True, subplot_titles=titles)
    named: set[str] = set()
    for column, (_, bars) in enumerate(drawn, 1):
        for trace in _stacks(bars):
            trace.showlegend = trace.name not in named
            named.add(trace.name)
            figure.add_trace(trace, 1, column)
    style.layout(figure, height=460, barmode="stack", bargap=0.35)
    figure.update_layout(margin={"t": 56, "b": 96})
    for title, (subject, _) in zip(figure.layout.annotations, drawn, strict=True):
        title.update(font={"size": 14, "color": color_of(subject)}, yshift=6)
    figure.update_xaxes(type="category", showgrid=False, title_text="rate")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="mean latency (ms)", col=1)
    return figure


def _bars(
    evaluations: list[Evaluation], subject: Evaluation, samples: Mapping[str, Samples]
) -> list[tuple[ProbeRecord, Breakdown]]:
    """Probes of a candidate at rates clearly apart, in order of the rate; that at capacity always.

    Of probes at about the same rate, the one with the most requests.
    """
    shown = representative(subject)
    known = [
        (probe, parts)
        for probe in probes_of(evaluations, subject)
        if probe.purpose != "unloaded" and _rate(probe)
        if (parts := break_down(probe, samples.get(probe.samples or ""))) is not None
    ]
    reference = next((parts.mean for probe, parts in known if probe is shown), None)
    if reference is not None:
        known = [each for each in known if each[1].mean <= BARS.farthest * reference]
    known.sort(key=lambda each: (each[0] is not shown, -each[0].n))
    chosen: list[tuple[ProbeRecord, Breakdown]] = []
    for probe, parts in known:
        ratios = (_rate(probe) / _rate(other) for other, _ in chosen)
        if len(chosen) < BARS.most and all(max(r, 1 / r) >= BARS.apart for r in ratios):
            chosen.append((probe, parts))
    return sorted(chosen, key=lambda each: _rate(each[0]))


def _rate(probe: ProbeRecord) -> float:
    return probe.rate or probe.throughput or 0.0


def _stacks(bars: list[tuple[ProbeRecord, Breakdown]]) -> Iterable[go.Bar]:
    rates = [format_rate(_rate(probe)) for probe, _ in bars]
    for part, color in style.PARTS.items():
        seconds = [parts.parts[part] for _, parts in bars]
        if any(seconds):
            yield go.Bar(
                x=rates,
                y=[None if s is None else s * style.MS for s in seconds],
                name=_PARTS.get(part, part),
                legendgroup=part,
                marker={"color": color},
                customdata=[_probe_hover(probe, parts) for probe, parts in bars],
                hovertemplate=f"{part}: %{{y:.3g}} ms%{{customdata}}<extra></extra>",
            )


def _probe_hover(probe: ProbeRecord, parts: Breakdown) -> str:
    batch = probe.server.mean_batch if probe.server is not None else None
    lines = [f"of {parts.mean * style.MS:.3g} ms at {format_rate(_rate(probe))}, {probe.outcome}"]
    if batch is not None:
        lines.append(f"mean batch {format_number(batch)}")
    if parts.rest is None and probe.server is not None:
        lines.append(f"rest unknown: the server counted {probe.server.requests:,} requests")
    if parts.over > 0:
        lines.append(f"the server counted {parts.over * style.MS:.3g} ms more than the client saw")
    return "".join(f"<br>{line}" for line in lines)


def half_capacity(contender: Contender) -> ProbeRecord | None:
    """The probe nearest to half of the capacity whose stages are known; None without one near."""
    capacity = contender.evaluation.capacity
    if capacity is None:
        return None
    least, most = BARS.near_half
    near = [
        p
        for p in contender.evaluation.probes
        if p.purpose != "unloaded" and p.rate and least <= p.rate / capacity <= most
        if stages_of(p, contender.deployed) is not None
    ]
    return min(near, key=lambda p: abs(math.log((p.rate or 1.0) / capacity / 0.5)), default=None)


def stages_by_deployment(shown: Sequence[ShownDeployment]) -> go.Figure | None:
    """Stacked bars of stages, one request at a time and at about half of capacity."""
    panels = [
        ("one request at a time", _stage_bars(shown, lambda c: c.evaluation.unloaded())),
        ("at about half of capacity", _stage_bars(shown, half_capacity)),
    ]
    panels = [(title, bars) for title, bars in panels if bars]
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
    counted = {name for _, bars in panels for bar in bars for name, s in bar.stages.items() if s}
    for row, (_, bars) in enumerate(panels, 1):
        for name in STAGES:
            if name in counted:
                figure.add_trace(_stage_stack(name, bars, legend=row == 1), row, 1)
    style.layout(figure, height=round(total), barmode="stack", bargap=0.35)
    figure.update_layout(margin={"t": 56, "b": 110})
    for annotation in figure.layout.annotations:
        annotation.update(font={"size": 14}, yshift=6)
    for row, (_, bars) in enumerate(panels, 1):
        style.name_rows(figure, [bar.shown.lines for bar in bars], row)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="mean latency (ms)", row=len(panels), col=1)
    return figure


@dataclass(frozen=True)
class _StageBar:
    shown: ShownDeployment
    probe: ProbeRecord
    stages: StageSeconds


def _stage_bars(
    shown: Sequence[ShownDeployment], probe_of: Callable[[Contender], ProbeRecord | None]
) -> list[_StageBar]:
    return [
        _StageBar(each, probe, stages)
        for each in shown
        if each.contender is not None and (probe := probe_of(each.contender)) is not None
        if (stages := stages_of(probe, each.deployed)) is not None
    ]


def _stage_stack(name: str, bars: Sequence[_StageBar], legend: bool) -> go.Bar:
    title = _STAGES.get(name, name)
    return go.Bar(
        orientation="h",
        y=list(range(len(bars))),
        x=[bar.stages[name] * style.MS if name in bar.stages else None for bar in bars],
        name=title,
        legendgroup=name,
        showlegend=legend,
        marker={"color": style.STAGES[name]},
        customdata=[_stage_hover(bar) for bar in bars],
        hovertemplate=f"{title}: %{{x:.3g}} ms%{{customdata}}<extra></extra>",
    )


def _stage_hover(bar: _StageBar) -> str:
    probe, total = bar.probe, sum(bar.stages.values())
    at = "one at a time" if probe.purpose == "unloaded" else f"at {format_rate(probe.rate)}"
    outside = format_duration(overhead(bar.stages))
    lines = [
        f"<b>{bar.shown.title}</b>, {at}",
        f"of {format_duration(total)}, {outside} outside inference",
    ]
    over = excess(probe, bar.shown.deployed)
    if over > 0:
        lines.append(f"scaled down: {format_duration(over)} more counted than the client saw")
    return "".join(f"<br>{line}" for line in lines)
