"""All figures of a search, in reading order, each with the sentence that says how to read it.

Capacities are in requests/s, latencies in ms. Baseline, winner and SLA have the same colour in
every figure; all other candidates are grey.
"""

from collections.abc import Mapping

from tuner.analysis.breakdown import hides_compute
from tuner.analysis.search_findings import subjects
from tuner.goals.sla import Sla
from tuner.records.costs import objective_of
from tuner.records.results import Evaluation
from tuner.report import importance
from tuner.report.drawing import Drawing
from tuner.report.figures_breakdown import time_breakdown
from tuner.report.figures_by_rate import gpu_by_rate, host_by_rate, latency_by_rate
from tuner.report.figures_candidates import capacity_by_candidate
from tuner.report.figures_distribution import batch_sizes, latency_distribution
from tuner.report.figures_pareto import latency_frontier, memory_frontier
from tuner.report.figures_settings import parallel_coordinates, parameter_importance
from tuner.report.figures_stalls import stalls_over_time
from tuner.report.metric import Metric
from tuner.report.series import candidates
from tuner.report.wording import HIDDEN_COMPUTE
from tuner.stats.samples import Samples

NAMES = (
    "capacity",
    "latency-by-rate",
    "latency-distribution",
    "pareto",
    "memory",
    "settings",
    "importance",
    "batch-sizes",
    "time-breakdown",
    "host",
    "gpu",
    "stalls",
)


def drawings(
    evaluations: list[Evaluation], sla: Sla | None, samples: Mapping[str, Samples]
) -> list[Drawing]:
    """Every figure; ``samples`` are by the name that the probe's record gives them."""
    finds_capacities = objective_of(evaluations) is None
    drawn = [_capacity(evaluations)]
    if sla is not None:
        if finds_capacities:
            drawn.append(_rates(evaluations, sla))
        drawn.append(_distribution(evaluations, sla, samples))
        if finds_capacities:
            drawn.append(_frontier(evaluations, sla))
    if finds_capacities:
        drawn.append(_memory(evaluations))
    drawn += [_parallel(evaluations), _importance(evaluations)]
    return [*drawn, *_server(evaluations, samples), _stalls(evaluations, sla)]


def _capacity(evaluations: list[Evaluation]) -> Drawing:
    metric = Metric.of(evaluations)
    each = "the highest rate at which a candidate keeps the promise, by all its probes"
    if metric.smaller_is_better:
        each = "what a candidate comes to at that rate: the lower, the better"
    return Drawing(
        "capacity",
        f"{metric.name}, every candidate" if metric.objective else "Capacity of every candidate",
        f"Each mark is {each}; "
        "the bar is the interval of 95 %. The dotted line is the best found so far.",
        capacity_by_candidate(evaluations),
        "No candidate has been tried yet.",
    )


def _frontier(evaluations: list[Evaluation], sla: Sla) -> Drawing:
    name = sla.primary.name
    return Drawing(
        "pareto",
        f"What other promises would allow: rate against {name}",
        f"Each mark is one probe of any candidate. On the line are those that no other beats in "
        f"both rate and {name}: the most that any candidate held at that {name}. Hover to see "
        "which one; 'tuner search --warm-start' looks closer at another promise.",
        latency_frontier(evaluations, sla),
        f"Fewer than two candidates have probes that tell {name}.",
    )


def _memory(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "memory",
        "Capacity against memory",
        "Each mark is a candidate with its capacity and the most memory that its server held. On "
        "the line are those that no other beats in both: what more memory buys.",
        memory_frontier(evaluations),
        "Fewer than two candidates have both a capacity and a reading of memory.",
    )


def _rates(evaluations: list[Evaluation], sla: Sla) -> Drawing:
    return Drawing(
        "latency-by-rate",
        "Latency against rate",
        "Each mark is one probe, each line the rising one that comes nearest to a candidate's "
        f"marks. Where it crosses the red line, {sla.primary} breaks: the further right, the "
        "better. Click a name in the legend to hide or show it.",
        latency_by_rate(candidates(evaluations), sla),
        f"No probe at a set rate reports {sla.primary.name}.",
    )


