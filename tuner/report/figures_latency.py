"""Figures of latency: against the rate, and its distribution at capacity."""

from collections.abc import Iterable, Mapping
from math import isfinite, isinf

import numpy as np
import plotly.graph_objects as go

from tuner.goals.sla import Bound, Sla
from tuner.records.results import Evaluation, ProbeRecord
from tuner.report import style
from tuner.report.story import Subject, probes_of, raw_at_capacity, same, subjects
from tuner.stats.samples import Floats, Samples
from tuner.units import format_duration, format_rate

_MS = 1000.0
_OUTCOMES = {"met": "circle", "violated": "x-thin", "inconclusive": "diamond-open"}
_CLIENT_LIMITED = "square-open"
_NO_ANSWER = "triangle-up-open"
_FASTEST = 1e-6
_WIDE = 20
"""From this ratio of the largest to the smallest latency on, the axis is logarithmic."""


def latency_by_rate(evaluations: list[Evaluation], sla: Sla) -> go.Figure | None:
    """The Sla's percentile of every probe that had a rate, against that rate."""
    percentile, chosen = sla.primary.name, subjects(evaluations)
    figure = go.Figure()
    others = [e for e in evaluations if not any(same(e, s.evaluation) for s in chosen)]
    groups = [("other candidates", style.OTHERS, [p for e in others for p in e.probes])]
    groups += [(s.name, s.colour, probes_of(evaluations, s.evaluation)) for s in chosen]
    points = [(name, colour, _at_rates(probes, percentile)) for name, colour, probes in groups]
    values = [p.latency[percentile] or 0.0 for _, _, probes in points for p in probes]
    finite = [value for value in values if isfinite(value) and value > 0]
    if not values:
        return None
    low, high = min([*finite, sla.primary.limit]), max([*finite, sla.primary.limit])
    top = high * 1.5 if any(map(isinf, values)) else high
    for name, colour, probes in points:
        if probes:
            figure.add_trace(_rate_points(probes, name, colour, percentile, top))
    rates = [p.rate or 0.0 for _, _, probes in points for p in probes]
    figure.add_trace(_bound_line(sla, max(rates)))
    seen = {_symbol(p, percentile) for _, _, probes in points for p in probes}
    for trace in _marker_key(seen):
        figure.add_trace(trace)
    style.layout(figure, height=480)
    figure.update_xaxes(title_text="rate (requests/s)", rangemode="tozero")
    scale = style.log_axis(low * _MS, top * _MS) if high / low > _WIDE else {"rangemode": "tozero"}
    figure.update_yaxes(title_text=f"{percentile} latency (ms)", **scale)
    return figure


def _at_rates(probes: Iterable[ProbeRecord], percentile: str) -> list[ProbeRecord]:
    with_data = [p for p in probes if p.rate is not None and p.latency.get(percentile) is not None]
    return sorted(with_data, key=lambda p: p.rate or 0.0)


def _rate_points(
    probes: list[ProbeRecord], name: str, colour: str, percentile: str, top: float
) -> go.Scatter:
    many = name == "other candidates"
    values = [p.latency[percentile] or 0.0 for p in probes]
    return go.Scatter(
        x=[p.rate for p in probes],
        y=[min(value, top) * _MS for value in values],
        mode="markers" if many else "lines+markers",
        name=name,
        opacity=0.55 if many else 1.0,
        line={"color": colour, "width": 1.2, "dash": "dot"},
        marker={
            "color": colour,
            "size": 5 if many else 9,
            "symbol": [_symbol(p, percentile) for p in probes],
            "line": {"width": 2, "color": colour},
        },
        customdata=[_probe_hover(p, name, percentile) for p in probes],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _symbol(probe: ProbeRecord, percentile: str) -> str:
    if probe.client_limited:
        return _CLIENT_LIMITED
    value = probe.latency.get(percentile)
    if value is not None and isinf(value):
        return _NO_ANSWER
    return _OUTCOMES[probe.outcome]


def _probe_hover(probe: ProbeRecord, name: str, percentile: str) -> str:
    words = "client-limited" if probe.client_limited else probe.outcome
    return (
        f"<b>{name}</b>, {words}<br>{format_rate(probe.rate)} planned, "
        f"{format_rate(probe.throughput)} served<br>"
        f"{percentile} {format_duration(probe.latency[percentile])}<br>"
        f"{probe.violations} of {probe.n} requests late or failed"
    )


def _bound_line(sla: Sla, end: float) -> go.Scatter:
    limit = sla.primary.limit * _MS
    return go.Scatter(
        x=[0, end * 1.02],
        y=[limit, limit],
        mode="lines",
        name=str(sla.primary),
        line={"color": style.SLA, "width": 2, "dash": "dash"},
        hoverinfo="skip",
    )


def _marker_key(seen: set[str]) -> list[go.Scatter]:
    """Legend entries that explain the symbols, in grey since they hold for every colour."""
    names = {symbol: outcome for outcome, symbol in _OUTCOMES.items()}
    names |= {_CLIENT_LIMITED: "client-limited", _NO_ANSWER: "no answer (above the scale)"}
    return [
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            marker={
                "symbol": symbol,
                "color": style.OTHERS,
                "size": 9,
                "line": {"width": 2, "color": style.OTHERS},
            },
            hoverinfo="skip",
        )
        for symbol, name in names.items()
        if symbol in seen
    ]


