"""The report of a search, or of one measurement, made from its records alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tuner.analysis.search_findings import SearchFindings, is_same_candidate
from tuner.model.repository import configs_of
from tuner.model.space import short_name
from tuner.records.results import Evaluation, State
from tuner.records.run import Run
from tuner.report.drawing import Drawing
from tuner.report.figures import search_drawings
from tuner.report.frame import ending, figures, head, render_page, section
from tuner.report.html import (
    Html,
    code,
    diff,
    facts,
    failures,
    items,
    join,
    number_cell,
    table,
    tag,
    text,
    word_cell,
)
from tuner.report.metric import Metric
from tuner.report.probe_facts import probe_facts
from tuner.report.search_answer import search_answer
from tuner.report.search_wording import answer, headline, method_sentences, search_sentences
from tuner.report.time_budget import budget_bar
from tuner.report.wording import STATES, bottleneck_sentences, doubt_sentence, percent
from tuner.units import format_clock, format_duration, format_number, format_rate


def page(run: Run) -> str:
    """The whole file; RunError where the records cannot be read."""
    findings = SearchFindings.of(run)
    drawn = search_drawings(run, findings)
    body = _body(run, findings, drawn if findings.evaluations else [])
    return render_page(f"{headline(findings)} · {run.folder.name}", body, drawn)


def _body(run: Run, findings: SearchFindings, drawn: Sequence[Drawing]) -> Html:
    experiment, name = findings.manifest.experiment, run.folder.name
    is_begun = bool(findings.evaluations)
    return join(
        (
            head(
                f"{experiment.model.name} · run {name}",
                headline(findings),
                answer(findings),
                search_answer(findings) if is_begun else None,
                list(map(doubt_sentence, findings.doubts())),
            ),
            section("Models of the mix", _models(findings)),
            section("Steps", _steps(findings)),
            _configuration(findings),
            section("Figures", figures(drawn)),
            section("All candidates", candidates_table(findings) if is_begun else None),
            section("How the search went", _search(findings)),
            section("Failures", failures(_failures(findings))),
            section("How it was measured", _measurement(findings)),
            ending(findings.manifest, name),
        )
    )


def _configuration(findings: SearchFindings) -> Html:
    first, last, chosen = findings.baseline, findings.winner, findings.to_deploy
    if chosen is None:
        return (
            section("Your current configuration", code(first.config, "config"))
            if first
            else Html("")
        )
    if first is None or last is None or findings.baseline_wins:
        return section("The configuration", code(chosen.config, "config"))
    name = "the winner" if chosen is last else "the best candidate"
    before, after = configs_of(first.config), configs_of(last.config)
    parts = []
    for model, config in after.items():
        if config == before.get(model):
            continue
        file, of = (f"{model}/config.pbtxt", f" of {model}") if model else ("config.pbtxt", "")
        whole = tag("div", tag("h3", text(f"{file} of {name}")), code(config, f"config-{model}"))
        title = tag("h3", text(f"Changes to the baseline{of}"))
        changed = tag("div", title, diff(before.get(model, ""), config))
        parts.append(tag("div", whole, changed, class_="columns"))
    same = [model for model, config in after.items() if config == before.get(model)]
    if same and parts:
        parts.append(tag("p", text(f"Unchanged: {', '.join(same)}.")))
    return section(f"Configuration of {name}", join(parts))


def _models(findings: SearchFindings) -> Html | None:
    """What each of several models serves; None of a single one."""
    shares = findings.model_shares
    if not shares:
        return None
    heads = ("model", "capacity", "recommended", "latency", "limit", "slack", "alone (simulated)")
    rows = [
        tag(
            "tr",
            word_cell(share.model),
            number_cell(share.capacity, format_rate(share.capacity)),
            number_cell(share.recommended, format_rate(share.recommended)),
            number_cell(share.latency, format_duration(share.latency)),
            number_cell(share.bound.limit, str(replace(share.bound, model=""))),
            number_cell(share.slack, "-" if share.slack is None else percent(share.slack)),
            number_cell(share.alone, format_rate(share.alone)),
        )
        for share in shares
    ]
    assert findings.winner is not None
    lead = f"In the best configuration that was measured: {findings.winner.label}."
    title = tag("h3", text("What each model does near the capacity"))
    shown = table(heads, ("model",), rows)
    return join((tag("p", text(lead)), shown, title, _uses(findings, "model")))


def _steps(findings: SearchFindings) -> Html | None:
    """Where the time of a request goes; None where models do not work together."""
    if findings.mix is not None or not findings.step_uses:
        return None
    return _uses(findings, "step")


def _uses(findings: SearchFindings, what: str) -> Html:
    heads = ("model", "calls", "queue", "compute", "mean batch", "instances", "busy")
    rows = [
        tag(
            "tr",
            word_cell(use.model),
            number_cell(use.calls, format_number(use.calls)),
            number_cell(use.queue, format_duration(use.queue)),
            number_cell(use.compute, format_duration(use.compute)),
            number_cell(use.mean_batch, _number(use.mean_batch)),
            number_cell(use.instances, str(use.instances)),
            number_cell(use.utilization, percent(use.utilization)),
        )
        for use in findings.step_uses
    ]
    sentences = list(bottleneck_sentences(findings.step_uses, findings.insight, what))
    return join((table(heads, ("model",), rows), items(sentences)))


def _number(value: float | None) -> str:
    return "-" if value is None else format_number(value)


def _states(findings: SearchFindings) -> str:
    latest = {e.candidate: e.state for e in findings.evaluations}
    counts = {state: list(latest.values()).count(state) for state in State}
    return ", ".join(f"{found:,} {STATES[state]}" for state, found in counts.items() if found)


def candidates_table(findings: SearchFindings) -> Html:
    """One row per evaluation."""
    names = (
        "trial",
        "phase",
        "candidate",
        "result",
        Metric(findings.objective).name,
        "95 % from",
        "95 % to",
    )
    percentile = findings.sla.primary.name if findings.sla else "p99"
    where = "at capacity" if findings.objective is None else "at that rate"
    heads = [*names, f"{percentile} {where}", "probes", "time"]
    rows = [_row(findings, e, percentile) for e in findings.evaluations]
    return table(heads, ("phase", "candidate", "result"), rows)


def _row(findings: SearchFindings, evaluation: Evaluation, percentile: str) -> Html:
    probe = evaluation.at_capacity()
    latency = probe.latency.get(percentile) if probe else None
    metric = Metric(findings.objective)
    value, (low, high) = metric.value(evaluation), metric.range(evaluation)
    cells = (
        number_cell(evaluation.trial, str(evaluation.trial)),
        word_cell(evaluation.phase),
        word_cell(evaluation.label, "wide"),
        word_cell(STATES[evaluation.state]),
        number_cell(value, metric.show(value)),
        number_cell(low, metric.show(low)),
        number_cell(high, metric.show(high)),
        number_cell(latency, format_duration(latency)),
        number_cell(len(evaluation.probes), str(len(evaluation.probes))),
        number_cell(evaluation.seconds, format_clock(evaluation.seconds)),
    )
    return tag("tr", join(cells), class_=_kind(findings, evaluation))


def _kind(findings: SearchFindings, evaluation: Evaluation) -> str | None:
    for subject in findings.subjects:
        if is_same_candidate(subject.evaluation, evaluation):
            return subject.role
    return "none" if evaluation.capacity is None else None


def _failures(findings: SearchFindings) -> Iterator[tuple[str, str]]:
    """Candidates without a capacity, with the reason."""
    for e in findings.evaluations:
        if e.state is State.FAILED or e.failure:
            cause = f" ({e.cause})" if e.cause else ""
            yield f"trial {e.trial}: {e.label}{cause}", e.failure or "no reason was recorded"


def _search(findings: SearchFindings) -> Html | None:
    """How much of the space was seen, why the search ended, and where the time went; None before
    anything of it is known.
    """
    if not findings.evaluations:
        return None
    sentences, budget = search_sentences(findings), findings.budget
    spent = sum(e.seconds for e in findings.evaluations)
    measured = f"{_states(findings)}, in {format_clock(spent)} min:s including launches"
    parts = [facts([("candidates", f"{findings.candidates:,}: {measured}")])]
    parts += [items(sentences)] if sentences else []
    if budget is not None:
        parts.append(budget_bar(budget))
    lacking = findings.unmeasured_values() if sentences else {}
    if lacking:
        rows = tuple((short_name(path), ", ".join(values)) for path, values in lacking.items())
        parts += [tag("h3", text("Values that no measured candidate has")), facts(rows)]
    return join(parts)


def _measurement(findings: SearchFindings) -> Html:
    """The meaning of the numbers, and the facts of the probes that the answer rests on."""
    near = "near capacity" if findings.objective is None else "at that rate"
    shown = []
    for subject in findings.subjects:
        probe = subject.evaluation.at_capacity()
        if probe is not None:
            where = "verified" if subject.evaluation.proof() else near
            title = tag("h3", text(f"{subject.role.capitalize()}, {where}"))
            shown.append(tag("div", title, facts(probe_facts(probe, subject.evaluation))))
    probes = [probe for e in findings.evaluations for probe in e.probes]
    total = facts(
        (
            ("seed", str(findings.manifest.experiment.seed)),
            ("probes", f"{len(probes):,}"),
            ("requests", f"{sum(p.n for p in probes):,}"),
        )
    )
    method = items(method_sentences(findings))
    return join((method, tag("div", join(shown), class_="columns"), total))
