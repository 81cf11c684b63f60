"""Runs as a table for a terminal."""

from collections.abc import Iterable

from rich.table import Table

from tuner.cli.output import plain, table
from tuner.commands.listing import Listed
from tuner.report.wording import times
from tuner.units import format_rate


def runs_table(listed: Iterable[Listed]) -> Table:
    """One row per run; the winner is wrapped if the terminal is narrow."""
    shown = table()
    for heading in ("run", "kind", "started", "state"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("capacity", "gain"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("winner")
    for each in listed:
        shown.add_row(
            plain(str(each.folder)),
            each.kind,
            f"{each.started.astimezone():%Y-%m-%d %H:%M}",
            each.state,
            format_rate(each.capacity) if each.capacity else "-",
            times(each.gain) if each.gain else "-",
            plain(each.winner or "-"),
        )
    return shown
