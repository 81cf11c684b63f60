"""Small pieces of HTML; every text that comes in is escaped here and nowhere else.

``Html`` marks what is markup already, so that a text cannot be taken for markup by mistake.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NewType
from urllib.parse import quote

import yaml

Html = NewType("Html", str)


def text(value: object) -> Html:
    return Html(escape(str(value)))


def tag(name: str, *content: Html, **attributes: object) -> Html:
    """An element round markup; ``class_`` becomes ``class``, ``data_value`` ``data-value``."""
    pairs = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{pairs}>{''.join(content)}</{name}>")


def join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def paragraph(sentence: str, **attributes: object) -> Html:
    return tag("p", text(sentence), **attributes)


def items(sentences: Iterable[str], **attributes: object) -> Html:
    return tag("ul", *(tag("li", text(s)) for s in sentences), **attributes)


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """A list of names and values."""
    rows = (join((tag("dt", text(name)), tag("dd", text(value)))) for name, value in pairs)
    return tag("dl", *rows, class_="facts")


def mapping(values: Mapping[str, Any]) -> Html:
    """Names and values of a record whose shape is not known; what is nested is shown as YAML."""
    rows = (
        join((tag("dt", text(name)), tag("dd", _value(value)))) for name, value in values.items()
    )
    return tag("dl", *rows, class_="facts")


def _value(value: Any) -> Html:
    if isinstance(value, dict | list):
        return tag("pre", text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip()))
    return text(value)


def code(content: str, key: str) -> Html:
    """A block of code with a button that copies it."""
    button = tag("button", text("Copy"), type="button", class_="copy", data_copy=key)
    return tag("div", button, tag("pre", text(content), id=key, tabindex=0), class_="code")


def download(label: str, content: str, name: str) -> Html:
    """A button that saves ``content`` as a file; it needs no script and no server."""
    address = f"data:text/plain;charset=utf-8,{quote(content)}"
    return tag("a", text(label), href=address, download=name, class_="button")


def diff(before: str, after: str) -> Html:
    """The changed lines with some of their surroundings, removed and added ones marked."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3))
    kinds = {"-": "removed", "+": "added", "@": "place"}
    marked = (
        tag("span", text(line + "\n"), class_=kinds.get(line[:1], "context")) for line in lines[2:]
    )
    return tag("pre", *marked, class_="diff", tabindex=0)


def fold(summary: str, content: Html) -> Html:
    return tag("details", tag("summary", text(summary)), content)


def card(name: str, value: str, note: str, kind: str = "", **attributes: object) -> Html:
    """A key figure with its name above and a note below."""
    content = (
        tag("div", text(name), class_="name"),
        tag("div", text(value), class_="value"),
        tag("div", text(note), class_="note"),
    )
    return tag("div", *content, class_=f"card {kind}".strip(), **attributes)


def table(names: Sequence[str], word_columns: Sequence[str], rows: Iterable[Html]) -> Html:
    """A click on a heading sorts; ``word_columns`` are aligned to the left."""
    head = join(_heading(name, name in word_columns) for name in names)
    whole = tag("table", tag("thead", tag("tr", head)), tag("tbody", *rows))
    label = f"table of {names[0]}s"
    return tag("div", whole, class_="scroll", tabindex=0, role="group", aria_label=label)


def _heading(name: str, has_words: bool) -> Html:
    kind = "words" if has_words else None
    return tag("th", tag("button", text(name), type="button"), class_=kind, scope="col")


def number_cell(value: float | None, shown: str) -> Html:
    """A cell with what sorting goes by: empty, so last, where there is no data."""
    return tag("td", text(shown), data_value="" if value is None else value)


def word_cell(content: str, kind: str = "", **attributes: object) -> Html:
    """A cell of words; ``kind`` is ``wide``, ``short`` or a verdict's color."""
    return tag("td", text(content), class_=f"words {kind}".strip(), **attributes)


def failures(reasons: Iterable[tuple[str, str]]) -> Html | None:
    """What failed, each with its reason as it was; None where there are none."""
    rows = [
        join((tag("dt", text(name)), tag("dd", text(reason.strip()), class_="reason")))
        for name, reason in reasons
    ]
    return tag("dl", *rows, class_="facts") if rows else None
