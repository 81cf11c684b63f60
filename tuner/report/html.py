"""Small pieces of HTML; every text that comes in is escaped here and nowhere else.

``Html`` marks what is markup already, so that a text cannot be taken for markup by mistake.
"""

import difflib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, NewType

import yaml

Html = NewType("Html", str)


def text(value: object) -> Html:
    return Html(escape(str(value)))


def tag(name: str, *content: Html, **attributes: object) -> Html:
    """An element round markup; ``class_`` becomes ``class``, ``data_value`` ``data-value``."""
    words = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{words}>{''.join(content)}</{name}>")


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
