"""All figures of a comparison, in reading order: one color per deployment, the same in all."""

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.report.drawing import Drawing
from tuner.report.figures_breakdown import stages_by_deployment
from tuner.report.figures_by_rate import gpu_by_rate, host_by_rate, latency_by_rate
from tuner.report.figures_deployments import bands_of_rates, capacities, swaps_of_model
from tuner.report.series import Series, ShownDeployment, deployments

Draw = Callable[[ComparisonFindings, list[ShownDeployment]], go.Figure | None]


@dataclass(frozen=True)
class _Figure:
    """A ``Drawing`` before it is drawn."""

    name: str
    title: str
    reading: str
    draw: Draw
    missing: str


def _series(shown: list[ShownDeployment]) -> list[Series]:
    return [each.series for each in shown]


_FIGURES = (
    _Figure(
        "bands",
        "Which deployment at which rate",
        "The simplest deployment that meets the SLA at each rate. Thin lines: 95 % intervals of "
        "the capacities. Bands end at the recommended rate, below the capacity.",
        lambda findings, shown: bands_of_rates(findings.recommendation.answers, shown),
        "No deployment meets the SLA at any probed rate.",
    ),
    _Figure(
        "capacities",
        "Capacity of every deployment",
        "Bar: the highest rate that meets the SLA. Thin line: its 95 % interval. Upright line: "
        "the recommended rate.",
        lambda _, shown: capacities(shown),
        "No deployment has a capacity.",
    ),
    _Figure(
        "latency-by-rate",
        "Latency against rate",
        "Mark: one probe; a cross violated the SLA, an open mark is inconclusive. Line: the rising "
        "fit, in order of rate. In the top panel, the SLA is violated above the red line. Click a "
        "name in the legend to hide or show it.",
        lambda findings, shown: latency_by_rate(_series(shown), findings.sla, also=("p50",)),
        "No deployment was probed at a fixed rate.",
    ),
    _Figure(
        "stages",
        "Where the time goes",
        "Mean latency by stage, as services and Triton counted it. All but green is overhead. "
        '"Rest" is what neither counts: network, HTTP server and client; for Triton alone also '
        "its front end.",
        lambda _, shown: stages_by_deployment(shown),
        "No deployment reported stage times.",
    ),
    _Figure(
        "host",
        "CPU and memory against rate",
        "Mean cores and peak memory of each probe, of a service and the Triton behind it together. "
        "Lines connect medians.",
        lambda _, shown: host_by_rate(_series(shown)),
        "tuner did not start the servers, so it cannot see their processes.",
    ),
    _Figure(
        "gpu",
        "GPU utilization against rate",
        "Mean share of the time in which the GPU was busy, of each probe. More requests at the "
        "same utilization is better.",
        lambda _, shown: gpu_by_rate(_series(shown)),
        "The GPU does not report its utilization.",
    ),
    _Figure(
        "swaps",
        "Latency while the model is replaced",
        "Open mark: the usual p99. Filled mark: the slowest reply during the swap. Left: the "
        "time until all replies came from the new model, and the lost requests.",
        lambda _, shown: swaps_of_model(shown),
        "No model was swapped under load.",
    ),
)
NAMES = tuple(figure.name for figure in _FIGURES)


def drawings(findings: ComparisonFindings) -> list[Drawing]:
    """Every figure; what the machine does not have is left out."""
    shown = deployments(findings.comparison, findings.evaluations)
    drawn = [
        Drawing(each.name, each.title, each.reading, each.draw(findings, shown), each.missing)
        for each in _FIGURES
    ]
    has_gpu = findings.comparison.gpu is not None
    return [d for d in drawn if d.name != "gpu" or has_gpu or d.figure is not None]
