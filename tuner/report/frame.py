"""What all reports are made of: the page round its body, sections, figures, environment.

A page needs no network and cannot use one: its content security policy forbids every request.
"""

import gzip
import json
from base64 import b85encode
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template

from plotly.offline import get_plotlyjs

from tuner.records.manifest import Manifest
from tuner.report import style
from tuner.report.drawing import Drawing
from tuner.report.html import Html, code, fold, items, join, mapping, paragraph, tag, text

_SHOWN = ("kind", "format", "sla", "command", "seed", "environment", "space")
"""What of a manifest stands in a place of its own."""
_WIDE = ("settings",)
"""Figures that scroll on narrow screens, since their columns cannot shrink."""


def render_page(title: str, body: Html, drawn: Sequence[Drawing]) -> str:
    """The whole file; the figures of ``drawn`` go where ``figure`` left room for them."""
    figures = {d.name: json.loads(d.figure.to_json()) for d in drawn if d.figure is not None}
    colors = {"baseline": style.BASELINE, "winner": style.WINNER, "sla": style.SLA}
    return _template("page.html").substitute(
        title=text(title),
        css=_template("page.css").substitute(colors, font=style.FONT),
        body=body,
        plotly=_plotly() if figures else "",
        figures=packed(json.dumps(figures, allow_nan=False)),
        js=_read("page.js"),
    )


def packed(content: str) -> Html:
    """``content`` as page.js unpacks it from a script element: gzip, then base85 (RFC 1924).

    Plotly's script shrinks to 38 %. The alphabet has no "/", so nothing ends the element early.
    "," stands for "<", because an open ``<!--`` would hide the element's end.
    """
    compressed = gzip.compress(content.encode(), compresslevel=9, mtime=0)
    return Html(b85encode(compressed).decode().replace("<", ","))


@cache
def _plotly() -> Html:
    """Plotly's script. It has an element of its own: alike in all reports, git stores it once."""
    return packed(get_plotlyjs())


def head(
    eyebrow: str, headline: str, answer: str, details: Html | None, warnings: Sequence[str]
) -> Html:
    """What a reader sees first: the answer with its details, and what limits its worth."""
    return join(
        (
            tag("p", text(eyebrow), class_="eyebrow"),
            tag("h1", text(headline)),
            paragraph(answer, class_="answer"),
            details or Html(""),
            items(warnings, class_="warnings") if warnings else Html(""),
        )
    )


def section(title: str, content: Html | None) -> Html:
    """Nothing where there is no content."""
    return Html("") if content is None else tag("section", tag("h2", text(title)), content)


def figures(drawn: Sequence[Drawing]) -> Html | None:
    """None without any. On large screens two stand side by side."""
    return tag("div", *map(figure, drawn), class_="figures") if drawn else None


def figure(drawing: Drawing) -> Html:
    title = tag("h3", text(drawing.title))
    if drawing.figure is None:
        missing = paragraph(f"Not shown. {drawing.missing}", class_="reading")
        return tag("figure", title, missing, class_="absent")
    plot = tag(
        "div",
        id=f"figure-{drawing.name}",
        class_="plot",
        style=f"height:{drawing.figure.layout.height}px",
        role="img",
        aria_label=drawing.title,
    )
    if drawing.name in _WIDE:
        plot = tag("div", plot, class_="pane", tabindex=0, role="group", aria_label=drawing.title)
    return tag("figure", title, paragraph(drawing.reading, class_="reading"), plot)


def ending(manifest: Manifest, run: str) -> Html:
    """Environment, how to repeat the run, and the footer."""
    footer = tag("footer", text(f"Made by tuner from the records of the run {run}."))
    return join((_environment(manifest), _repeat(manifest), footer))


def _environment(manifest: Manifest) -> Html:
    recorded = manifest.environment.model_dump(mode="json", exclude_defaults=True)
    if not recorded:
        return section("Environment", paragraph("The run did not record its environment."))
    return section("Environment", mapping(recorded))


def _repeat(manifest: Manifest) -> Html:
    """The command, and what of the experiment is not told elsewhere on the page."""
    recorded = manifest.model_dump(mode="json", exclude_none=True)
    parts = [paragraph("The run did not record its command line.")]
    if manifest.command:
        parts = [tag("div", code(manifest.command, "command"), class_="command")]
    parts.append(fold("Search space", mapping(recorded["space"])))
    asked = recorded.pop("experiment")
    rest = {k: v for k, v in {**asked, **recorded}.items() if k not in _SHOWN}
    parts.append(fold("Other fields of experiment.yaml", mapping(rest)))
    return section("Repeat this run", join(parts))


def _read(name: str) -> str:
    return files("tuner.report").joinpath(name).read_text(encoding="utf-8")


def _template(name: str) -> Template:
    return Template(_read(name))
