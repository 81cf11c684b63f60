"""Figures of where the time goes, and of what serving takes of the machine."""

from collections.abc import Iterable, Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.analysis.breakdown import Breakdown, break_down, representative
from tuner.records.results import Evaluation, HostReading, ProbeRecord
from tuner.report import style
from tuner.report.story import probes_of, same, subjects
from tuner.stats.samples import Samples
from tuner.units import format_cores, format_number, format_rate, format_size

_MS = 1000.0
_BARS = 7
_APART = 1.12
_FARTHEST = 3.0
_WORDS = {"client": "client, before sending", "rest": "rest: network, serialisation, client"}
_SCALES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_OTHERS = "other candidates"


def time_breakdown(
    evaluations: list[Evaluation], samples: Mapping[str, Samples]
) -> go.Figure | None:
    """The parts of the mean latency as stacked bars, by rate, baseline and winner side by side.

    Rates far beyond capacity are left out: the queue there grows as long as one cares to look, and
    would flatten all else. ``samples`` stand in for what old records lack.
    """
    found = [(s, _bars(evaluations, s.evaluation, samples)) for s in subjects(evaluations)]
    drawn = [(subject, bars) for subject, bars in found if bars]
    if not drawn:
        return None
    titles = [style.label(subject.label) for subject, _ in drawn]
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
        title.update(font={"size": 14, "color": subject.colour}, yshift=6)
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
        known = [each for each in known if each[1].mean <= _FARTHEST * reference]
    known.sort(key=lambda each: (each[0] is not shown, -each[0].n))
    chosen: list[tuple[ProbeRecord, Breakdown]] = []
    for probe, parts in known:
        ratios = (_rate(probe) / _rate(other) for other, _ in chosen)
        if len(chosen) < _BARS and all(max(r, 1 / r) >= _APART for r in ratios):
            chosen.append((probe, parts))
    return sorted(chosen, key=lambda each: _rate(each[0]))


def _rate(probe: ProbeRecord) -> float:
    return probe.rate or probe.throughput or 0.0


def _stacks(bars: list[tuple[ProbeRecord, Breakdown]]) -> Iterable[go.Bar]:
    rates = [format_rate(_rate(probe)) for probe, _ in bars]
    for part, colour in style.STAGES.items():
        seconds = [parts.parts[part] for _, parts in bars]
        if any(seconds):
            yield go.Bar(
                x=rates,
                y=[None if s is None else s * _MS for s in seconds],
                name=_WORDS.get(part, part),
                legendgroup=part,
                marker={"color": colour},
                customdata=[_hover(probe, parts) for probe, parts in bars],
                hovertemplate=f"{part}: %{{y:.3g}} ms%{{customdata}}<extra></extra>",
            )


def _hover(probe: ProbeRecord, parts: Breakdown) -> str:
    batch = probe.server.mean_batch if probe.server is not None else None
    words = [f"of {parts.mean * _MS:.3g} ms at {format_rate(_rate(probe))}, {probe.outcome}"]
    if batch is not None:
        words.append(f"mean batch {format_number(batch)}")
    if parts.rest is None and probe.server is not None:
        words.append(f"the server counted {probe.server.requests:,} requests, so no rest is known")
    if parts.over > 0:
        words.append(f"the server counted {parts.over * _MS:.3g} ms more than the client saw")
    return "".join(f"<br>{line}" for line in words)


def host_use(evaluations: list[Evaluation]) -> go.Figure | None:
    """Cores and memory of the server against the rate that was really served."""
    chosen = subjects(evaluations)
    others = [e for e in evaluations if not any(same(e, s.evaluation) for s in chosen)]
    groups = [(_OTHERS, style.OTHERS, _read([p for e in others for p in e.probes]))]
    groups += [(s.name, s.colour, _read(probes_of(evaluations, s.evaluation))) for s in chosen]
    held = [host.memory for _, _, points in groups for _, host in points if host.memory]
    if not any(points for _, _, points in groups):
        return None
    unit, scale = next((s for s in _SCALES if held and max(held) >= s[1]), ("B", 1))
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for name, colour, points in groups:
        if points:
            rates = [rate for rate, _ in points]
            cores = [host.cpu for _, host in points]
            sizes = [None if h.memory is None else h.memory / scale for _, h in points]
            hover = [_host_hover(name, rate, host) for rate, host in points]
            figure.add_trace(_line(rates, cores, name, colour, hover, legend=True), 1, 1)
            figure.add_trace(_line(rates, sizes, name, colour, hover, legend=False), 2, 1)
    style.layout(figure, height=500)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="served (requests/s)", row=2, col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="cores", row=1, col=1)
    figure.update_yaxes(title_text=f"memory ({unit})", row=2, col=1)
    return figure


def _read(probes: Iterable[ProbeRecord]) -> list[tuple[float, HostReading]]:
    """Served rate and reading of the probes in which the server was seen."""
    points = [(p.throughput, p.host) for p in probes if p.purpose != "unloaded"]
    return sorted(
        (
            (rate, host)
            for rate, host in points
            if rate is not None and host is not None and (host.cpu, host.memory) != (None, None)
        ),
        key=lambda point: point[0],
    )


def _line(
    rates: list[float],
    values: list[float | None],
    name: str,
    colour: str,
    hover: list[str],
    legend: bool,
) -> go.Scatter:
    many = name == _OTHERS
    return go.Scatter(
        x=rates,
        y=values,
        mode="markers" if many else "lines+markers",
        name=name,
        legendgroup=name,
        showlegend=legend,
        opacity=0.55 if many else 1.0,
        line={"color": colour, "width": 1.2, "dash": "dot"},
        marker={"color": colour, "size": 6 if many else 9},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _host_hover(name: str, rate: float, host: HostReading) -> str:
    words = (
        f"<b>{name}</b>, {format_rate(rate)} served",
        None if host.cpu is None else f"server {format_cores(host.cpu)}",
        None if host.memory is None else format_size(host.memory),
        None if host.client_cores is None else f"client {format_cores(host.client_cores)}",
    )
    return "<br>".join(word for word in words if word)
