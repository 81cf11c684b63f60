"""Figures against the rate, of candidates and of deployments: latency, processor, memory, GPU."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.goals.sla import Bound, Sla
from tuner.records.results import ProbeRecord
from tuner.report import style
from tuner.report.series import Series
from tuner.report.wording import list_known
from tuner.units import format_cores, format_duration, format_rate, format_size

_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_OUTCOMES = {"met": "circle", "violated": "x-thin", "inconclusive": "diamond-open"}
_CLIENT_LIMITED, _NO_ANSWER = "square-open", "triangle-up-open"
Point = tuple[float, float, ProbeRecord]
"""Rate in requests/s, what is drawn against it, and the probe that has both."""


@dataclass(frozen=True)
class ScaleSettings:
    """When an axis is logarithmic, and where it ends."""

    wide_rates: float = 12.0
    """Ratio of the largest to the smallest rate: beyond it, the slowest deployment's probes would
    share a centimetre."""
    wide_latencies: float = 20.0
    """Ratio of the largest to the smallest latency, for the same reason."""
    above_bound: float = 10.0
    """Times the SLA's bound: what is above is drawn at the edge, for a queue beyond capacity grows
    as long as one cares to look."""
    same_rate: float = 1.1
    """Ratio within which probes are at the same rate, and a line goes through their median."""
    equal_rate: float = 1.01
    """The same for latencies, which rise steeply near capacity."""


SCALES = ScaleSettings()


def latency_by_rate(
    series: Sequence[Series], sla: Sla | None, also: Sequence[str] = ()
) -> go.Figure | None:
    """The SLA's percentile (or p99) of every probe at a set rate, and a panel for each of ``also``.

    Lines are the rising fits to a series' marks.
    """
    first = sla.primary.name if sla is not None else "p99"
    percentiles = [first, *(name for name in also if name != first)]
    figure = make_subplots(len(percentiles), 1, shared_xaxes=True, vertical_spacing=0.07)
    rates: list[float] = []
    for row, percentile in enumerate(percentiles, 1):
        bound = sla.primary if sla is not None and row == 1 else None
        rates += _latency_panel(figure, row, series, percentile, bound)
    if not rates:
        return None
    if sla is not None:
        start = min(rates) / 2 if _is_wide(rates) else 0.0  # a logarithmic axis has no zero
        figure.add_trace(sla_line(sla.primary, start, max(rates) * 1.5), 1, 1)
    style.layout(figure, height=480 if len(percentiles) == 1 else 520)
    _rate_axis(figure, rates, len(percentiles), "rate (requests/s)")
    return figure


def _latency_panel(
    figure: go.Figure, row: int, series: Sequence[Series], percentile: str, bound: Bound | None
) -> list[float]:
    """Draw one percentile; the rates that were drawn."""
    points = [_latencies(each.probes, percentile) for each in series]
    values = [y for group in points for _, y, _ in group]
    if not values:
        return []
    low, top = _latency_range([y for y in values if math.isfinite(y)], bound)
    for each, group in zip(series, points, strict=True):
        marks = [(x, min(y, top), p) for x, y, p in group]
        symbols = [_symbol(p, percentile) for *_, p in marks]
        sound = [mark for mark in marks if not mark[2].client_limited]
        hover = _latency_hover(each.name, percentile)
        figure.add_traces(
            list(_curve(each, marks, symbols, rising(sound), hover, row == 1)), row, 1
        )
    if row == 1:
        figure.add_traces(
            _marker_key({_symbol(p, percentile) for g in points for *_, p in g}), 1, 1
        )
    is_wide = top / low > SCALES.wide_latencies
    scale = style.log_axis(low, top * 1.05) if is_wide else {"rangemode": "tozero"}
    figure.update_yaxes(title_text=f"{percentile} latency (ms)", row=row, col=1, **scale)
    return [x for group in points for x, *_ in group]


def _latency_range(finite: Sequence[float], bound: Bound | None) -> tuple[float, float]:
    """In ms; an infinite latency is drawn at the upper end."""
    limit = [] if bound is None else [bound.limit * style.MS]
    low, high = min([*finite, *limit], default=1.0), max([*finite, *limit], default=1.0)
    if bound is not None:
        high = min(1.5 * high, SCALES.above_bound * bound.limit * style.MS)
    return low, max(low, high)


def _latencies(probes: Iterable[ProbeRecord], percentile: str) -> list[Point]:
    """In ms, by rate; infinite where failed requests reach the percentile."""
    known = [(p.rate, p.latency.get(percentile), p) for p in probes]
    points = [(rate, y * style.MS, p) for rate, y, p in known if rate is not None and y]
    return sorted(points, key=lambda point: point[:2])


def _symbol(probe: ProbeRecord, percentile: str) -> str:
    if probe.client_limited:
        return _CLIENT_LIMITED
    return _NO_ANSWER if probe.latency.get(percentile) == math.inf else _OUTCOMES[probe.outcome]


def _marker_key(symbols: set[str]) -> list[go.Scatter]:
    """Legend entries that explain the symbols, in grey since they hold for every color."""
    names = {symbol: outcome for outcome, symbol in _OUTCOMES.items()}
    names |= {_CLIENT_LIMITED: "client-limited", _NO_ANSWER: "no reply (above the scale)"}
    grey = {"color": style.OTHERS, "size": 9, "line": {"width": 2, "color": style.OTHERS}}
    return [
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            marker={"symbol": symbol, **grey},
            hoverinfo="skip",
        )
        for symbol, name in names.items()
        if symbol in symbols
    ]


def _latency_hover(name: str, percentile: str) -> Callable[[Point], str]:
    def hover(point: Point) -> str:
        probe = point[2]
        outcome = "client-limited" if probe.client_limited else probe.outcome
        return (
            f"<b>{name}</b>, {outcome}<br>{format_rate(probe.rate)} planned, "
            f"{format_rate(probe.throughput)} served<br>"
            f"{percentile} {format_duration(probe.latency.get(percentile))}<br>"
            f"{probe.violations:,} of {probe.n:,} requests late or failed"
        )

    return hover


def sla_line(bound: Bound, first: float, last: float) -> go.Scatter:
    """The bound's limit in ms, from one rate to another."""
    return go.Scatter(
        x=[first, last],
        y=[bound.limit * style.MS, bound.limit * style.MS],
        mode="lines",
        name=str(bound),
        line={"color": style.SLA, "width": 2, "dash": "dash"},
        hoverinfo="skip",
    )


