"""What a server says cannot take over the terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tuner.cli.output import plain as as_cell
from tuner.cli.output import say, table
from tuner.cli.view import LiveView, PlainView
from tuner.errors import ServerFailed
from tuner.goals.sla import Sla
from tuner.text import printable

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp.exe\r[bold]\x00"


def shown(text: str) -> bool:
    """Whether only what may be on a terminal is in it."""
    return all(each in "\t\n" or each.isprintable() or each == "\xad" for each in text)


@given(st.text())
def test_no_control_character_is_left(text):
    assert not any(ord(each) < 32 and each not in "\t\n" for each in printable(text))
    printable(text).encode("utf-8")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_can_be_read_stays(text):
    assert printable(text) == text


def test_lines_and_tabs_stay():
    assert printable("one\n\ttwo") == "one\n\ttwo"


def test_an_error_of_a_server_is_fit_to_read():
    assert shown(str(ServerFailed(f"refused: {HOSTILE}")))


@pytest.mark.parametrize("live", [False, True])
def test_neither_view_lets_a_server_write_to_the_terminal(live):
    console = Console(file=io.StringIO(), width=200)
    sla = Sla.parse("p99<20ms")
    view = LiveView(console, sla, "title", None) if live else PlainView(console, sla)
    view.noted(HOSTILE)
    if isinstance(view, LiveView):
        console.print(view._render())
    say(console, HOSTILE)
    cells = table()
    cells.add_column("name")
    cells.add_row(as_cell(HOSTILE))
    console.print(cells)
    written = console.file.getvalue()
    assert written.count(r"\x1b]0;title") == 3
    assert written.count("[bold]") == 3
    assert shown(written)
