"""A gate's result as other tools read it.

JUnit XML for test reports, Bencher Metric Format, the ``customBiggerIsBetter`` of
github-action-benchmark, and Markdown; annotations and the step summary of GitHub Actions.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tuner.errors import StorageError
from tuner.records.gate import NEW, GateRecord, Verdict, read_gate
from tuner.records.results import Evaluation
from tuner.records.run import Run, write_text
from tuner.report.gate_wording import headline, reason
from tuner.report.wording import STATES, percent
from tuner.units import format_duration, format_rate

_NANOSECONDS = 1e9
_LEVELS = {Verdict.PASS: "notice", Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning"}


def write_formats(run: Run, wanted: Mapping[str, Path]) -> None:
    """Write the run's result to each file, by the name of the format; StorageError if one cannot
    be written.
    """
    record, evaluations = read_gate(run), run.evaluations()
    for name, file in wanted.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, FORMATS[name](record, evaluations))
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}") from error


def tell_github(run: Run, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Append to the step summary, and the lines that GitHub Actions makes annotations of; none
    elsewhere.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    record, evaluations = read_gate(run), run.evaluations()
    summary = environment.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(markdown(record, evaluations))
        except OSError as error:
            raise StorageError(f"cannot write {summary}: {error.strerror or error}") from error
    text = _escaped(f"{headline(record)}. {reason(record)}")
    return [f"::{_LEVELS[record.verdict]} title=tuner gate::{text}"]


def _escaped(text: str) -> str:
    """As workflow commands have it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def markdown(record: GateRecord, evaluations: list[Evaluation]) -> str:
    """A headline, why, and a table of the versions."""
    lines = [f"## {_plain(headline(record))}", "", _plain(reason(record)), ""]
    if evaluations:
        lines += [
            "| version | result | capacity | 95 % | p99 near capacity |",
            "|---|---|---|---|---|",
        ]
    for each in evaluations:
        probe = each.at_capacity()
        cells = (
            each.deployment or NEW,
            STATES[each.state],
            format_rate(each.capacity),
            "-" if each.low is None else f"{format_rate(each.low)} to {format_rate(each.high)}",
            format_duration(None if probe is None else probe.latency.get("p99")),
        )
        lines.append(f"| {' | '.join(map(_plain, cells))} |")
    failures = [each for each in evaluations if each.failure]
    for each in failures:
        lines += [
            "",
            f"`{each.deployment}` failed:",
            "",
            "```",
            (each.failure or "").strip(),
            "```",
        ]
    lines += ["", *(f"- {_plain(note)}" for note in record.notes)]
    lines += [""] if record.notes else []
    against = f"{record.against} ({record.commit[:12]})" if record.commit else record.against
    lines += [
        f"Against {_plain(against)}, within {record.sla}, margin {percent(record.margin)}.",
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """What would be markup, or end a cell, is text."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#" else c for c in text)


def _bencher(record: GateRecord, evaluations: list[Evaluation]) -> str:
    measures: dict[str, Any] = {}
    for each in _new(evaluations):
        if each.capacity is not None:
            ends = {"lower_value": each.low, "upper_value": each.high}
            known = {name: value for name, value in ends.items() if value is not None}
            measures["throughput"] = {"value": each.capacity, **known}
        probe = each.at_capacity()
        p99 = probe.latency.get("p99") if probe is not None else None
        if p99 is not None and p99 < float("inf"):
            measures["latency"] = {"value": p99 * _NANOSECONDS}
    return json.dumps({record.model: measures} if measures else {}, indent=1) + "\n"


def _github_benchmark(record: GateRecord, evaluations: list[Evaluation]) -> str:
    rows = []
    for each in _new(evaluations):
        if each.capacity is None:
            continue
        row = {
            "name": f"{record.model}, capacity within {record.sla}",
            "unit": "requests/s",
            "value": each.capacity,
            "extra": headline(record),
        }
        if each.low is not None and each.high is not None:
            row["range"] = f"± {max(each.high - each.capacity, each.capacity - each.low):.3g}"
        rows.append(row)
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _junit(record: GateRecord, evaluations: list[Evaluation]) -> str:
    """A test case for each bound of the SLA where a rate was judged, else one of the capacity. What
    is inconclusive is an error, so that it never counts as passed.
    """
    seconds = sum(each.seconds for each in evaluations)
    cases = list(_cases(record, evaluations))
    counts = {kind: sum(found == kind for _, found, _ in cases) for kind in ("failure", "error")}
    suite = ElementTree.Element(
        "testsuite",
        name="tuner gate",
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped="0",
        time=f"{seconds:.3f}",
    )
    for name, found, message in cases:
        case = ElementTree.SubElement(
            suite, "testcase", classname=record.model, name=name, time=f"{seconds / len(cases):.3f}"
        )
        if found:
            ElementTree.SubElement(case, found, message=message, type=str(record.cause.name))
        failures = [each.failure for each in evaluations if each.failure]
        if failures:
            ElementTree.SubElement(case, "system-err").text = "\n\n".join(failures)
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, "unicode") + "\n"
    )


_KINDS = {Verdict.PASS: "", Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "error"}


def _cases(record: GateRecord, evaluations: list[Evaluation]) -> Iterator[tuple[str, str, str]]:
    """Names, kinds and messages."""
    message = f"{headline(record)}. {reason(record)}"
    if record.rate is None:
        yield f"capacity against {record.against}", _KINDS[record.verdict], message
        return
    probe = next((each.verdict() for each in evaluations), None)
    for bound in record.sla.split(","):
        percentile, _, limit = bound.strip().partition("<")
        seen = probe.latency.get(percentile.rpartition(":")[2]) if probe is not None else None
        name = f"{bound.strip()} at {format_rate(record.rate)}"
        yield (
            name,
            _KINDS[record.verdict],
            f"{message} {percentile}: {format_duration(seen)} of {limit}",
        )


def _new(evaluations: list[Evaluation]) -> Iterator[Evaluation]:
    return (each for each in evaluations if each.deployment == NEW)


FORMATS: Mapping[str, Callable[[GateRecord, list[Evaluation]], str]] = {
    "junit": _junit,
    "bencher": _bencher,
    "github-benchmark": _github_benchmark,
    "markdown": markdown,
}
