"""What a run came to: a table of baseline and winner, or JSON, and the exit code."""

import json
import math
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tuner.analysis import breakdown
from tuner.analysis.comparison import completeness, cpu_steal, disagreement, drift, gain, refutation
from tuner.cli.view import between, describe_result
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.model.space import format_value, queue_delay, short_name
from tuner.records.costs import describe_cost, objective_of
from tuner.records.results import Evaluation, ProbeRecord, State, baseline, best, closest
from tuner.records.run import Run
from tuner.units import format_duration, format_rate

MET, NOT_MET, NOTHING_MEASURED = 0, 1, 3


def show(run: Run, reason: str | None, as_json: bool, console: Console) -> int:
    """Print the outcome; the exit code: 0 where a configuration meets the Sla, 3 where not one
    could even be measured, else 1.
    """
    evaluations = run.evaluations()
    experiment = run.manifest().experiment
    sla, constraints = experiment.sla, experiment.constraints
    promise = ", ".join([str(sla), *map(str, constraints)])
    measured = [e for e in evaluations if e.phase == "measure"]
    winner = measured[-1] if measured else best(evaluations)
    if winner is not None and winner.capacity is None:
        winner = None
    if as_json:
        console.file.write(json.dumps(_as_dict(run, evaluations, winner, reason)) + "\n")
    elif winner is None:
        _show_miss(evaluations, sla, promise, console)
    else:
        _show_winner(evaluations, winner, sla, promise, console)
    if not as_json:
        outcome = run.outcome()
        if outcome is not None and winner is not None:
            better = "serves more by over" if winner.cost is None else "comes to less by over"
            text = f"{completeness(outcome, better)} It ended because {outcome.reason}."
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        for line in breakdown.lines(evaluations, constraints):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for name, path in (("report", run.report), ("winner", run.winner)):
            if path.exists():
                console.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)
    if winner is not None:
        return MET
    return NOTHING_MEASURED if _all_failed(evaluations) else NOT_MET


def _all_failed(evaluations: list[Evaluation]) -> bool:
    return all(e.state is State.FAILED for e in evaluations)


def _show_winner(
    evaluations: list[Evaluation], winner: Evaluation, sla: Sla, promise: str, console: Console
) -> None:
    found = baseline(evaluations)
    columns = [e for e in (found, winner) if e is not None]
    if found is winner or winner.baseline:
        columns = [winner]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for each in columns:
        table.add_column(_role(each), justify="right")
    for name, cells in _rows(columns, sla, promise):
        table.add_row(name, *cells)
    console.print(table)
    console.print(_headline(found, winner, promise), markup=False, highlight=False, soft_wrap=True)
    for each in evaluations:
        if each.phase == "confirm" and each.capacity is None and not each.baseline:
            text = f"Trial {each.trial} ({each.label}) {_unconfirmed(each)}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    for each in columns:
        unsteady = disagreement(each)
        if unsteady:
            name = _role(each).capitalize()
            console.print(f"{name}: {unsteady}", markup=False, highlight=False, soft_wrap=True)
    for doubt in (refutation(evaluations), drift(evaluations), cpu_steal(evaluations)):
        if doubt:
            console.print(doubt, markup=False, highlight=False, soft_wrap=True)
    full = {e.candidate for e in evaluations if e.cause == "out of memory"}
    if full:
        console.print(f"{len(full)} of the candidates ran out of memory; the report names them.")
    if winner.client_limited:
        console.print(
            "Above this rate the load generator itself fell behind, so the server may hold more: "
            "raise --workers, or give it cores of its own."
        )


def _unconfirmed(evaluation: Evaluation) -> str:
    """What became of a finalist in its confirmation."""
    begin = "was among the best of the search, but when it was to be confirmed it"
    if evaluation.state is State.FAILED:
        return f"{begin} {describe_result(evaluation)}"
    kept = "did not keep the promise" if evaluation.cost else "met the promise at no rate"
    return f"{begin} {kept}: {evaluation.failure or 'search again on a quieter machine.'}"


