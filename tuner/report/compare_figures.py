"""All figures of a comparison, in reading order: one colour per deployment, the same in all."""

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
        "The simplest deployment that keeps the promise, by the rate that it has to serve. The "
        "thin lines are the intervals of 95 % of the capacities, from which bands keep a "
        "margin.",
        lambda findings, shown: bands_of_rates(findings.recommendation.answers, shown),
        "No deployment keeps the promise at any rate that was tried.",
    ),
    _Figure(
        "capacities",
        "Capacity of every deployment",
        "The highest rate that keeps the promise, with the interval of 95 %. The upright line "
        "is the rate to operate at.",
        lambda _, shown: capacities(shown),
        "Nothing was measured.",
    ),
    _Figure(
        "latency-by-rate",
        "Latency against rate",
        "Each mark is a probe: a cross where it broke the promise, open where it left it open. "
        "Lines are the rising ones that come nearest to the marks; where the upper ones cross "
        "the red line, the promise breaks. Click a name in the legend to hide or show it.",
        lambda findings, shown: latency_by_rate(_series(shown), findings.sla, also=("p50",)),
        "No deployment was probed at a set rate.",
    ),
    _Figure(
        "stages",
        "Where the time goes",
        "The mean latency and its parts, as services and Triton counted them. All but the "
        'green is overhead. "Rest" is what nobody counted: network, HTTP server, client; for '
        "Triton alone also its front end, for what it counts begins with the queue.",
        lambda _, shown: stages_by_deployment(shown),
        "No deployment counted its parts.",
    ),
    _Figure(
        "host",
        "Processor and memory against rate",
        "Cores are the mean over each probe, memory is the most that was seen in it; those of "
        "a service and of the Triton behind it together. Lines go through medians.",
        lambda _, shown: host_by_rate(_series(shown)),
        "The processes of servers that tuner did not start cannot be seen.",
    ),
    _Figure(
        "gpu",
        "GPU utilisation against rate",
        "The share of the time in which the GPU computed, the mean over each probe. What "
        "serves more at the same utilisation uses the GPU better.",
        lambda _, shown: gpu_by_rate(_series(shown)),
        "The GPU does not tell how busy it is.",
    ),
    _Figure(
        "swaps",
        "What clients feel while the model is replaced",
        "From the usual p99 (open) to the slowest answer during the swap (filled). Requests "
        "that were lost, and how long it took until every answer came from the new model, "
        "stand beside.",
        lambda _, shown: swaps_of_model(shown),
        "No model was replaced while it served.",
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
