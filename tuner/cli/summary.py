"""What a search or a measurement came to: a table of baseline and winner, or JSON."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from tuner.analysis.breakdown import hides_compute, representative
from tuner.analysis.doubts import (
    CpuSteal,
    Doubt,
    Drift,
    Lack,
    Lacking,
    Refutation,
    UnsteadyRounds,
    drift,
)
from tuner.analysis.search_findings import GainVerdict, SearchFindings
from tuner.analysis.stalls import ForeignLoad, MachineStalls
from tuner.cli.output import as_json, exit_code, latency, plain, say, table, write_json
from tuner.cli.view import between, describe_result, format_capacity
from tuner.goals.objective import Objective
from tuner.model.space import format_value, queue_delay, short_name
from tuner.records.costs import describe_cost
from tuner.records.results import Evaluation, ProbeRecord, State
from tuner.records.run import Run
from tuner.report.search_wording import gain_words, sla_text, sla_text_at_rate
from tuner.report.time_budget import budget_line
from tuner.report.wording import (
    HIDDEN_COMPUTE,
    NBSP,
    NO_GAIN_EXPORTED,
    bottleneck_sentences,
    completeness,
    doubt_sentence,
    time_sentence,
    times,
    undisturbed_words,
)
from tuner.units import format_duration, format_number, format_rate

Row = tuple[str, list[str]]


def show(run: Run, reason: str | None, json: bool, console: Console) -> int:
    """Print the outcome; the exit code: 0 where a configuration meets the SLA, 3 where not one
    could even be measured, else 1.
    """
    findings = SearchFindings.of(run)
    if json:
        write_json(console, _as_dict(run, findings, reason))
    else:
        _show(run, findings, console)
    return exit_code(findings.winner is not None, findings.evaluations)


def show_so_far(folder: Path, console: Console) -> None:
    """The best of an interrupted search, and where its report and winner are."""
    run = Run(folder)
    findings = SearchFindings.of(run)
    if findings.winner is not None:
        sure = "confirmed" if findings.winner.phase == "confirm" else "not confirmed"
        say(
            console,
            f"best so far, {sure}: {findings.winner.label}: {describe_result(findings.winner)}",
        )
    say(console, *_paths(run, findings))


def _paths(run: Run, findings: SearchFindings) -> Iterator[str]:
    if run.report.exists():
        yield f"report: {run.report}"
    if run.winner.exists():
        note = f" ({NO_GAIN_EXPORTED})" if findings.exports_unproven_winner else ""
        yield f"winner: {run.winner}{note}"


def _show(run: Run, findings: SearchFindings, console: Console) -> None:
    winner, outcome = findings.winner, findings.outcome
    if winner is None:
        say(console, *_miss(findings))
    else:
        _show_winner(findings, winner, console)
    if outcome is not None and winner is not None:
        seen = completeness(outcome, minimised=winner.cost is not None)
        say(console, seen, f"The search ended because {outcome.reason}.")
    _show_models(findings, console)
    _show_steps(findings, console)
    say(console, *_probe_lines(findings))
    if findings.budget is not None:
        say(console, budget_line(findings.budget))
    say(console, *_paths(run, findings))


def _show_winner(findings: SearchFindings, winner: Evaluation, console: Console) -> None:
    first = findings.baseline
    columns = [winner] if first is None or winner.baseline else [first, winner]
    shown = table()
    shown.padding = (0, 1)
    shown.add_column("")
    for each in columns:
        shown.add_column(_role(each), justify="right")
    for name, cells in _rows(findings, columns):
        shown.add_row(name, *cells)
    console.print(shown)
    say(console, _headline(findings, winner))
    for each in findings.evaluations:
        if each.phase == "confirm" and each.capacity is None and not each.baseline:
            say(console, f"Trial {each.trial} ({each.label}) {_unconfirmed(each)}")
    say(console, *(doubt_sentence(doubt) for doubt in findings.doubts() if _is_short(doubt)))
    full = {e.candidate for e in findings.evaluations if e.cause == "out of memory"}
    if full:
        say(console, f"{len(full):,} of the candidates ran out of memory; the report names them.")


def _is_short(doubt: Doubt) -> bool:
    """Whether a terminal says it; the other doubts are in the report."""
    if isinstance(doubt, Lacking):
        return doubt.lack in (Lack.CLIENT, Lack.VERIFICATION)
    machine = CpuSteal | MachineStalls | ForeignLoad
    return isinstance(doubt, UnsteadyRounds | Refutation | Drift | machine)


def _probe_lines(findings: SearchFindings) -> Iterator[str]:
    """Where the time of a measurement went, as far as it is known, and how a measurement or a
    search's winner stands to each of the constraints.
    """
    measured = [e for e in findings.evaluations if e.phase == "measure"]
    subject = measured[-1] if measured else findings.winner
    probe = representative(subject) if subject is not None else None
    if subject is None or probe is None:
        return
    sentence = time_sentence(probe)
    if measured and sentence is not None:
        yield sentence
    if measured and hides_compute(subject.config) and probe.server is not None:
        yield HIDDEN_COMPUTE
    for constraint in findings.constraints:
        yield constraint.describe(probe)


def _steps(findings: SearchFindings) -> list[dict[str, Any]]:
    """Seconds are means of one call."""
    more = {} if findings.insight is None else findings.insight.one_more
    return [
        {
            "model": use.model,
            "instances": use.instances,
            "calls_per_request": use.calls,
            "queue_seconds": use.queue,
            "compute_seconds": use.compute,
            "mean_batch": use.mean_batch,
            "utilization": use.utilization,
            "simulated_gain_of_one_more_instance": more.get(use.model),
        }
        for use in findings.step_uses
    ]


def _models(findings: SearchFindings) -> list[dict[str, Any]]:
    """What each of several models serves."""
    return [
        {
            "model": share.model,
            "capacity_per_second": share.capacity,
            "recommended_per_second": share.recommended,
            "bound": str(share.bound),
            "latency_seconds": share.latency,
            "slack": share.slack,
            "simulated_alone_per_second": share.alone,
        }
        for share in findings.model_shares
    ]


def _show_models(findings: SearchFindings, console: Console) -> None:
    """What each of several models serves, and with how much room below its SLA."""
    if not findings.model_shares:
        return
    shown = table("Models of the mix")
    shown.add_column("model")
    headings = ("capacity", "recommended", "latency", "limit", "slack", "alone (simulated)")
    for heading in headings[: 6 if findings.insight is not None else 5]:
        shown.add_column(heading, justify="right")
    for share in findings.model_shares:
        shown.add_row(
            plain(share.model),
            format_rate(share.capacity),
            format_rate(share.recommended),
            format_duration(share.latency),
            f"{share.bound.of_all} {format_duration(share.bound.limit)}",
            "-" if share.slack is None else _percent(share.slack),
            *([format_rate(share.alone)] if findings.insight is not None else []),
        )
    console.print(shown)


def _show_steps(findings: SearchFindings, console: Console) -> None:
    """Where the time of a request of a pipeline goes; of a mix, what each model does."""
    uses = findings.step_uses
    probe = None if findings.winner is None else representative(findings.winner)
    if probe is None or not uses:
        return
    is_mix = findings.mix is not None
    what = "Models" if is_mix else "Steps"
    shown = table(f"{what} at {format_rate(probe.rate or probe.throughput)}")
    shown.add_column("model")
    for heading in ("calls", "queue", "compute", "mean batch", "instances", "busy"):
        shown.add_column(heading, justify="right")
    for use in uses:
        batch = "-" if use.mean_batch is None else format_number(use.mean_batch)
        shown.add_row(
            plain(use.model),
            format_number(use.calls),
            format_duration(use.queue),
            format_duration(use.compute),
            batch,
            str(use.instances),
            _percent(use.utilization),
        )
    console.print(shown)
    say(console, *bottleneck_sentences(uses, findings.insight, "model" if is_mix else "step"))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}{NBSP}%"


def _unconfirmed(evaluation: Evaluation) -> str:
    """What became of a finalist in its confirmation."""
    begin = "was a finalist, but in the confirmation it"
    if evaluation.state is State.FAILED:
        return f"{begin} {describe_result(evaluation)}"
    missed = "missed the SLA" if evaluation.cost else "met the SLA at no rate"
    return f"{begin} {missed}: {evaluation.failure or 'search again on a quieter machine.'}"


def _role(evaluation: Evaluation) -> str:
    if evaluation.phase == "measure":
        return "measured"
    return "baseline" if evaluation.baseline else "winner"


def _headline(findings: SearchFindings, winner: Evaluation) -> str:
    first, kept = findings.baseline, sla_text(findings)
    amount = describe_cost(winner.cost) if winner.cost else format_rate(winner.capacity)
    if winner.phase == "measure":
        asked = winner.verdict()
        verdict = f"; {verdict_in_words(asked)}" if asked else ""
        return f"{format_capacity(winner)} within {kept}{verdict}."
    if winner.baseline:
        return f"Your current configuration is the best found: {amount}. Keep it."
    sure = "interleaved, on fresh servers" if winner.phase == "confirm" else "not confirmed"
    gain = gain_words(findings)
    if first is None or gain is None:
        return f"{amount} within {kept} ({sure}); {_lacking(first, winner)}."
    if findings.gain_verdict is GainVerdict.NOT_SHOWN:
        return f"No gain shown over your current configuration: {gain}. Keep it."
    if findings.gain_verdict is GainVerdict.TOO_SMALL:
        return f"A gain below 2 % over your current configuration: {gain}. Keep it."
    objective = findings.objective
    if objective is not None and winner.cost and first.cost:
        before, after = objective.show(first.cost.value), objective.show(winner.cost.value)
        change = f"{after} instead of {before}, {gain}"
        return f"{objective.title}: {change}, within {kept}, {sure}."
    return f"{gain} the requests of the baseline within {kept}, {sure}."


def _lacking(first: Evaluation | None, winner: Evaluation) -> str:
    """Why there is no gain to tell."""
    if first is None or first.state is not State.INFEASIBLE:
        return "the baseline was not measured"
    if winner.cost:
        return "the baseline misses it there"
    return "the baseline met it at no rate that was tried"


def _rows(findings: SearchFindings, columns: list[Evaluation]) -> Iterator[Row]:
    for path in sorted({path for e in columns for path in e.settings}):
        yield short_name(path), [format_value(e.candidate.get(path)) for e in columns]
    if findings.objective is not None:
        yield from _cost_rows(findings.objective, sla_text(findings), columns)
    else:
        yield f"capacity, {sla_text(findings)}", [format_capacity(e) for e in columns]
    if any(e.steepness is not None for e in columns):  # else one rate was judged, or a closed loop
        yield "95 % interval", [_bare(between(e)) for e in columns]
        yield "recommended rate", [format_rate(e.recommended) for e in columns]
        yield from _proofs(columns)
    if any(e.items != 1 for e in columns):
        items = [None if e.capacity is None else e.capacity * e.items for e in columns]
        mean = f"items/s, {columns[-1].items:.3g} per request"
        yield mean, [format_rate(each) for each in items]
    near = [e.at_capacity() for e in columns]
    seen = [format_rate(p.rate or p.throughput) if p else "-" for p in near]
    yield "probed at", seen
    bounds = findings.sla.bounds if findings.mix is not None else (findings.sla.primary,)
    for name in dict.fromkeys(("p50", *(b.name for b in bounds if not b.on_errors))):
        yield f"{name} there", [format_duration(latency(p, name)) for p in near]
    alone = [e.unloaded() for e in columns]
    yield "p50 of a single request", [format_duration(latency(p, "p50")) for p in alone]


def _cost_rows(objective: Objective, kept: str, columns: list[Evaluation]) -> Iterator[Row]:
    costs = [e.cost for e in columns]
    yield objective.title, [objective.show(c.value) if c else "-" for c in costs]
    yield "95 % interval", [_bare(objective.between(c)) if c else "-" for c in costs]
    yield f"{kept} there", ["met" if e.capacity else "missed" for e in columns]
    yield from _proofs(columns)


def _bare(interval: str) -> str:
    return interval.strip(" ()").removeprefix("95 %: ") or "-"


def _proofs(columns: list[Evaluation]) -> Iterator[Row]:
    if any(e.verdict() for e in columns):
        yield "verified at", [_verified(e.verdict(), e.proof()) for e in columns]


def _verified(asked: ProbeRecord | None, proof: ProbeRecord | None) -> str:
    """The baseline is verified only if it is the best."""
    if proof is not None:
        return format_rate(proof.rate)
    return "-" if asked is None else "no"


def _miss(findings: SearchFindings) -> Iterator[str]:
    """That nothing meets the SLA, what came closest, and the first failure."""
    yield f"{_verdict_on_all(findings)}."
    nearest = findings.closest
    if nearest is not None and nearest.bound_ratio is not None:
        finite = math.isfinite(nearest.bound_ratio)
        reached = "but too many requests fail"
        if finite:
            reached = f"at {times(nearest.bound_ratio)} the bound"
        yield f"Closest: {nearest.label}, {reached}."
        p50 = latency(nearest.unloaded(), "p50")
        longest = findings.sla.longest if findings.sla else math.inf
        if p50 is not None and p50 - queue_delay(nearest.candidate) > longest:
            yield (
                f"A single request alone takes {format_duration(p50)}: "
                "no batching configuration can meet this SLA."
            )
    failed = [e for e in findings.evaluations if e.state is State.FAILED]
    if failed:
        yield f"{failed[0].label}: {describe_result(failed[0])}"


def _verdict_on_all(findings: SearchFindings) -> str:
    single = [p for e in findings.evaluations for p in e.probes if p.purpose == "measure"]
    if findings.all_failed:
        return "No candidate could be measured"
    if single:
        return f"Not shown to meet {sla_text(findings)}: {_judged(single[-1])}"
    return f"Nothing meets {sla_text_at_rate(findings)}"


def verdict_in_words(probe: ProbeRecord) -> str:
    """``412/s met at 99.7 % confidence (3 of 12,345 late)``; or why no rate is verified."""
    if probe.outcome == "met":
        sure = f"{probe.confidence * 100:.4g} % confidence"
        return f"{format_rate(probe.rate)} met at {sure} ({_late(probe)})"
    return f"no rate is verified, {_judged(probe)}"


def _judged(probe: ProbeRecord) -> str:
    """``412/s: violated (350 of 12,345 late)``."""
    why = f": {probe.remedy}" if probe.remedy else ""
    return f"{format_rate(probe.rate)}: {probe.outcome} ({_late(probe)}){why}"


def _late(probe: ProbeRecord) -> str:
    """As it happened and, where stalls of the machine touched it, without them."""
    late = f"{probe.violations:,} of {probe.n:,} late"
    return "; ".join(filter(None, (late, undisturbed_words(probe))))


def _as_dict(run: Run, findings: SearchFindings, reason: str | None) -> dict[str, Any]:
    winner, evaluations = findings.winner, findings.evaluations
    changed = drift(evaluations)
    return {
        "run": str(run.folder),
        "stopped": reason,
        "search": None if findings.outcome is None else as_json([findings.outcome])[0],
        "winner": _brief(winner),
        "baseline": _brief(findings.baseline),
        "gain": _gain(findings),
        "gain_shown": findings.gain_verdict is GainVerdict.SHOWN,
        "closest": _brief(findings.closest) if winner is None else None,
        "steps": _steps(findings),
        "models": _models(findings),
        "drift": None if changed is None else doubt_sentence(changed),
        "time_seconds": None if findings.budget is None else as_json([findings.budget])[0],
        "evaluations": len(evaluations),
        "failed": sum(e.state is State.FAILED for e in evaluations),
        "config": str(run.winner) if winner is not None and run.winner.exists() else None,
        "report": str(run.report),
    }


def _gain(findings: SearchFindings) -> dict[str, float] | None:
    ratio = findings.gain_interval
    return None if ratio is None else {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}


def _verdict(probe: ProbeRecord | None) -> dict[str, Any] | None:
    if probe is None:
        return None
    return {
        "rate_per_second": probe.rate,
        "outcome": probe.outcome,
        "remedy": probe.remedy,
        "confidence": probe.confidence,
        "late": probe.violations,
        "requests": probe.n,
        "seconds": probe.seconds,
        "undisturbed": None if probe.undisturbed is None else as_json([probe.undisturbed])[0],
    }


def _brief(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    at = evaluation.at_capacity()
    return {
        "trial": evaluation.trial,
        "settings": evaluation.settings,
        "capacity_per_second": evaluation.capacity,
        "capacity_interval": [evaluation.low, evaluation.high],
        "cost": None if evaluation.cost is None else as_json([evaluation.cost])[0],
        "recommended_per_second": evaluation.recommended,
        "verified_per_second": proof.rate if (proof := evaluation.proof()) else None,
        "verdict": _verdict(evaluation.verdict()),
        "steepness": evaluation.steepness,
        "client_limited": evaluation.client_limited,
        "items_per_request": evaluation.items,
        "confirmed": evaluation.phase == "confirm",
        "bound_ratio": as_json([evaluation])[0]["bound_ratio"],
        "latency_seconds": as_json([at])[0]["latency"] if at else None,
        "failure": evaluation.failure,
        "cause": evaluation.cause,
    }
