"""Figures of a comparison against the rate: latency, processor, memory, GPU."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.analysis.records import Contender
from tuner.goals.sla import Sla
from tuner.records.results import ProbeRecord
from tuner.report import style
from tuner.units import format_cores, format_duration, format_rate, format_size

_MS = 1000.0
_NEAR = 1.1
_WIDE = 12
_ABOVE = 10.0
_SCALES = (("GiB", 2**30), ("MiB", 2**20))
_SYMBOLS = {"met": "circle", "violated": "x-thin", "inconclusive": "circle-open"}
Coloured = Sequence[tuple[Contender, str]]
Point = tuple[float, float, ProbeRecord]


def latency_by_rate(measured: Coloured, sla: Sla | None) -> go.Figure | None:
    """The promise's percentile above, p50 below. What lies above ten times the bound is off the
    scale, for a queue beyond capacity grows as long as one cares to look.
    """
    name = sla.primary.name if sla is not None else "p99"
    rows = (name, "p50") if name != "p50" else ("p50",)
    figure = make_subplots(len(rows), 1, shared_xaxes=True, vertical_spacing=0.07)
    seen: list[Point] = []
    for row, percentile in enumerate(rows, 1):
        limit = sla.primary.limit if sla is not None and percentile == name else None
        values: list[Point] = []
        for each, colour in measured:
            points = _latencies(each, percentile)
            values += points
            hover = _latency_hover(each, percentile)
            for trace in _curve(points, each, colour, row == 1, hover, _rising):
                figure.add_trace(trace, row, 1)
        _scale_latency(figure, row, percentile, values, limit)
        seen += values
    if not seen:
        return None
    rates = [rate for rate, _, _ in seen]
    if sla is not None:
        _promise(figure, sla, min(rates), max(rates))
    style.layout(figure, height=300 + 220 * (len(rows) - 1))
    _rate_axis(figure, rates, len(rows), "rate (requests/s)")
    return figure


def _latencies(each: Contender, percentile: str) -> list[Point]:
    """In ms."""
    loaded = [p for p in each.evaluation.probes if p.rate is not None and not p.client_limited]
    known = [(p.rate or 0.0, p.latency.get(percentile), p) for p in loaded]
    return sorted(
        ((rate, value * _MS, p) for rate, value, p in known if value and math.isfinite(value)),
        key=lambda point: point[:2],
    )


def _medians(points: Sequence[Point]) -> Iterable[tuple[float, float]]:
    """Of the points at about the same rate."""
    group: list[Point] = []
    for point in points:
        if group and point[0] > _NEAR * group[0][0]:
            yield _median(group)
            group = []
        group.append(point)
    yield _median(group)


def _median(group: Sequence[Point]) -> tuple[float, float]:
    return float(np.median([x for x, _, _ in group])), float(np.median([y for _, y, _ in group]))


def _rising(points: Sequence[Point]) -> Iterable[tuple[float, float]]:
    """The best fit that never falls, by the squares of logarithms: latency rises with the rate,
    and what does not is the machine's restlessness.
    """
    logs = _pooled([math.log(y) for _, y, _ in points])
    return [(x, math.exp(log)) for (x, _, _), log in zip(points, logs, strict=True)]


def _pooled(values: Sequence[float]) -> list[float]:
    """The rising sequence nearest to the values by least squares: adjacent violators are pooled
    (Ayer et al., 1955). SciPy's would bring all of scipy.optimize onto machines without a network.
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, size = value, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (mean * size + before * count) / (size + count), size + count
        pools.append((mean, size))
    return [mean for mean, size in pools for _ in range(size)]


