"""What a comparison came to: a table of the deployments, the answer, claims, plan; or JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.analysis.claim import Claim
from tuner.analysis.claims import claims
from tuner.analysis.kept import read_comparison
from tuner.analysis.parts import excess, parts_of
from tuner.analysis.recommend import Recommendation, headline, promise_of, recommend
from tuner.analysis.records import Comparison, Contender, Deployed, Swap, contenders
from tuner.analysis.replicas import Plan, plan
from tuner.records.results import Evaluation, ProbeRecord, Record, State
from tuner.records.run import Run
from tuner.units import format_duration, format_number, format_rate, format_size

MET, NOT_MET, NOTHING_MEASURED = 0, 1, 3
_STATES = {State.OK: "met", State.INFEASIBLE: "not met", State.FAILED: "failed"}
_HOLDS = {True: "yes", False: "no", None: "-"}


def show(
    run: Run, as_json: bool, console: Console, simulated: Mapping[str, float] | None = None
) -> int:
    """Print the outcome; the exit code: 0 where a deployment keeps the promise, 3 where not one
    could even be measured, else 1. ``simulated``: see ``tuner.analysis.replicas.plan``.
    """
    comparison, evaluations = read_comparison(run), run.evaluations()
    found = contenders(comparison, evaluations)
    answer, judged = recommend(comparison, evaluations), claims(comparison, evaluations)
    plans = []
    if comparison.target_rate is not None:
        plans = plan(comparison, evaluations, comparison.target_rate, simulated)
    if as_json:
        told = _as_dict(run, comparison, found, answer)
        told |= {"claims": _json(judged), "plan": _json(plans)}
        console.file.write(json.dumps(told, allow_nan=False) + "\n")
    else:
        console.print(deployments_table(comparison, found))
        console.print(Text(f"{headline(answer, comparison)}.", style="bold"))
        console.print(_reasons(answer))
        console.print(claims_table(judged))
        if comparison.target_rate is not None:
            _show_plan(comparison.target_rate, plans, console)
        if run.report.exists():
            console.print(f"report: {run.report}", markup=False, highlight=False, soft_wrap=True)
    if any(each.evaluation.capacity is not None for each in found):
        return MET
    return NOTHING_MEASURED if all(_has_failed(e) for e in found) else NOT_MET


def _has_failed(each: Contender) -> bool:
    return each.evaluation.state is State.FAILED


def _reasons(answer: Recommendation) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for reason in answer.reasons:
        grid.add_row("-", Text(reason))
    return grid


def deployments_table(comparison: Comparison, found: list[Contender]) -> Table:
    """One row per deployment, two lines each; fits 100 columns."""
    title = f"{comparison.model}, {promise_of(comparison)}"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("", ratio=1)
    heads = (
        "capacity\n(95 %)",
        "safe\nrate",
        "alone\np50",
        "near cap.\np50, p99",
        "cores,\nmemory",
        "cold\nstart",
        "swap\n(lost)",
    )
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    by_name = {each.name: each for each in found}
    for deployed in comparison.deployments:
        table.add_row(_plain(deployed.title), *_cells(deployed, by_name.get(deployed.name)))
    return table


def _plain(words: str) -> str:
    """What Rich would take for markup stays as it is."""
    return words.replace("[", r"\[")


def _cells(deployed: Deployed, each: Contender | None) -> list[str]:
    if each is None:
        return ["not measured", *[""] * 6]
    evaluation = each.evaluation
    one, near = evaluation.unloaded(), evaluation.at_capacity()
    return [
        _capacity(evaluation),
        format_rate(each.safe_rate),
        format_duration(_latency(one, "p50")),
        f"{format_duration(_latency(near, 'p50'))}\n{format_duration(_latency(near, 'p99'))}",
        "\n".join(_host(near)),
        format_duration(deployed.cold_start),
        show_swap(deployed.swap, "\n"),
    ]


def _capacity(evaluation: Evaluation) -> str:
    if evaluation.capacity is None:
        return _STATES.get(evaluation.state, str(evaluation.state))
    low, high = evaluation.low, evaluation.high
    ends = "open" if low is None or high is None else f"{_bare(low)} to {_bare(high)}"
    return f"{format_rate(evaluation.capacity)}\n{ends}"


def _bare(rate: float) -> str:
    return format_rate(rate).removesuffix("/s")


def _latency(probe: ProbeRecord | None, name: str) -> float | None:
    return probe.latency.get(name) if probe is not None else None


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


def claims_table(judged: list[Claim]) -> Table:
    title = "The document's rules of thumb"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("claim", ratio=3)
    table.add_column("measured here", ratio=4)
    table.add_column("holds")
    for claim in judged:
        measured = claim.why if claim.holds is None else f"{claim.measured} ({claim.why})"
        table.add_row(_plain(claim.text), _plain(measured), _HOLDS[claim.holds])
    return table


def _show_plan(rate: float, plans: list[Plan], console: Console) -> None:
    if not plans:
        console.print(Text(f"For {format_rate(rate)}: no deployment keeps the promise."))
        return
    title = f"For {format_rate(rate)}"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("", ratio=2)
    for head in ("replicas", "each", "p99", "cores", "memory"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("send", no_wrap=True)
    table.add_column("why", ratio=3)
    for each in plans:
        table.add_row(
            _plain(each.title),
            f"{each.replicas:,}",
            format_rate(each.rate),
            format_duration(each.p99),
            "-" if each.cores is None else format_number(each.cores),
            "-" if each.memory is None else format_size(round(each.memory)),
            each.sends,
            each.reason,
        )
    console.print(table)


def _as_dict(
    run: Run, comparison: Comparison, found: list[Contender], answer: Recommendation
) -> dict[str, Any]:
    by_name = {each.name: each for each in found}
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
        "headline": headline(answer, comparison),
        "recommendation": _json([answer])[0],
        "deployments": [_of_deployed(d, by_name.get(d.name)) for d in comparison.deployments],
        "delays": _json(comparison.delays),
    }


def _of_deployed(deployed: Deployed, each: Contender | None) -> dict[str, Any]:
    told = _json([deployed])[0] | {
        "state": None,
        "failure": None,
        "capacity_per_second": None,
        "capacity_interval": [None, None],
        "safe_per_second": None,
        "client_limited": None,
        "alone": None,
        "near_capacity": None,
    }
    if each is None:
        return told
    evaluation = each.evaluation
    return told | {
        "state": evaluation.state.value,
        "failure": evaluation.failure,
        "capacity_per_second": evaluation.capacity,
        "capacity_interval": [evaluation.low, evaluation.high],
        "safe_per_second": each.safe_rate,
        "client_limited": evaluation.client_limited,
        "alone": _of_probe(evaluation.unloaded(), deployed),
        "near_capacity": _of_probe(evaluation.at_capacity(), deployed),
    }


def _of_probe(probe: ProbeRecord | None, deployed: Deployed) -> dict[str, Any] | None:
    if probe is None:
        return None
    seen = _json([probe])[0]
    parts = parts_of(probe, deployed)
    return {
        "rate_per_second": seen["rate"],
        "served_per_second": seen["throughput"],
        "latency_seconds": seen["latency"],
        "parts_seconds": parts,
        "counted_too_much_seconds": None if parts is None else excess(probe, deployed),
        "host": seen["host"],
        "gpu": seen["gpu"],
    }


def _json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """As the records are written to files: what is infinite is a text there."""
    return [json.loads(record.model_dump_json()) for record in records]
