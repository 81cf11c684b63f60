"""A run on a few lines of HTML, for notebooks: no script, no style sheet, a few kB."""

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.analysis.search_findings import SearchFindings
from tuner.records.gate import NEW, OLD, read_gate
from tuner.records.run import Run
from tuner.report import compare_page, gate_wording, search_wording, style
from tuner.report.figures import is_comparison
from tuner.report.html import Html, join, tag, text
from tuner.report.metric import Metric
from tuner.report.series import color_of, deployments
from tuner.report.wording import NBSP, doubt_sentence
from tuner.units import format_rate

_CELL = "padding: 2px 12px 2px 8px; text-align: left"
Row = tuple[str, str, str, str]
"""A color, a name, a value, and its 95 % interval."""


def summary_html(run: Run) -> str:
    """Headline, answer, key figures and doubts; RunError where the records cannot be read."""
    if is_comparison(run):
        return _of_comparison(ComparisonFindings.of(run))
    if run.manifest().kind == "gate":
        return _of_gate(run)
    return _of_search(SearchFindings.of(run))


def _of_search(findings: SearchFindings) -> Html:
    metric = Metric(findings.objective)
    rows = []
    for subject in findings.subjects:
        if subject.role == "baseline" and findings.gain and not findings.gain_fits_values:
            continue  # its capacity would contradict the gain
        value, (low, high) = metric.value(subject.evaluation), metric.range(subject.evaluation)
        name = f"{subject.role}: {subject.evaluation.label}"
        interval = _interval(metric.show(low), metric.show(high)) if low and high else ""
        rows.append((color_of(subject), name, metric.show(value), interval))
    return _block(
        search_wording.headline(findings),
        search_wording.answer(findings),
        metric.name,
        rows,
        [doubt_sentence(doubt) for doubt in findings.doubts()],
    )


def _of_comparison(findings: ComparisonFindings) -> Html:
    rows = []
    for each in deployments(findings.comparison, findings.evaluations):
        evaluation, interval = each.evaluation, ""
        if evaluation is not None and evaluation.low and evaluation.high:
            interval = _interval(format_rate(evaluation.low), format_rate(evaluation.high))
        capacity = format_rate(evaluation.capacity if evaluation is not None else None)
        rows.append((each.color, each.plain_title, capacity, interval))
    return _block(
        compare_page.title(findings),
        compare_page.answer(findings),
        "capacity",
        rows,
        [doubt_sentence(doubt) for doubt in findings.doubts()],
    )


def _of_gate(run: Run) -> Html:
    record, rows = read_gate(run), []
    for each in run.evaluations():
        color = style.BASELINE if each.deployment == OLD else style.WINNER
        known = each.low is not None and each.high is not None
        interval = _interval(format_rate(each.low), format_rate(each.high)) if known else ""
        rows.append((color, each.deployment or NEW, format_rate(each.capacity), interval))
    notes = list(record.notes)
    return _block(
        gate_wording.headline(record), gate_wording.reason(record), "capacity", rows, notes
    )


def _interval(low: str, high: str) -> str:
    return f"95{NBSP}%: {low} to {high}"


def _block(headline: str, answer: str, value: str, rows: list[Row], doubts: list[str]) -> Html:
    head = tag("tr", *(tag("th", text(name), style=_CELL) for name in ("", value, "")))
    body = (
        tag(
            "tr",
            tag("td", text(name), style=f"{_CELL}; border-left: 4px solid {color}"),
            tag("td", tag("b", text(shown)), style=_CELL),
            tag("td", text(interval), style=_CELL),
        )
        for color, name, shown, interval in rows
    )
    table = tag("table", head, *body, style="border-collapse: collapse")
    warnings = tag("ul", *(tag("li", text(doubt)) for doubt in doubts), style="margin: 6px 0")
    parts = [tag("b", text(headline), style="font-size: 1.2em"), tag("div", text(answer))]
    parts += [table] if rows else []
    parts += [warnings] if doubts else []
    return tag("div", join(parts), style=f"font-family: {style.FONT}; line-height: 1.5")