def _distribution(
    evaluations: list[Evaluation], sla: Sla, samples: Mapping[str, Samples]
) -> Drawing:
    return Drawing(
        "latency-distribution",
        f"Latency distribution {_where(evaluations)}",
        "The share of requests that took longer than the time on the axis, each candidate "
        f"{_at(evaluations)}. A curve that passes below and left of the red corner keeps the "
        "promise.",
        latency_distribution(evaluations, sla, samples),
        "No probe at capacity has its raw samples in the run's folder.",
    )


def _where(evaluations: list[Evaluation]) -> str:
    return "near capacity" if objective_of(evaluations) is None else "at that rate"


def _at(evaluations: list[Evaluation]) -> str:
    if objective_of(evaluations) is None:
        return "at its own proven rate or near its capacity"
    return "at the rate that was given"


def _parallel(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "settings",
        "Settings and what they reached",
        "Each line is one candidate, from its settings on the left to what it reached on the "
        "right; the bluer, the better. Where a setting does not apply, the line dips below its "
        "axis. Orange is the model as found; the thick blue line is the winner.",
        parallel_coordinates(evaluations),
        "It takes at least two candidates with a capacity and with different settings.",
    )


def _importance(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "importance",
        "Which settings matter",
        "How strongly each setting decides whether a candidate is among the best quarter "
        "(PED-ANOVA). A hint, not a measurement: it rests on the candidates that were tried.",
        parameter_importance(evaluations),
        importance.why_none(evaluations),
    )


def _server(evaluations: list[Evaluation], samples: Mapping[str, Samples]) -> list[Drawing]:
    unreported = "No probe at capacity has statistics of the server."
    drawn = [
        Drawing(
            "batch-sizes",
            f"Batches that formed {_where(evaluations)}",
            "Above, the share of executions that had a batch of that size; below, the share of "
            "requests that travelled in one. Large batches amortise the cost of an execution.",
            batch_sizes(evaluations),
            unreported,
        ),
        Drawing(
            "time-breakdown",
            "Where the time goes, by rate",
            "The mean latency of the requests that were answered, and its parts: the wait of the "
            "client before it sent, the server's own count of queue, input, infer and output, and "
            "what is left for network, serialisation and client. Rates far above capacity are "
            f"left out.{_pipeline_note(evaluations)}",
            time_breakdown(evaluations, samples),
            "No probe under load has both the mean latency and statistics of the server.",
        ),
    ]
    if any(p.host is not None for e in evaluations for p in e.probes):
        drawn.append(_host(evaluations))
    if any(p.gpu is not None for e in evaluations for p in e.probes):
        drawn.append(_gpu(evaluations))
    return drawn


def _stalls(evaluations: list[Evaluation], sla: Sla | None) -> Drawing:
    return Drawing(
        "stalls",
        "Stalls of the machine",
        "Each mark is a moment in which this machine, and not the server, stood still or gave a "
        "core to another process; probes follow one another without the time between them. In a "
        "shaded probe they decided: it is stated as it happened, and the capacity rests on the "
        "requests that they did not touch. The dashed line is the SLA's bound.",
        stalls_over_time(evaluations, sla),
        "No stall of the machine was seen, or it was not watched.",
    )


def _pipeline_note(evaluations: list[Evaluation]) -> str:
    hidden = [s.role for s in subjects(evaluations) if hides_compute(s.evaluation.config)]
    return f" In {' and '.join(hidden)}, {HIDDEN_COMPUTE}" if hidden else ""


def _host(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "host",
        "Processor and memory of the server",
        "Cores are the mean over each probe, memory is the most that was seen in it. A line that "
        "bends towards all cores of the machine has found the limit; memory that climbs with every "
        "probe may be a leak.",
        host_by_rate(candidates(evaluations)),
        "The processes of a server that was not started by tuner cannot be seen.",
    )


def _gpu(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "gpu",
        "GPU utilisation",
        "Mean over each probe. A candidate that serves more at the same utilisation uses the "
        "GPU better; one that stays low has its limit elsewhere. A cross marks a probe in which "
        "the GPU throttled.",
        gpu_by_rate(candidates(evaluations)),
        "The GPU does not tell how busy it is, as a slice of one (MIG) does not.",
    )