def rising(points: Sequence[Point]) -> list[tuple[float, float]]:
    """In order of the rate, through the medians at each rate, as far as they rise: the best fit
    that never falls, by the squares of logarithms. What falls is the machine's restlessness.
    """
    medians = _medians(points, SCALES.equal_rate)
    logs = pooled_rising([math.log(y) for _, y in medians])
    return [(x, math.exp(log)) for (x, _), log in zip(medians, logs, strict=True)]


def pooled_rising(values: Sequence[float]) -> list[float]:
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


def _medians(
    points: Sequence[Point], same_rate: float = SCALES.same_rate
) -> list[tuple[float, float]]:
    """Of the points, by rate, whose rates differ by less than this ratio."""
    groups: list[list[Point]] = []
    for point in points:
        if groups and point[0] <= same_rate * groups[-1][0][0]:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [
        (float(np.median([x for x, *_ in group])), float(np.median([y for _, y, _ in group])))
        for group in groups
    ]


def _curve(
    series: Series,
    points: Sequence[Point],
    symbols: Sequence[str],
    line: Sequence[tuple[float, float]],
    hover: Callable[[Point], str],
    legend: bool,
) -> Iterator[go.Scatter]:
    """The marks of a series, and unless it is a crowd a line through them."""
    if not points:
        return
    has_line = bool(line) and not series.is_crowd
    yield go.Scatter(
        x=[x for x, *_ in points],
        y=[y for _, y, _ in points],
        mode="markers",
        name=series.name,
        legendgroup=series.name,
        showlegend=legend and not has_line,
        opacity=0.55 if series.is_crowd else 1.0,
        marker={
            "color": series.color,
            "size": 5 if series.is_crowd else 8,
            "symbol": list(symbols),
            "line": {"width": 1.5, "color": series.color},
        },
        customdata=[hover(point) for point in points],
        hovertemplate="%{customdata}<extra></extra>",
    )
    if has_line:
        yield go.Scatter(
            x=[x for x, _ in line],
            y=[y for _, y in line],
            mode="lines",
            name=series.name,
            legendgroup=series.name,
            showlegend=legend,
            line={"color": series.color, "width": 2},
            hoverinfo="skip",
        )


