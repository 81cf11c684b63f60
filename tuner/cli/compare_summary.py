"""What a comparison came to: a table of the deployments, the answer, rules, plan; or JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.analysis.contenders import Contender, title_of
from tuner.analysis.replicas import ReplicaPlan
from tuner.analysis.rules import Judgement
from tuner.analysis.stages import excess, stages_of
from tuner.cli.output import as_json, exit_code, latency, plain, say, table, write_json
from tuner.cli.view import describe_result
from tuner.records.comparison import FILE, Deployed, Swap
from tuner.records.results import Evaluation, ProbeRecord
from tuner.records.run import Run
from tuner.report.wording import STATES
from tuner.report.wording_recommendation import headline, plan_reason, reasons, sla_text
from tuner.report.wording_rules import RULES, evidence_words, reason_words
from tuner.units import format_duration, format_number, format_rate, format_size

_HOLDS = {True: "yes", False: "no", None: "-"}


def show(
    run: Run, json: bool, console: Console, simulated: Mapping[str, float] | None = None
) -> int:
    """Print the outcome; the exit code: 0 where a deployment keeps the SLA, 3 where not one
    could even be measured, else 1. ``simulated``: see ``tuner.analysis.replicas``.
    """
    findings = ComparisonFindings.of(run, simulated)
    if json:
        write_json(console, _as_dict(run, findings))
    else:
        _show(run, findings, console)
    evaluations = [each.evaluation for each in findings.contenders]
    return exit_code(any(e.capacity is not None for e in evaluations), evaluations)


def show_so_far(folder: Path, console: Console) -> None:
    """What an interrupted comparison has measured, and where its report is."""
    run = Run(folder)
    if (folder / FILE).is_file():
        findings = ComparisonFindings.of(run)
        for each in findings.contenders:
            say(console, f"measured: {each.title}: {describe_result(each.evaluation)}")
    if run.report.exists():
        say(console, f"report: {run.report}")


def _show(run: Run, findings: ComparisonFindings, console: Console) -> None:
    console.print(deployments_table(findings))
    console.print(Text(f"{headline(findings)}.", style="bold"))
    grid = Table.grid(padding=(0, 1, 0, 0))
    for reason in reasons(findings):
        grid.add_row("-", Text(reason))
    console.print(grid)
    console.print(rules_table(findings.judgements))
    rate = findings.comparison.target_rate
    if rate is not None and findings.plans:
        console.print(plans_table(rate, findings.plans))
    elif rate is not None:
        say(console, f"For {format_rate(rate)}: no deployment meets the SLA.")
    if run.report.exists():
        say(console, f"report: {run.report}")


def deployments_table(findings: ComparisonFindings) -> Table:
    """One row per deployment, two lines each; fits 100 columns."""
    shown = table(f"{findings.comparison.model}, {sla_text(findings)}")
    shown.add_column("", ratio=1)
    heads = (
        "capacity\n(95 %)",
        "recom-\nmended",
        "single\np50",
        "near cap.\np50, p99",
        "cores,\nmemory",
        "cold\nstart",
        "swap\n(lost)",
    )
    for head in heads:
        shown.add_column(head, justify="right", no_wrap=True)
    for deployed in findings.comparison.deployments:
        shown.add_row(
            plain(title_of(deployed)), *_cells(deployed, findings.by_name.get(deployed.name))
        )
    return shown


def _cells(deployed: Deployed, contender: Contender | None) -> list[str]:
    if contender is None:
        return ["not measured", *[""] * 6]
    evaluation = contender.evaluation
    one, near = evaluation.unloaded(), evaluation.at_capacity()
    return [
        _capacity(evaluation),
        format_rate(contender.safe_rate),
        format_duration(latency(one, "p50")),
        f"{format_duration(latency(near, 'p50'))}\n{format_duration(latency(near, 'p99'))}",
        "\n".join(_host(near)),
        format_duration(deployed.cold_start),
        show_swap(deployed.swap, "\n"),
    ]


def _capacity(evaluation: Evaluation) -> str:
    if evaluation.capacity is None:
        return STATES[evaluation.state]
    low, high = evaluation.low, evaluation.high
    ends = "open" if low is None or high is None else f"{_bare(low)} to {_bare(high)}"
    return f"{format_rate(evaluation.capacity)}\n{ends}"


def _bare(rate: float) -> str:
    return format_rate(rate).removesuffix("/s")


def _host(probe: ProbeRecord | None) -> tuple[str, str]:
    host = probe.host if probe is not None else None
    cores = "-" if host is None or host.cpu is None else format_number(host.cpu)
    memory = "-" if host is None or host.memory is None else format_size(host.memory)
    return cores, memory


def show_swap(swap: Swap | None, between: str) -> str:
    """``3.6 s (0 lost)``, or that it failed."""
    if swap is None:
        return "-"
    if swap.failure is not None or swap.seconds is None:
        return f"failed{between}({swap.lost:,} lost)"
    return f"{format_duration(swap.seconds)}{between}({swap.lost:,} lost)"


def rules_table(judgements: list[Judgement]) -> Table:
    shown = table("Rules of thumb, checked here")
    shown.add_column("claim", ratio=3)
    shown.add_column("measured here", ratio=4)
    shown.add_column("holds")
    for judgement in judgements:
        measured = reason_words(judgement)
        if judgement.evidence is not None:
            measured = f"{evidence_words(judgement.evidence)} ({measured})"
        shown.add_row(RULES[judgement.rule], plain(measured), _HOLDS[judgement.holds])
    return shown


def plans_table(rate: float, plans: list[ReplicaPlan]) -> Table:
    shown = table(f"For {format_rate(rate)}")
    shown.add_column("", ratio=2)
    for head in ("replicas", "each", "p99", "cores", "memory"):
        shown.add_column(head, justify="right", no_wrap=True)
    shown.add_column("send", no_wrap=True)
    shown.add_column("why", ratio=3)
    for plan in plans:
        shown.add_row(
            plain(plan.title),
            f"{plan.replicas:,}",
            format_rate(plan.rate),
            format_duration(plan.p99),
            "-" if plan.cores is None else format_number(plan.cores),
            "-" if plan.memory is None else format_size(round(plan.memory)),
            plan.sends,
            plan_reason(plan),
        )
    return shown


def _as_dict(run: Run, findings: ComparisonFindings) -> dict[str, Any]:
    comparison, recommendation = findings.comparison, findings.recommendation
    deployments = comparison.deployments
    return {
        "run": str(run.folder),
        "report": str(run.report),
        "model": comparison.model,
        "sla": comparison.sla,
        "load": comparison.load,
        "cores": comparison.cores,
        "gpu": comparison.gpu,
        "encode_seconds": comparison.encode_seconds,
        "tuned_run": comparison.tuned_run,
        "target_per_second": comparison.target_rate,
        "headline": headline(findings),
        "recommendation": {
            "answers": as_json(recommendation.answers),
            "costs": as_json([recommendation.costs])[0],
            "reasons": reasons(findings),
        },
        "deployments": [_of_deployed(d, findings.by_name.get(d.name)) for d in deployments],
        "delays": as_json(comparison.delays),
        "claims": [_of_judgement(judgement) for judgement in findings.judgements],
        "plan": [
            shown | {"reason": plan_reason(plan)}
            for shown, plan in zip(as_json(findings.plans), findings.plans, strict=True)
        ],
    }


def _of_judgement(judgement: Judgement) -> dict[str, Any]:
    return {
        "rule": judgement.rule,
        "text": RULES[judgement.rule],
        "measured": evidence_words(judgement.evidence),
        "holds": judgement.holds,
        "why": reason_words(judgement),
    }


def _of_deployed(deployed: Deployed, contender: Contender | None) -> dict[str, Any]:
    evaluation = contender.evaluation if contender is not None else None
    alone = evaluation.unloaded() if evaluation is not None else None
    near = evaluation.at_capacity() if evaluation is not None else None
    return as_json([deployed])[0] | {
        "state": evaluation and evaluation.state.value,
        "failure": evaluation and evaluation.failure,
        "capacity_per_second": evaluation and evaluation.capacity,
        "capacity_interval": [evaluation and evaluation.low, evaluation and evaluation.high],
        "safe_per_second": contender and contender.safe_rate,
        "client_limited": evaluation and evaluation.client_limited,
        "alone": _of_probe(alone, deployed),
        "near_capacity": _of_probe(near, deployed),
    }


def _of_probe(probe: ProbeRecord | None, deployed: Deployed) -> dict[str, Any] | None:
    if probe is None:
        return None
    seen = as_json([probe])[0]
    stages = stages_of(probe, deployed)
    return {
        "rate_per_second": seen["rate"],
        "served_per_second": seen["throughput"],
        "latency_seconds": seen["latency"],
        "parts_seconds": stages,
        "counted_too_much_seconds": None if stages is None else excess(probe, deployed),
        "host": seen["host"],
        "gpu": seen["gpu"],
    }