def _role(evaluation: Evaluation) -> str:
    if evaluation.baseline:
        return "baseline"
    return "measured" if evaluation.phase == "measure" else "winner"


def _headline(found: Evaluation | None, winner: Evaluation, promise: str) -> str:
    if winner.phase == "measure":
        asked = winner.verdict()
        said = f"; {verdict_in_words(asked)}" if asked else ""
        return f"{format_rate(winner.capacity)} within {promise}{said}."
    if winner.baseline:
        told = describe_cost(winner.cost) if winner.cost else format_rate(winner.capacity)
        return f"The model's own configuration is the best found: {told}."
    sure = "measured by turns on fresh servers" if winner.phase == "confirm" else "not confirmed"
    if found is None or not found.merit or not winner.merit:
        rate = describe_cost(winner.cost) if winner.cost else format_rate(winner.capacity)
        missed = found is not None and found.state is State.INFEASIBLE
        rest = "the baseline was not measured"
        if missed:
            rest = "the baseline met it at no rate tried"
        if missed and winner.cost:
            rest = "the baseline does not keep it there"
        return f"{rate} within {promise} ({sure}); {rest}."
    ratio = gain(winner, found)
    if ratio is None:
        times = f"{winner.merit / found.merit:.2f} x"
    else:
        times = f"{ratio.value:.2f} x (95 %: {ratio.low:.2f} to {ratio.high:.2f})"
    if winner.cost and found.cost:
        objective = Objective.parse(winner.cost.objective, winner.cost.rate)
        shown = f"{objective.show(winner.cost.value)} instead of {objective.show(found.cost.value)}"
        return f"{objective.title}: {shown}, {times} less, within {promise}, {sure}."
    return f"{times} the requests of the baseline within {promise}, {sure}."


def _rows(columns: list[Evaluation], sla: Sla, promise: str) -> list[tuple[str, list[str]]]:
    paths = sorted({path for e in columns for path in e.settings})
    rows = [
        (short_name(path), [format_value(e.candidate.get(path)) for e in columns]) for path in paths
    ]
    at = [e.at_capacity() for e in columns]
    objective = objective_of(columns)
    if objective is not None:
        costs = [e.cost for e in columns]
        rows.append((objective.title, [objective.show(c.value) if c else "-" for c in costs]))
        ranges = [
            objective.between(c).strip(" ()").removeprefix("95 %: ") if c else "" for c in costs
        ]
        rows.append(("95 % interval", [each or "-" for each in ranges]))
        rows.append((f"{promise} there", ["kept" if e.capacity else "not kept" for e in columns]))
        rows += _proofs(columns)
    else:
        rows.append((f"capacity, {promise}", [format_rate(e.capacity) for e in columns]))
    if any(e.steepness is not None for e in columns):  # else one rate was judged, or a closed loop
        rows.append(("95 % interval", [_bare(between(e)) for e in columns]))
        rows.append(("recommended rate", [format_rate(e.recommended) for e in columns]))
        rows += _proofs(columns)
    if any(e.items != 1 for e in columns):
        items = [None if e.capacity is None else e.capacity * e.items for e in columns]
        mean = f"items there, {columns[-1].items:.3g} a request"
        rows.append((mean, [format_rate(each) for each in items]))
    rows.append(
        ("seen closely at", [format_rate(p.rate or p.throughput) if p else "-" for p in at])
    )
    for name in ("p50", sla.primary.name):
        values = [format_duration(p.latency.get(name)) if p else "-" for p in at]
        rows.append((f"{name} there", values))
    one = [e.unloaded() for e in columns]
    alone = [format_duration(p.latency.get("p50")) if p else "-" for p in one]
    rows.append(("p50, one at a time", alone))
    return rows


def _bare(interval: str) -> str:
    return interval.strip(" ()").removeprefix("95 %: ") or "-"


def _proofs(columns: list[Evaluation]) -> list[tuple[str, list[str]]]:
    proofs = [(e.verdict(), e.proof()) for e in columns]
    if not any(asked for asked, _ in proofs):
        return []
    return [("proven", [_proven(asked, proof) for asked, proof in proofs])]


