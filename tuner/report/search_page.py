"""The report of a search, or of one measurement, made from its records alone."""

from collections.abc import Iterator, Sequence
from math import isfinite

from tuner.analysis.search_findings import ComparedCandidate, SearchFindings, is_same_candidate
from tuner.model.space import short_name
from tuner.records.results import Evaluation, State
from tuner.records.run import Run
from tuner.report.drawing import Drawing
from tuner.report.figures import search_drawings
from tuner.report.frame import ending, figure, head, render_page, section
from tuner.report.html import (
    Html,
    card,
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
from tuner.report.search_wording import answer, headline, method_sentences, search_sentences
from tuner.report.time_budget import budget_bar
from tuner.report.wording import STATES, doubt_sentence, percent, times
from tuner.units import format_clock, format_duration, format_rate


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
                f"{experiment.model} · run {name}",
                headline(findings),
                answer(findings),
                cards(findings) if is_begun else None,
                list(map(doubt_sentence, findings.doubts())),
            ),
            _configuration(findings),
            section("Figures", join(map(figure, drawn)) if drawn else None),
            section("All candidates", candidates_table(findings) if is_begun else None),
            section("How the search went", _search(findings)),
            section("Failures", failures(_failures(findings))),
            section("How it was measured", _measurement(findings)),
            ending(findings.manifest, name),
        )
    )


def _configuration(findings: SearchFindings) -> Html:
    first, last = findings.baseline, findings.winner
    if last is None:
        if first is None:
            return Html("")
        return section("The configuration as found", code(first.config, "config"))
    if first is None or findings.baseline_wins:
        return section("The configuration", code(last.config, "config"))
    whole = tag("div", tag("h3", text("config.pbtxt of the winner")), code(last.config, "config"))
    title = tag("h3", text("What changes against the model as found"))
    changed = tag("div", title, diff(first.config, last.config))
    return section("The configuration to use", tag("div", whole, changed, class_="columns"))


def cards(findings: SearchFindings) -> Html:
    """The key figures, most important first."""
    one = _capacity_card if findings.objective is None else _cost_card
    shown = [one(findings, s) for s in findings.subjects if s.role != "closest"]
    if findings.gain is not None and len(findings.subjects) == 2:
        shown.append(card("gain", times(findings.gain), _gain_note(findings)))
    elif findings.winner is None:
        shown += _nearest_card(findings)
    shown.append(card("candidates", str(findings.candidates), _states(findings)))
    spent = sum(e.seconds for e in findings.evaluations)
    shown.append(card("time spent", format_clock(spent), "min:s, launches included"))
    return tag("div", join(shown), class_="cards")


def _capacity_card(findings: SearchFindings, subject: ComparedCandidate) -> Html:
    name, evaluation = subject.role, subject.evaluation
    if evaluation.capacity is None:
        failed = evaluation.state is State.FAILED
        note = "could not be measured" if failed else "no rate kept the promise"
        return card(f"{name}, capacity", "none", note, name)
    notes = []
    probe = evaluation.at_capacity()
    if probe is not None and findings.sla is not None:
        percentile = findings.sla.primary.name
        notes.append(f"{percentile} there {format_duration(probe.latency.get(percentile))}")
    if evaluation.low is not None and evaluation.high is not None:
        low, high = format_rate(evaluation.low), format_rate(evaluation.high)
        notes.append(f"95 %: {low} to {high}")
    if evaluation.recommended is not None:
        proof = evaluation.proof()
        proven = f", proven at {format_rate(proof.rate)}" if proof else ", not proven"
        notes.append(f"recommended: {format_rate(evaluation.recommended)}{proven}")
    return card(f"{name}, capacity", format_rate(evaluation.capacity), "; ".join(notes), name)


