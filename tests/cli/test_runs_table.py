"""Runs as a table: one line each, in a pipe and on a terminal of any width."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from tuner.cli.runs_table import show_runs
from tuner.commands.listing import Listed

STARTED = datetime(2026, 1, 2, tzinfo=UTC)
WINNER = "batch 64, instances 2, preferred 8 and 16, queue delay 500us, priority levels 2"
SEARCH = Listed(
    Path("reports/text_classifier-20260102-030405"),
    *("search", "text_classifier", "p99 ≤ 20 ms", STARTED, "unfinished", WINNER, 1234.0, 2.3, 1),
)
COMPARISON = Listed(
    Path("reports/night[1]"), *("compare", "m", "s", STARTED, "finished", None, None, None, 1)
)


def lines(width: int, is_terminal: bool) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None
    )
    show_runs([SEARCH, COMPARISON], console)
    assert isinstance(console.file, io.StringIO)
    shown = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return [line for line in shown if line and "─" not in line]


def test_a_pipe_gets_all_of_a_run_in_one_line() -> None:
    heads, search, comparison = lines(80, is_terminal=False)
    assert heads.endswith("winner")
    assert search.split()[0] == str(SEARCH.folder)
    assert search.endswith(WINNER)
    assert comparison.split()[0] == "reports/night[1]"


@pytest.mark.parametrize("width", [72, 80, 100, 120, 140, 300])
def test_a_terminal_gets_a_line_that_fits_with_the_name_and_the_state(width: int) -> None:
    heads, search, comparison = lines(width, is_terminal=True)
    assert max(map(len, (heads, search, comparison))) <= width
    assert str(SEARCH.folder) in search
    for known in ("unfinished", "1,234/s", "2.3"):
        assert known in search
    assert ("winner" in heads) is (width >= 100)
    assert WINNER in search or width < 300
    assert ("…" in search) is (100 <= width < 300)
