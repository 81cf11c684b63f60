"""What a gate came to: the verdict, a table of the versions; or JSON."""

from typing import Any

from rich.console import Console

from tuner.cli.exit_codes import INCONCLUSIVE, NOT_MET, OK
from tuner.cli.output import as_json, say, table, write_json
from tuner.records.gate import GateRecord, Verdict
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.report.gate_wording import headline, reason
from tuner.report.wording import STATES
from tuner.units import format_clock, format_rate

_CODES = {Verdict.PASS: OK, Verdict.FAIL: NOT_MET, Verdict.INCONCLUSIVE: INCONCLUSIVE}


def show(run: Run, record: GateRecord, json: bool, console: Console) -> int:
    """Print the outcome; the exit code of the verdict."""
    evaluations = run.evaluations()
    if json:
        write_json(console, _as_dict(run, record, evaluations))
    else:
        _show(run, record, evaluations, console)
    return _CODES[record.verdict]


def _show(run: Run, record: GateRecord, evaluations: list[Evaluation], console: Console) -> None:
    if evaluations:
        shown = table()
        shown.add_column("version")
        shown.add_column("result")
        for name in ("capacity", "95 %", "rounds", "time"):
            shown.add_column(name, justify="right")
        for each in evaluations:
            known = each.low is not None and each.high is not None
            shown.add_row(
                each.deployment,
                STATES[each.state],
                format_rate(each.capacity),
                f"{format_rate(each.low)} to {format_rate(each.high)}" if known else "-",
                str(len(each.by_round)) if each.by_round else "-",
                format_clock(each.seconds),
            )
        console.print(shown)
    say(console, f"{headline(record)}.", reason(record))
    for each in evaluations:
        if each.failure:
            say(console, f"{each.deployment}: {each.failure.strip()}")
    say(console, *(f"note: {note}" for note in record.notes))
    if record.unkept:
        say(console, f"note: not in git, so the same for both: {', '.join(record.unkept[:5])}")
    say(console, f"report: {run.report}")


def _as_dict(run: Run, record: GateRecord, evaluations: list[Evaluation]) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "report": str(run.report),
        **as_json([record])[0],
        "headline": headline(record),
        "reason": reason(record),
        "versions": [
            {
                "version": each.deployment,
                "state": each.state.value,
                "failure": each.failure,
                "capacity_per_second": each.capacity,
                "capacity_interval": [each.low, each.high],
                "rounds": len(each.by_round),
                "seconds": each.seconds,
            }
            for each in evaluations
        ],
    }
