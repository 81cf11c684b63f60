"""What summaries share: lines, tables, JSON, and the exit code of a result."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tuner.cli.exit_codes import MISSING, NOT_MET, OK
from tuner.records.results import Evaluation, ProbeRecord, Record, State
from tuner.text import printable


def exit_code(is_met: bool, evaluations: Iterable[Evaluation]) -> int:
    """0 where the SLA is kept, 3 where nothing could even be measured, else 1."""
    if is_met:
        return OK
    return MISSING if all(e.state is State.FAILED for e in evaluations) else NOT_MET


def say(console: Console, *lines: str) -> None:
    """As they are: nothing is taken for markup, nothing wrapped."""
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def write_json(console: Console, values: dict[str, Any]) -> None:
    console.file.write(json.dumps(values, allow_nan=False) + "\n")


def table(title: str | None = None) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")


def plain(text: str) -> str:
    """What Rich would take for markup stays as it is; no control characters."""
    return printable(text).replace("[", r"\[")


def as_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """As the records are written to files: what is infinite is a text there."""
    return [json.loads(record.model_dump_json()) for record in records]


def latency(probe: ProbeRecord | None, percentile: str) -> float | None:
    return probe.latency.get(percentile) if probe is not None else None