def _is_wide(rates: Sequence[float]) -> bool:
    return 0 < SCALES.wide_rates * min(rates) < max(rates)


def _rate_axis(figure: go.Figure, rates: Sequence[float], last: int, title: str) -> None:
    """Logarithmic where rates are far apart."""
    low, high = min(rates), max(rates)
    scale = style.log_axis(low, high) if _is_wide(rates) else {"range": [0, 1.04 * high]}
    figure.update_xaxes(**scale)
    figure.update_xaxes(title_text=title, row=last, col=1)


def host_by_rate(series: Sequence[Series]) -> go.Figure | None:
    """Mean cores and peak memory against the rate that was really served."""
    cores = [_readings(each, lambda p: p.host.cpu if p.host else None) for each in series]
    memory = [_readings(each, lambda p: p.host.memory if p.host else None) for each in series]
    rates = [rate for group in (*cores, *memory) for rate, *_ in group]
    if not rates:
        return None
    most = max((held for group in memory for _, held, _ in group), default=0.0)
    unit, scale = next((u for u in _UNITS if most >= u[1]), ("B", 1))
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for row, groups, by in ((1, cores, 1), (2, memory, scale)):
        for each, group in zip(series, groups, strict=True):
            scaled = [(x, y / by, p) for x, y, p in group]
            symbols = ["circle"] * len(scaled)
            curve = _curve(
                each, scaled, symbols, _medians(scaled), _host_hover(each.name), row == 1
            )
            figure.add_traces(list(curve), row, 1)
    style.layout(figure, height=500)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="cores", row=1, col=1)
    figure.update_yaxes(title_text=f"memory ({unit})", row=2, col=1)
    _rate_axis(figure, rates, 2, "served (requests/s)")
    return figure


def _readings(series: Series, read: Callable[[ProbeRecord], float | None]) -> list[Point]:
    loaded = [p for p in series.probes if p.purpose != "unloaded" and p.throughput]
    known = [(p.throughput or 0.0, value, p) for p in loaded if (value := read(p)) is not None]
    return sorted(known, key=lambda point: point[:2])


def _host_hover(name: str) -> Callable[[Point], str]:
    def hover(point: Point) -> str:
        lines = [f"<b>{name}</b>, {format_rate(point[0])} served"]
        host = point[2].host
        if host is not None and host.cpu is not None:
            lines.append(f"server {format_cores(host.cpu)}")
        if host is not None and host.memory is not None:
            lines.append(format_size(host.memory))
        if host is not None and host.client_cores is not None:
            lines.append(f"client {format_cores(host.client_cores)}")
        return "<br>".join(lines)

    return hover


def gpu_by_rate(series: Sequence[Series]) -> go.Figure | None:
    """Utilization against the rate that was really served; crosses where the GPU throttled."""
    groups = [_readings(each, lambda p: p.gpu.utilisation if p.gpu else None) for each in series]
    rates = [rate for group in groups for rate, *_ in group]
    if not rates:
        return None
    figure = make_subplots(1, 1)
    for each, group in zip(series, groups, strict=True):
        points = [(x, 100 * y, p) for x, y, p in group]
        symbols = ["x" if p.gpu and p.gpu.throttled else "circle" for *_, p in points]
        curve = _curve(each, points, symbols, _medians(points), _gpu_hover(each.name), True)
        figure.add_traces(list(curve))
    style.layout(figure, height=400)
    figure.update_yaxes(title_text="GPU utilization (%)", range=[0, 104])
    _rate_axis(figure, rates, 1, "served (requests/s)")
    return figure


def _gpu_hover(name: str) -> Callable[[Point], str]:
    def hover(point: Point) -> str:
        rate, busy, probe = point
        gpu = probe.gpu
        assert gpu is not None
        rest = list_known(
            f"{busy:.0f} % busy",
            None if gpu.memory is None else format_size(gpu.memory),
            None if gpu.power is None else f"{gpu.power:.0f} W",
            None if gpu.clock is None else f"{gpu.clock:.0f} MHz",
            None if gpu.temperature is None else f"{gpu.temperature:.0f} °C",
            f"throttled ({', '.join(gpu.throttled)})" if gpu.throttled else None,
        )
        return f"<b>{name}</b>, {format_rate(rate)} served<br>{rest}"

    return hover
