"""All figures of a search, in reading order, each with the sentence that says how to read it.

Capacities are in requests/s, latencies in ms. Baseline, winner and SLA have the same color in
every figure; all other candidates are grey.
"""

from collections.abc import Mapping

from tuner.analysis.breakdown import hides_compute
from tuner.analysis.search_findings import SearchFindings, subjects
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
from tuner.report.figures_together import shared_rates, steps_over_time
from tuner.report.metric import Metric
from tuner.report.series import candidates
from tuner.report.wording import HIDDEN_COMPUTE
from tuner.stats.samples import Samples

TOGETHER = ("steps", "shared-rates")
"""Of several models that are tuned together."""
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


def drawings_together(findings: SearchFindings) -> list[Drawing]:
    """The figures of several models that are tuned together; none of a single one."""
    drawn = []
    if findings.manifest.pipeline:
        drawn.append(
            Drawing(
                "steps",
                "A request's way through the pipeline",
                "Bar: one step of the best configuration near its capacity, from when a request "
                "comes to it until it is done: first it waits, then it is computed. Means; steps "
                "that overlap run at the same time.",
                steps_over_time(findings.waterfall),
                "No probe near capacity has statistics of every step.",
            )
        )
    if findings.mix is not None and len(findings.mix.models) == 2:
        served = {share.model: share.capacity or 0.0 for share in findings.model_shares}
        frontier = () if findings.insight is None else findings.insight.frontier
        drawn.append(
            Drawing(
                "shared-rates",
                "What the two models can serve together",
                "Line: with the best configuration, the highest rates of both that keep every SLA, "
                "from one model alone to the other (Pareto front, simulated). Blue: the mix, "
                "measured.",
                shared_rates(frontier, served),
                "Nothing was simulated.",
            )
        )
    return drawn


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
    each = "the highest rate at which a candidate meets the SLA"
    if metric.smaller_is_better:
        each = "a candidate's value at that rate; lower is better"
    return Drawing(
        "capacity",
        f"{metric.name}, every candidate" if metric.objective else "Capacity of every candidate",
        f"Mark: {each}. Bar: 95 % interval. Dotted line: the best so far.",
        capacity_by_candidate(evaluations),
        "No candidate has been measured yet.",
    )


def _frontier(evaluations: list[Evaluation], sla: Sla) -> Drawing:
    name = sla.primary.name
    return Drawing(
        "pareto",
        f"Rate against {name}, for other SLAs",
        f"Mark: one probe. Line: the highest rate that any candidate served at that {name} (Pareto "
        "front). Run 'tuner search --warm-start' to search for another SLA.",
        latency_frontier(evaluations, sla),
        f"Fewer than two candidates have probes with a {name}.",
    )


def _memory(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "memory",
        "Capacity against memory",
        "Mark: one candidate, its capacity and the peak memory of its server. Line: the highest "
        "capacity with that much memory (Pareto front).",
        memory_frontier(evaluations),
        "Fewer than two candidates have both a capacity and a memory reading.",
    )


def _rates(evaluations: list[Evaluation], sla: Sla) -> Drawing:
    return Drawing(
        "latency-by-rate",
        "Latency against rate",
        "Mark: one probe. Line: the rising fit to a candidate's probes, in order of rate. It "
        f"crosses the red line where {sla.primary} is violated; further right is better. Click a "
        "name in the legend to hide or show it.",
        latency_by_rate(candidates(evaluations), sla),
        f"No probe at a set rate reports {sla.primary.name}.",
    )


def _distribution(
    evaluations: list[Evaluation], sla: Sla, samples: Mapping[str, Samples]
) -> Drawing:
    return Drawing(
        "latency-distribution",
        f"Latency distribution {_where(evaluations)}",
        "The share of requests slower than the time on the axis, for each candidate "
        f"{_at(evaluations)}. A curve below and left of the red corner meets the SLA."
        + (f" Requests to {sla.primary.model} alone." if sla.primary.model else ""),
        latency_distribution(evaluations, sla, samples),
        "The run's folder has no raw samples of a probe at capacity.",
    )


def _where(evaluations: list[Evaluation]) -> str:
    return "near capacity" if objective_of(evaluations) is None else "at that rate"


def _at(evaluations: list[Evaluation]) -> str:
    if objective_of(evaluations) is None:
        return "at its verified rate or near its capacity"
    return "at the given rate"


def _parallel(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "settings",
        "Settings and results",
        "Line: one candidate, from its settings on the left to its result on the right; bluer is "
        "better. Below an axis, the setting does not apply. Orange: the baseline. Thick blue: the "
        "winner.",
        parallel_coordinates(evaluations),
        "Fewer than two candidates with different settings have a capacity.",
    )


def _importance(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "importance",
        "Which settings matter",
        "How strongly each setting decides whether a candidate is in the best quarter (PED-ANOVA). "
        "A hint, not a measurement: it depends on which candidates were measured.",
        parameter_importance(evaluations),
        importance.why_none(evaluations),
    )


def _server(evaluations: list[Evaluation], samples: Mapping[str, Samples]) -> list[Drawing]:
    unreported = "No probe at capacity has server statistics."
    drawn = [
        Drawing(
            "batch-sizes",
            f"Batch sizes {_where(evaluations)}",
            "Top: share of executions with that batch size. Bottom: share of requests in such "
            "batches.",
            batch_sizes(evaluations),
            unreported,
        ),
        Drawing(
            "time-breakdown",
            "Where the time goes, by rate",
            "Mean latency of successful requests: the client's delay before sending; queue, input, "
            "infer and output as the server counted them; the rest is network, serialization and "
            f"client. Rates far above capacity are left out.{_pipeline_note(evaluations)}",
            time_breakdown(evaluations, samples),
            "No probe under load has both a mean latency and server statistics.",
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
        "Mark: this machine stalled or gave a core to another process. Probes follow one another "
        "without gaps. In shaded probes, stalls decided the verdict; there, the capacity rests on "
        "the requests that no stall touched. Dashed line: the SLA's bound.",
        stalls_over_time(evaluations, sla),
        "No stall was seen, or stalls were not recorded.",
    )


def _pipeline_note(evaluations: list[Evaluation]) -> str:
    hidden = [s.role for s in subjects(evaluations) if hides_compute(s.evaluation.config)]
    return f" In {' and '.join(hidden)}, {HIDDEN_COMPUTE}" if hidden else ""


def _host(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "host",
        "CPU and memory of the server",
        "Mean cores and peak memory of each probe. A curve that flattens at all cores of the "
        "machine is CPU-bound; memory that grows with every probe may be a leak.",
        host_by_rate(candidates(evaluations)),
        "tuner did not start the server, so it cannot see its processes.",
    )


def _gpu(evaluations: list[Evaluation]) -> Drawing:
    return Drawing(
        "gpu",
        "GPU utilization",
        "Mean of each probe. More requests at the same utilization is better; low utilization at "
        "capacity means that the GPU is not the bottleneck. Cross: the GPU throttled.",
        gpu_by_rate(candidates(evaluations)),
        "The GPU does not report its utilization, as MIG slices do not.",
    )