def _cost_card(findings: SearchFindings, subject: ComparedCandidate) -> Html:
    name, evaluation, metric = subject.role, subject.evaluation, Metric(findings.objective)
    title = f"{name}, {metric.name}"
    value = metric.value(evaluation)
    if value is None:
        failed = evaluation.state is State.FAILED
        note = "could not be measured" if failed else "did not keep the promise there"
        return card(title, "none", note, name)
    low, high = metric.range(evaluation)
    notes = []
    if low is not None and high is not None and low != high:
        notes.append(f"95 %: {metric.show(low)} to {metric.show(high)}")
    asked = evaluation.verdict()
    if asked is not None:
        notes.append("promise proven there" if evaluation.proof() else "promise not proven there")
    return card(title, metric.show(value), "; ".join(notes), name)


def _gain_note(findings: SearchFindings) -> str:
    interval = findings.gain_interval
    if interval is not None:
        return f"95 %: {times(interval.low)} to {times(interval.high)}, measured by turns"
    if findings.objective is not None:
        return "baseline over winner"
    return "capacity of winner over baseline"


def _nearest_card(findings: SearchFindings) -> Iterator[Html]:
    nearest = findings.closest
    if nearest is None or nearest.bound_ratio is None:
        return
    value = percent(nearest.bound_ratio) if isfinite(nearest.bound_ratio) else "no answer"
    yield card("closest", value, f"of the bound, with {nearest.label}")


def _states(findings: SearchFindings) -> str:
    latest = {e.candidate: e.state for e in findings.evaluations}
    counts = {state: list(latest.values()).count(state) for state in State}
    return ", ".join(f"{found} {STATES[state]}" for state, found in counts.items() if found)


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
        "× baseline",
    )
    percentile = findings.sla.primary.name if findings.sla else "p99"
    where = "at capacity" if findings.objective is None else "there"
    heads = [*names, f"{percentile} {where}", "probes", "time"]
    rows = [_row(findings, e, percentile) for e in findings.evaluations]
    return table(heads, ("phase", "candidate", "result"), rows)


def _row(findings: SearchFindings, evaluation: Evaluation, percentile: str) -> Html:
    probe = evaluation.at_capacity()
    latency = probe.latency.get(percentile) if probe else None
    metric = Metric(findings.objective)
    value, (low, high) = metric.value(evaluation), metric.range(evaluation)
    reference = metric.value(findings.baseline) if findings.baseline else None
    ratio = value / reference if value and reference else None
    cells = (
        number_cell(evaluation.trial, str(evaluation.trial)),
        word_cell(evaluation.phase),
        word_cell(evaluation.label, "wide"),
        word_cell(STATES[evaluation.state]),
        number_cell(value, metric.show(value)),
        number_cell(low, metric.show(low)),
        number_cell(high, metric.show(high)),
        number_cell(ratio, f"{ratio:.2f}" if ratio else "-"),
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
    sentences, budget = search_sentences(findings), findings.budget
    if not sentences and budget is None:
        return None
    parts = [items(sentences)] if sentences else []
    if budget is not None:
        parts.append(budget_bar(budget))
    lacking = findings.unmeasured_values() if sentences else {}
    if lacking:
        rows = tuple((short_name(path), ", ".join(values)) for path, values in lacking.items())
        parts += [tag("h3", text("Values that no measured candidate had")), facts(rows)]
    return join(parts)


def _measurement(findings: SearchFindings) -> Html:
    """The meaning of the numbers, and the facts of the probes that the answer rests on."""
    near = "near capacity" if findings.objective is None else "at that rate"
    shown = []
    for subject in findings.subjects:
        probe = subject.evaluation.at_capacity()
        if probe is not None:
            where = "proven" if subject.evaluation.proof() else near
            title = tag("h3", text(f"{subject.role.capitalize()}, {where}"))
            shown.append(tag("div", title, facts(probe_facts(probe, subject.evaluation))))
    probes = [probe for e in findings.evaluations for probe in e.probes]
    total = facts(
        (
            ("seed of the run", str(findings.manifest.experiment.seed)),
            ("probes in all", str(len(probes))),
            ("requests in all", f"{sum(p.n for p in probes):,}"),
        )
    )
    method = items(method_sentences(findings))
    return join((method, tag("div", join(shown), class_="columns"), total))
