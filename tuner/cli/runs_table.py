"""Runs as a table: whole in a pipe, no wider than the terminal on one."""

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.text import Text

from tuner.cli.output import table
from tuner.commands.listing import Listed
from tuner.report.wording import times
from tuner.text import printable
from tuner.units import format_rate

_UNCUT = 100_000
"""Columns of a pipe: more than any run takes."""
_DISPENSABLE = ("kind", "started", "winner")
"""What a narrow terminal goes without, in this order: a run's own name says when it began."""
_LEAST = 16
"""Columns that a winner is cut to."""

Row = dict[str, str]


def show_runs(listed: list[Listed], console: Console) -> None:
    """One line per run."""
    if not console.is_terminal:
        console.width = _UNCUT
    rows = list(map(_row, listed))
    names = _fitting(rows, console.width)
    shown = table()
    for name in names:
        side: JustifyMethod = "right" if name in ("capacity", "gain") else "left"
        # Rich makes columns narrower that may wrap, before all others.
        shown.add_column(name, justify=side, no_wrap=name != "winner")
    for row in rows:
        shown.add_row(*(Text(row[n], no_wrap=True, overflow="ellipsis") for n in names))
    console.print(shown)


def _row(each: Listed) -> Row:
    return {
        "run": printable(str(each.folder)),
        "kind": each.kind,
        "started": f"{each.started.astimezone():%Y-%m-%d %H:%M}",
        "state": each.state,
        "capacity": format_rate(each.capacity) if each.capacity else "-",
        "gain": times(each.gain) if each.gain else "-",
        "winner": printable(each.winner or "-"),
    }


def _fitting(rows: list[Row], width: int) -> list[str]:
    """The columns for which there is room."""
    names = list(rows[0])
    for name in _DISPENSABLE:
        if sum(_width(rows, each) + 2 for each in names) < width:
            break
        names.remove(name)
    return names


def _width(rows: list[Row], name: str) -> int:
    widest = max(len(name), *(cell_len(row[name]) for row in rows))
    return min(widest, _LEAST) if name == "winner" else widest