def latency_distribution(
    evaluations: list[Evaluation], sla: Sla, samples: Mapping[str, Samples]
) -> go.Figure | None:
    """The share of requests slower than x at capacity, both axes logarithmic.

    ``samples`` are by the name that the probe's record gives them.
    """
    drawn = []
    for subject in subjects(evaluations):
        raw = raw_at_capacity(subject.evaluation, samples)
        if raw is not None and raw.ok.any():
            drawn.append((subject, *slower_than(raw.latency)))
    if not drawn:
        return None
    figure = go.Figure([_tail(subject, x, y) for subject, x, y in drawn])
    bounds = [bound for bound in sla.bounds if not bound.on_errors]
    limits = [bound.limit for bound in bounds]
    fastest = max(min(*limits, *(float(x[0]) for _, x, _ in drawn)), _FASTEST)
    end = 1.3 * max(*limits, *(float(x[-1]) for _, x, _ in drawn))
    least = min(float(y.min()) for _, _, y in drawn)
    for bound in bounds:
        figure.add_trace(_corner(bound, end))
    style.layout(figure, height=440)
    figure.update_xaxes(title_text="latency (ms)", **style.log_axis(fastest * _MS, end * _MS))
    bottom = min(least, min(bound.budget for bound in bounds) / 3)
    decades = [10.0**power for power in range(-6, 3)]
    figure.update_yaxes(
        title_text="requests slower than that (%)",
        type="log",
        range=[float(np.log10(100 * bottom)) - 0.1, 2.1],
        tickvals=decades,
        ticktext=[f"{decade:.6f}".rstrip("0").rstrip(".") for decade in decades],
    )
    return figure


def _tail(subject: Subject, x: Floats, share: Floats) -> go.Scatter:
    return go.Scatter(
        x=(x * _MS).tolist(),
        y=(100 * share).tolist(),
        mode="lines",
        name=style.label(subject.label),
        line={"color": subject.colour, "width": 2.5, "shape": "hv"},
        hovertemplate="%{y:.3g} % slower than %{x:.3g} ms",
    )


def slower_than(latency: Floats, most: int = 500) -> tuple[Floats, Floats]:
    """Points (x, share of requests slower than x), finite x only, dense in the tail.

    Failed requests are infinitely slow: the curve ends at their share. The slowest request would
    be at share 0, which a logarithmic axis lacks, so it is drawn down to half a request.
    """
    ordered = np.sort(latency)
    n, finite = len(ordered), int(np.count_nonzero(np.isfinite(ordered)))
    behind = np.unique(np.geomspace(1, n, most).astype(int)) - 1
    ranks = np.unique(np.concatenate((n - 1 - behind, [finite - 1])))
    ranks = ranks[ranks < finite]
    share = np.maximum((n - 1 - ranks) / n, 0.5 / n)
    return ordered[ranks], share


def _corner(bound: Bound, end: float) -> go.Scatter:
    """The region that the promise forbids has this corner: up from it, and right of it."""
    return go.Scatter(
        x=[bound.limit * _MS, bound.limit * _MS, end * _MS],
        y=[100, 100 * bound.budget, 100 * bound.budget],
        mode="lines",
        name=str(bound),
        line={"color": style.SLA, "width": 2, "dash": "dash"},
        hoverinfo="skip",
    )