def _proven(asked: ProbeRecord | None, proof: ProbeRecord | None) -> str:
    """The model as found is put to the proof only where it is the best."""
    if proof is not None:
        return format_rate(proof.rate)
    return "-" if asked is None else "no"


def _show_miss(evaluations: list[Evaluation], sla: Sla, promise: str, console: Console) -> None:
    single = [p for e in evaluations for p in e.probes if p.purpose == "measure"]
    if _all_failed(evaluations):
        verdict = "No candidate could be measured"
    elif single:
        verdict = f"Not shown to keep {promise}: {_judged(single[-1])}"
    else:
        objective = objective_of(evaluations)
        at = f" at {format_rate(objective.rate)}" if objective else ""
        verdict = f"Nothing meets {promise}{at}"
    console.print(f"{verdict}.", markup=False, highlight=False, soft_wrap=True)
    near = closest(evaluations)
    if near is not None and near.margin is not None:
        finite = math.isfinite(near.margin)
        reached = f"at {near.margin:.2f} x the bound" if finite else "where too many requests fail"
        console.print(
            f"Closest: {near.label}, {reached}.",
            markup=False,
            highlight=False,
        )
        one = near.unloaded()
        p50 = one.latency.get("p50") if one else None
        if p50 is not None and p50 - queue_delay(near.candidate) > sla.longest:
            console.print(
                f"A single request alone takes {format_duration(p50)}: "
                "no configuration of batching can keep this promise."
            )
    for each in evaluations:
        if each.state is State.FAILED:
            console.print(f"{each.label}: {describe_result(each)}", markup=False, highlight=False)
            break


def _as_dict(
    run: Run, evaluations: list[Evaluation], winner: Evaluation | None, reason: str | None
) -> dict[str, Any]:
    found, near = baseline(evaluations), closest(evaluations)
    return {
        "run": str(run.folder),
        "stopped": reason,
        "search": None if (ended := run.outcome()) is None else ended.model_dump(),
        "winner": _brief(winner),
        "baseline": _brief(found),
        "gain": _gain(winner, found),
        "closest": _brief(near) if winner is None else None,
        "drift": drift(evaluations),
        "evaluations": len(evaluations),
        "failed": sum(e.state is State.FAILED for e in evaluations),
        "config": str(run.winner) if winner is not None and run.winner.exists() else None,
        "report": str(run.report),
    }


def _gain(winner: Evaluation | None, found: Evaluation | None) -> dict[str, float] | None:
    both = winner and found and winner.merit and found.merit and not winner.baseline
    ratio = gain(winner, found) if winner and found and both else None
    return None if ratio is None else {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}


def verdict_in_words(probe: ProbeRecord) -> str:
    """``412/s met at 99.7 % confidence (3 of 12,345 late)``; or that nothing is proven, and why."""
    late = f"{probe.violations:,} of {probe.n:,} late"
    if probe.outcome == "met":
        return (
            f"{format_rate(probe.rate)} met at {probe.confidence * 100:.4g} % confidence ({late})"
        )
    return f"no rate is proven, {_judged(probe)}"


def _judged(probe: ProbeRecord) -> str:
    """``412/s: violated (350 of 12,345 late)``."""
    why = f": {probe.remedy}" if probe.remedy else ""
    late = f"{probe.violations:,} of {probe.n:,} late"
    return f"{format_rate(probe.rate)}: {probe.outcome} ({late}){why}"


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
        "cost": None if evaluation.cost is None else evaluation.cost.model_dump(),
        "recommended_per_second": evaluation.recommended,
        "proven_per_second": proof.rate if (proof := evaluation.proof()) else None,
        "verdict": _verdict(evaluation.verdict()),
        "steepness": evaluation.steepness,
        "client_limited": evaluation.client_limited,
        "items_per_request": evaluation.items,
        "confirmed": evaluation.phase == "confirm",
        "margin": json.loads(evaluation.model_dump_json())["margin"],
        "latency_seconds": json.loads(at.model_dump_json())["latency"] if at else None,
        "failure": evaluation.failure,
        "cause": evaluation.cause,
    }
