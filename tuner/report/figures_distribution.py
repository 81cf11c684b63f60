"""Distributions: of latencies at capacity, and of the batches that formed there."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.analysis.search_findings import ComparedCandidate, subjects
from tuner.goals.sla import Bound, Sla
from tuner.records.results import Evaluation
from tuner.report import style
from tuner.report.series import color_of, label_of
from tuner.stats.samples import Floats, Samples

_FASTEST = 1e-6
"""Seconds: where the axis begins at the latest, since a logarithm has no zero."""
_POINTS = 500
"""Per curve: as many as a wide screen has room for, and a few kB."""


def latency_distribution(
    evaluations: list[Evaluation], sla: Sla, samples: Mapping[str, Samples]
) -> go.Figure | None:
    """The share of requests slower than x at capacity, both axes logarithmic.

    ``samples`` are by the name that the probe's record gives them. Of several models, the requests
    to that of the primary bound.
    """
    model, drawn = sla.primary.model, []
    for subject in subjects(evaluations):
        probe = subject.evaluation.at_capacity()
        raw = samples.get(probe.samples) if probe is not None and probe.samples else None
        if raw is not None and model:
            raw = raw.of(model) if model in raw.models else None
        if raw is not None and raw.ok.any():
            drawn.append((subject, *slower_than(raw.latency)))
    if not drawn:
        return None
    figure = go.Figure([_tail(subject, x, y) for subject, x, y in drawn])
    bounds = [bound for bound in sla.bounds if not bound.on_errors and bound.model == model]
    limits = [bound.limit for bound in bounds]
    fastest = max(min(*limits, *(float(x[0]) for _, x, _ in drawn)), _FASTEST)
    end = 1.3 * max(*limits, *(float(x[-1]) for _, x, _ in drawn))
    least = min(float(y.min()) for _, _, y in drawn)
    for bound in bounds:
        figure.add_trace(_corner(bound, end))
    style.layout(figure, height=440)
    figure.update_xaxes(
        title_text="latency (ms)", **style.log_axis(fastest * style.MS, end * style.MS)
    )
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


def _tail(subject: ComparedCandidate, x: Floats, share: Floats) -> go.Scatter:
    return go.Scatter(
        x=(x * style.MS).tolist(),
        y=(100 * share).tolist(),
        mode="lines",
        name=label_of(subject),
        line={"color": color_of(subject), "width": 2.5, "shape": "hv"},
        hovertemplate="%{y:.3g} % slower than %{x:.3g} ms",
    )


def slower_than(latency: Floats, most: int = _POINTS) -> tuple[Floats, Floats]:
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
    """The region that the SLA forbids has this corner: up from it, and right of it."""
    return go.Scatter(
        x=[bound.limit * style.MS, bound.limit * style.MS, end * style.MS],
        y=[100, 100 * bound.budget, 100 * bound.budget],
        mode="lines",
        name=str(bound),
        line={"color": style.SLA, "width": 2, "dash": "dash"},
        hoverinfo="skip",
    )


def batch_sizes(evaluations: list[Evaluation]) -> go.Figure | None:
    """How large the batches at capacity were: share of executions, and of what they carried."""
    probes = [(s, s.evaluation.at_capacity()) for s in subjects(evaluations)]
    counted = [(s, p.server.batches) for s, p in probes if p is not None and p.server]
    counted = [(subject, batches) for subject, batches in counted if sum(batches.values())]
    if not counted:
        return None
    sizes = sorted({size for _, batches in counted for size in batches})
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for subject, batches in counted:
        executions = [batches.get(size, 0) for size in sizes]
        requests = [size * count for size, count in zip(sizes, executions, strict=True)]
        for row, counts in ((1, executions), (2, requests)):
            figure.add_trace(_shares(sizes, counts, subject, legend=row == 1), row, 1)
    style.layout(figure, height=460, barmode="group", bargap=0.25)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_xaxes(title_text="batch size", row=2, col=1)
    figure.update_yaxes(title_text="executions (%)", row=1, col=1)
    figure.update_yaxes(title_text="requests (%)", row=2, col=1)
    return figure


def _shares(
    sizes: list[int], counts: list[int], subject: ComparedCandidate, legend: bool
) -> go.Bar:
    total = sum(counts)
    return go.Bar(
        x=[str(size) for size in sizes],
        y=[100 * count / total for count in counts],
        name=label_of(subject),
        legendgroup=subject.role,
        showlegend=legend,
        marker={"color": color_of(subject)},
        hovertemplate="batches of %{x}: %{y:.1f} %<extra></extra>",
    )
