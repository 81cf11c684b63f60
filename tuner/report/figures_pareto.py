"""Figures of what is had for what: the Pareto fronts of rate and latency, capacity and memory."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import plotly.graph_objects as go

from tuner.analysis.search_findings import subjects
from tuner.goals.sla import Sla
from tuner.records.results import Evaluation, ProbeRecord
from tuner.report import style
from tuner.report.figures_by_rate import sla_line
from tuner.report.series import by_role
from tuner.units import format_duration, format_rate, format_size

_GIB = 2.0**30
_OPACITY = 0.45
"""Of what another beats: behind the front, still readable."""


@dataclass(frozen=True)
class OfferSettings:
    """Which probes offer a rate at a latency."""

    requests: int = 100
    """Fewer say nothing of a p99."""
    served: float = 0.95
    """Share of the planned rate: a server that serves less is falling behind, and its latency is
    that of the moment at which the probe ended."""


OFFERS = OfferSettings()


@dataclass(frozen=True)
class Offer:
    """So much throughput (requests/s) of a candidate, at a price that is better small."""

    evaluation: Evaluation
    rate: float
    price: float


def front(offers: list[Offer]) -> list[Offer]:
    """Those that no other beats in both, by rising price and rate; of equals the first."""
    unbeaten: list[Offer] = []
    for offer in sorted(offers, key=lambda o: (o.price, -o.rate)):
        if not unbeaten or offer.rate > unbeaten[-1].rate:
            unbeaten.append(offer)
    return unbeaten


def latency_frontier(evaluations: list[Evaluation], sla: Sla) -> go.Figure | None:
    """Rate against the Sla's percentile, one mark a probe, with the front of all candidates."""
    name = sla.primary.name
    offers = [
        Offer(evaluation, probe.rate or probe.throughput or 0.0, probe.latency[name] or 0.0)
        for evaluation in evaluations
        for probe in evaluation.probes
        if _tells(probe, name)
    ]
    if len({o.evaluation.candidate for o in offers}) < 2:
        return None
    figure = _figure(
        offers,
        evaluations,
        style.MS,
        lambda o: f"{name} {format_duration(o.price)} at {format_rate(o.rate)}",
    )
    prices = [o.price * style.MS for o in offers]
    limit = sla.primary.limit * style.MS
    figure.add_trace(sla_line(sla.primary, 0, max(o.rate for o in offers)))
    style.layout(figure, height=480)
    figure.update_xaxes(title_text="rate (requests/s)", rangemode="tozero")
    axis = style.log_axis(min([*prices, limit]), max([*prices, limit]))
    figure.update_yaxes(title_text=f"{name} latency (ms)", **axis)
    return figure


def _tells(probe: ProbeRecord, name: str) -> bool:
    """Whether the server kept up with enough requests for its percentile to mean something."""
    latency, rate = probe.latency.get(name), probe.rate or probe.throughput
    if latency is None or not isfinite(latency) or latency <= 0 or not rate:
        return False
    keeps_up = (probe.throughput or 0.0) >= OFFERS.served * rate
    return keeps_up and probe.n >= OFFERS.requests and not probe.client_limited


def memory_frontier(evaluations: list[Evaluation]) -> go.Figure | None:
    """Capacity against the most memory that was held: the GPU's or, where unknown, the host's."""
    measured = [e for e in evaluations if e.capacity is not None]
    on_gpu = any(_gpu_memory(e) for e in measured)
    read = _gpu_memory if on_gpu else _host_memory
    offers = [Offer(e, e.capacity or 0.0, memory) for e in measured if (memory := read(e))]
    if len({o.evaluation.candidate for o in offers}) < 2:
        return None
    figure = _figure(
        offers,
        evaluations,
        1 / _GIB,
        lambda o: f"{format_rate(o.rate)} in {format_size(round(o.price))}",
    )
    style.layout(figure, height=420)
    figure.update_xaxes(title_text="capacity (requests/s)", rangemode="tozero")
    figure.update_yaxes(
        title_text=f"{'GPU memory' if on_gpu else 'memory of the server'} (GiB)",
        rangemode="tozero",
    )
    return figure


def _gpu_memory(evaluation: Evaluation) -> float:
    return max((p.gpu.memory or 0 for p in evaluation.probes if p.gpu is not None), default=0)


def _host_memory(evaluation: Evaluation) -> float:
    return max((p.host.memory or 0 for p in evaluation.probes if p.host is not None), default=0)


def _figure(
    offers: list[Offer],
    evaluations: list[Evaluation],
    scale: float,
    describe: Callable[[Offer], str],
) -> go.Figure:
    figure = go.Figure()
    best = front(offers)
    figure.add_trace(
        go.Scatter(
            x=[o.rate for o in best],
            y=[o.price * scale for o in best],
            mode="lines",
            name="Pareto front",
            line={"color": style.WINNER, "width": 1.5, "dash": "dot", "shape": "vh"},
            hoverinfo="skip",
        )
    )
    for name, color, group in by_role(evaluations, subjects(evaluations)):
        own = [o for o in offers if any(o.evaluation is each for each in group)]
        if own:
            figure.add_trace(_marks(own, best, name, color, scale, describe))
    return figure


def _marks(
    group: list[Offer],
    best: list[Offer],
    name: str,
    color: str,
    scale: float,
    describe: Callable[[Offer], str],
) -> go.Scatter:
    ahead = [any(o is each for each in best) for o in group]
    return go.Scatter(
        x=[o.rate for o in group],
        y=[o.price * scale for o in group],
        mode="markers",
        name=name,
        marker={
            "color": color,
            "size": [11 if each else 6 for each in ahead],
            "opacity": [1.0 if each else _OPACITY for each in ahead],
        },
        customdata=[f"<b>{style.label(o.evaluation.label)}</b><br>{describe(o)}" for o in group],
        hovertemplate="%{customdata}<extra></extra>",
    )