def _curve(
    points: Sequence[Point],
    each: Contender,
    colour: str,
    legend: bool,
    hover: Callable[[Point], str],
    through: Callable[[Sequence[Point]], Iterable[tuple[float, float]]] = _medians,
) -> Iterable[go.Scatter]:
    """The probes, and a line through them."""
    if not points:
        return
    line = list(through(points))
    name = style.label(each.deployed.title)
    yield go.Scatter(
        x=[x for x, _ in line],
        y=[y for _, y in line],
        mode="lines",
        name=name,
        legendgroup=each.name,
        showlegend=legend,
        line={"color": colour, "width": 2},
        hoverinfo="skip",
    )
    yield go.Scatter(
        x=[x for x, _, _ in points],
        y=[y for _, y, _ in points],
        mode="markers",
        name=name,
        legendgroup=each.name,
        showlegend=False,
        marker={
            "color": colour,
            "size": 7,
            "symbol": [_SYMBOLS[p.outcome] for *_, p in points],
            "line": {"width": 1.5, "color": colour},
        },
        customdata=[hover(point) for point in points],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _latency_hover(each: Contender, percentile: str) -> Callable[[Point], str]:
    title = style.label(each.deployed.title)

    def hover(point: Point) -> str:
        probe = point[2]
        late = f"{probe.violations:,} of {probe.n:,} requests late or failed"
        return (
            f"<b>{title}</b>, {probe.outcome}<br>{format_rate(probe.rate)} planned, "
            f"{format_rate(probe.throughput)} served<br>"
            f"{percentile} {format_duration(probe.latency.get(percentile))}<br>{late}"
        )

    return hover


def _scale_latency(
    figure: go.Figure, row: int, percentile: str, points: Sequence[Point], limit: float | None
) -> None:
    values = [y for _, y, _ in points]
    if not values:
        return
    bound = [] if limit is None else [limit * _MS]
    most = max(values)
    if limit is not None:
        most = min(most, _ABOVE * limit * _MS)
    low, high = min(values + bound), max([most, *bound])
    figure.update_yaxes(
        title_text=f"{percentile} (ms)", row=row, col=1, **style.log_axis(low, high * 1.05)
    )


def _promise(figure: go.Figure, sla: Sla, first: float, last: float) -> None:
    limit = sla.primary.limit * _MS
    figure.add_trace(
        go.Scatter(
            x=[first / 2, last * 1.5],
            y=[limit, limit],
            mode="lines",
            name=str(sla.primary),
            line={"color": style.SLA, "width": 2, "dash": "dash"},
            hoverinfo="skip",
        ),
        1,
        1,
    )


def _rate_axis(figure: go.Figure, rates: Sequence[float], last: int, title: str) -> None:
    """Logarithmic where deployments are far apart."""
    low, high = min(rates), max(rates)
    scale = style.log_axis(low, high) if high / low > _WIDE else {"range": [0, 1.04 * high]}
    figure.update_xaxes(**scale)
    figure.update_xaxes(title_text=title, row=last, col=1)


def host_by_rate(measured: Coloured) -> go.Figure | None:
    """Cores and memory against the rate that was really served."""
    cores = [(e, c, _readings(e, lambda p: p.host.cpu if p.host else None)) for e, c in measured]
    held = [(e, c, _readings(e, lambda p: p.host.memory if p.host else None)) for e, c in measured]
    sizes = [value for *_, points in held for _, value, _ in points]
    rates = [rate for *_, points in (*cores, *held) for rate, _, _ in points]
    if not rates:
        return None
    unit, scale = next((s for s in _SCALES if sizes and max(sizes) >= s[1]), ("B", 1))
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.07)
    for row, groups, by in ((1, cores, 1), (2, held, scale)):
        for each, colour, points in groups:
            scaled = [(x, y / by, p) for x, y, p in points]
            for trace in _curve(scaled, each, colour, row == 1, _host_hover(each)):
                figure.add_trace(trace, row, 1)
    style.layout(figure, height=520)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="cores", row=1, col=1)
    figure.update_yaxes(title_text=f"memory ({unit})", row=2, col=1)
    _rate_axis(figure, rates, 2, "served (requests/s)")
    return figure


def _readings(each: Contender, read: Callable[[ProbeRecord], float | None]) -> list[Point]:
    loaded = [p for p in each.evaluation.probes if p.purpose != "unloaded" and p.throughput]
    known = [(p.throughput or 0.0, value, p) for p in loaded if (value := read(p)) is not None]
    return sorted(known, key=lambda point: point[:2])


def _host_hover(each: Contender) -> Callable[[Point], str]:
    def hover(point: Point) -> str:
        host = point[2].host
        words = [f"<b>{style.label(each.deployed.title)}</b>, {format_rate(point[0])} served"]
        if host is not None and host.cpu is not None:
            words.append(format_cores(host.cpu))
        if host is not None and host.memory is not None:
            words.append(format_size(host.memory))
        return "<br>".join(words)

    return hover


def gpu_by_rate(measured: Coloured) -> go.Figure | None:
    """Utilisation in per cent against the rate that was really served."""
    found = [
        (e, c, _readings(e, lambda p: p.gpu.utilisation if p.gpu else None)) for e, c in measured
    ]
    rates = [rate for *_, points in found for rate, _, _ in points]
    if not rates:
        return None
    figure = make_subplots(1, 1)
    for each, colour, points in found:
        scaled = [(x, 100 * y, p) for x, y, p in points]
        for trace in _curve(scaled, each, colour, True, _gpu_hover(each)):
            figure.add_trace(trace)
    style.layout(figure, height=400)
    figure.update_yaxes(title_text="GPU busy (%)", range=[0, 103])
    _rate_axis(figure, rates, 1, "served (requests/s)")
    return figure


def _gpu_hover(each: Contender) -> Callable[[Point], str]:
    title = style.label(each.deployed.title)
    return lambda point: f"<b>{title}</b><br>{point[1]:.3g} % at {format_rate(point[0])}"
