"""The tables of a comparison's report."""

from collections.abc import Sequence

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.analysis.costs import Costs, Usage
from tuner.analysis.replicas import ReplicaPlan
from tuner.records.comparison import Delay
from tuner.records.results import Evaluation, ProbeRecord
from tuner.report.html import Html, join, number_cell, paragraph, table, tag, word_cell
from tuner.report.series import ShownDeployment
from tuner.report.wording import NBSP, STATES
from tuner.report.wording_recommendation import plan_reason, plan_sentence
from tuner.report.wording_rules import RULES, evidence_words, reason_words
from tuner.units import format_cores, format_duration, format_number, format_rate, format_size

_HOLDS = {True: ("yes", "yes"), False: ("no", "no"), None: ("not measured", "soft")}
"""A verdict's word, and its class in the style sheet."""


def deployments_table(shown: Sequence[ShownDeployment]) -> Html:
    names = (
        "deployment",
        "capacity",
        "95 % from",
        "95 % to",
        "recommended rate",
        "p50, one at a time",
        "p50 near capacity",
        "p99 near capacity",
        "cores",
        "memory",
        "cold start",
        "swap",
        "lost",
    )
    return table(names, ("deployment",), map(_row, shown))


def _row(shown: ShownDeployment) -> Html:
    evaluation = shown.evaluation
    one = evaluation.unloaded() if evaluation else None
    near = evaluation.at_capacity() if evaluation else None
    host, swap = (near.host if near else None), shown.deployed.swap
    cores, memory = (host.cpu, host.memory) if host else (None, None)
    safe = shown.contender.safe_rate if shown.contender else None
    capacity = evaluation.capacity if evaluation else None
    low, high = (evaluation.low, evaluation.high) if evaluation and capacity else (None, None)
    return tag(
        "tr",
        _name(shown),
        number_cell(capacity, _capacity(evaluation)),
        _rate(low),
        _rate(high),
        _rate(safe),
        _seconds(_latency(one, "p50")),
        _seconds(_latency(near, "p50")),
        _seconds(_latency(near, "p99")),
        number_cell(cores, "-" if cores is None else format_number(cores)),
        number_cell(memory, "-" if memory is None else format_size(memory)),
        _seconds(shown.deployed.cold_start),
        _seconds(swap.seconds if swap else None),
        number_cell(swap.lost if swap else None, f"{swap.lost:,}" if swap else "-"),
        class_="none" if safe is None else None,
    )


def _capacity(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "not measured"
    capacity = evaluation.capacity
    return STATES[evaluation.state] if capacity is None else format_rate(capacity)


def _name(shown: ShownDeployment) -> Html:
    mark = f"box-shadow: inset 3px 0 {shown.color}"
    return word_cell(shown.plain_title, "wide short", style=mark)


def _rate(value: float | None) -> Html:
    return number_cell(value, format_rate(value))


def _seconds(value: float | None) -> Html:
    return number_cell(value, format_duration(value))


def _latency(probe: ProbeRecord | None, name: str) -> float | None:
    return probe.latency.get(name) if probe is not None else None


def costs_table(costs: Costs, shown: Sequence[ShownDeployment]) -> Html | None:
    """Near each one's capacity, per 1,000 requests/s; and all at one rate."""
    near = {usage.deployment: usage for usage in costs.at_capacity}
    together = {usage.deployment: usage for usage in costs.together}
    if not any(usage.cores is not None for usage in (*costs.at_capacity, *costs.together)):
        return None
    has_gpu = any(usage.gpu is not None for usage in costs.at_capacity)
    at = format_rate(costs.rate)
    names = [
        "deployment",
        "cores per 1,000/s",
        "memory per 1,000/s",
        *(["GPU busy"] if has_gpu else []),
        f"cores at {at}",
        f"memory at {at}",
    ]
    rows = [
        _cost_row(each, near.get(each.deployed.name), together.get(each.deployed.name), has_gpu)
        for each in shown
        if each.deployed.name in together
    ]
    reading = (
        f"Left: near each deployment's capacity. Right: all at {at}, the highest rate that all of "
        "them serve."
    )
    return join((paragraph(reading, class_="reading"), table(names, ("deployment",), rows)))


def _cost_row(
    shown: ShownDeployment, near: Usage | None, together: Usage | None, has_gpu: bool
) -> Html:
    gpu = near.gpu if near else None
    busy = number_cell(gpu, "-" if gpu is None else f"{100 * gpu:.0f}{NBSP}%")
    return tag(
        "tr",
        _name(shown),
        _cores(near.cores_per_1000 if near else None),
        _bytes(near.memory_per_1000 if near else None),
        busy if has_gpu else Html(""),
        _cores(together.cores if together else None),
        _bytes(together.memory if together else None),
    )


def _cores(value: float | None) -> Html:
    return number_cell(value, "-" if value is None else format_number(value))


def _bytes(value: float | None) -> Html:
    return number_cell(value, "-" if value is None else format_size(round(value)))


def rules_table(findings: ComparisonFindings) -> Html:
    names = ("rule", "measured here", "holds", "why")
    rows = [
        tag(
            "tr",
            word_cell(RULES[judgement.rule], "wide short"),
            word_cell(evidence_words(judgement.evidence), "wide"),
            word_cell(_HOLDS[judgement.holds][0], _HOLDS[judgement.holds][1]),
            word_cell(reason_words(judgement), "wide short"),
        )
        for judgement in findings.judgements
    ]
    reading = (
        "Common rules of thumb about FastAPI and Triton, checked against this model on this "
        "machine."
    )
    return join((paragraph(reading, class_="reading"), table(names, names, rows)))


def plans_table(findings: ComparisonFindings, shown: Sequence[ShownDeployment]) -> Html | None:
    rate = findings.comparison.target_rate
    if rate is None:
        return None
    sentence = paragraph(plan_sentence(rate, findings.plans))
    if not findings.plans:
        return sentence
    names = ("deployment", "replicas", "each", "p99", "cores", "memory", "clients send", "why")
    by_name = {each.deployed.name: each for each in shown}
    rows = [_plan_row(plan, by_name[plan.deployment]) for plan in findings.plans]
    return join((sentence, table(names, ("deployment", "clients send", "why"), rows)))


def _plan_row(plan: ReplicaPlan, shown: ShownDeployment) -> Html:
    return tag(
        "tr",
        _name(shown),
        number_cell(plan.replicas, f"{plan.replicas:,}"),
        _rate(plan.rate),
        _seconds(plan.p99),
        number_cell(plan.cores, "-" if plan.cores is None else format_cores(plan.cores)),
        _bytes(plan.memory),
        word_cell(plan.sends),
        word_cell(plan_reason(plan), "wide short"),
    )


def delays_table(delays: Sequence[Delay]) -> Html | None:
    """Simulated capacities by queue delay."""
    rows = [tag("tr", _seconds(d.delay), _rate(d.capacity), _seconds(d.p50)) for d in delays]
    whole = table(("queue delay", "capacity", "p50, one at a time"), (), rows)
    return tag("div", whole, style="max-width: 30rem") if rows else None
