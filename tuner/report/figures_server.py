"""Figures of what happens inside the server: batches, GPU."""

from collections.abc import Iterable

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuner.records.results import Evaluation, GpuReading, ProbeRecord
from tuner.report import style
from tuner.report.story import Subject, probes_of, same, subjects
from tuner.units import format_size


def batch_sizes(evaluations: list[Evaluation]) -> go.Figure | None:
    """How large the batches at capacity were: share of executions, and of what they carried."""
    found = [(s, p.server.batches) for s, p in _at_capacity(evaluations) if p.server]
    found = [(subject, batches) for subject, batches in found if sum(batches.values())]
    if not found:
        return None
    sizes = sorted({size for _, batches in found for size in batches})
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for subject, batches in found:
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


def _shares(sizes: list[int], counts: list[int], subject: Subject, legend: bool) -> go.Bar:
    total = sum(counts)
    return go.Bar(
        x=[str(size) for size in sizes],
        y=[100 * count / total for count in counts],
        name=style.label(subject.label),
        legendgroup=subject.name,
        showlegend=legend,
        marker={"color": subject.colour},
        hovertemplate="batches of %{x}: %{y:.1f} %<extra></extra>",
    )


def gpu_utilisation(evaluations: list[Evaluation]) -> go.Figure | None:
    """How busy the GPUs were against the rate that was really served."""
    chosen = subjects(evaluations)
    others = [e for e in evaluations if not any(same(e, s.evaluation) for s in chosen)]
    groups = [("other candidates", style.OTHERS, [p for e in others for p in e.probes])]
    groups += [(s.name, s.colour, probes_of(evaluations, s.evaluation)) for s in chosen]
    figure = go.Figure()
    for name, colour, probes in groups:
        points = sorted(_utilisations(probes), key=lambda point: point[:2])
        if points:
            figure.add_trace(_utilisation_line(points, name, colour))
    if not figure.data:
        return None
    style.layout(figure, height=380)
    figure.update_xaxes(title_text="served (requests/s)", rangemode="tozero")
    figure.update_yaxes(title_text="GPU utilisation (%)", range=[0, 104])
    return figure


def _utilisations(probes: Iterable[ProbeRecord]) -> list[tuple[float, float, GpuReading]]:
    return [
        (p.throughput, 100 * p.gpu.utilisation, p.gpu)
        for p in probes
        if p.gpu is not None and p.gpu.utilisation is not None and p.throughput is not None
    ]


def _utilisation_line(
    points: list[tuple[float, float, GpuReading]], name: str, colour: str
) -> go.Scatter:
    """Crosses where the GPU throttled, dots elsewhere."""
    many = name == "other candidates"
    return go.Scatter(
        x=[rate for rate, _, _ in points],
        y=[share for _, share, _ in points],
        customdata=[_rest(gpu) for _, _, gpu in points],
        mode="markers" if many else "lines+markers",
        name=name,
        opacity=0.55 if many else 1.0,
        line={"color": colour, "width": 1.2, "dash": "dot"},
        marker={
            "color": colour,
            "size": 6 if many else 9,
            "symbol": ["x" if gpu.throttled else "circle" for _, _, gpu in points],
        },
        hovertemplate="%{y:.0f} % at %{x:.4g}/s%{customdata}",
    )


def _rest(gpu: GpuReading) -> str:
    """What else is known, to be read where the pointer is."""
    words = (
        None if gpu.memory is None else format_size(gpu.memory),
        None if gpu.power is None else f"{gpu.power:.0f} W",
        None if gpu.clock is None else f"{gpu.clock:.0f} MHz",
        None if gpu.temperature is None else f"{gpu.temperature:.0f} °C",
        f"throttled ({', '.join(gpu.throttled)})" if gpu.throttled else None,
    )
    return "".join(f", {word}" for word in words if word)


def _at_capacity(evaluations: list[Evaluation]) -> list[tuple[Subject, ProbeRecord]]:
    pairs = [(s, s.evaluation.at_capacity()) for s in subjects(evaluations)]
    return [(subject, probe) for subject, probe in pairs if probe is not None]
