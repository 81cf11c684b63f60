"""The report of a run: one self-contained HTML file, made from the run's records alone.

It needs no network and cannot use one: its content security policy forbids every request.
"""

import json
import zipfile
from importlib.resources import files
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from tuner.errors import StorageError
from tuner.report import style
from tuner.report.figures import Drawing, drawings
from tuner.report.html import (
    Html,
    code,
    diff,
    fold,
    items,
    join,
    mapping,
    paragraph,
    script_json,
    tag,
    text,
)
from tuner.report.sections import cards, failures, measurement, search, table
from tuner.report.story import Story, same
from tuner.results import Evaluation
from tuner.run import Run, write_text
from tuner.samples import Samples

_OWN_SECTIONS = ("sla", "model", "command", "seed", "environment", "space")


def write_report(run: Run) -> Path:
    """Write ``report.html`` anew; RunError where the records cannot be read."""
    evaluations = run.evaluations()
    story = Story.of(run.experiment(), evaluations, run.outcome())
    drawn = drawings(evaluations, story.sla, _samples_at_capacity(run, story))
    html = render(story, drawn, run.folder.name)
    try:
        write_text(run.report, html)
    except OSError as error:
        raise StorageError(f"cannot write {run.report}: {error.strerror}") from error
    return run.report


def render(story: Story, drawn: list[Drawing], name: str) -> str:
    figures = {d.name: json.loads(d.figure.to_json()) for d in drawn if d.figure is not None}
    colours = {"baseline": style.BASELINE, "winner": style.WINNER, "sla": style.SLA}
    return _template("page.html").substitute(
        title=text(f"{story.headline()} · {name}"),
        css=_template("page.css").substitute(colours, font=style.FONT),
        body=_body(story, drawn, name),
        plotly=get_plotlyjs() if figures else "",
        figures=script_json(figures),
        js=_read("page.js"),
    )


def _body(story: Story, drawn: list[Drawing], name: str) -> Html:
    return join(
        (
            _head(story, name),
            _configuration(story),
            _section("Figures", join(map(_figure, drawn))) if story.evaluations else Html(""),
            _section("All candidates", table(story)) if story.evaluations else Html(""),
            _optional_section("How the search went", search(story)),
            _optional_section("Failures", failures(story)),
            _section("How it was measured", measurement(story)),
            _environment(story),
            _repeat(story),
            tag("footer", text(f"Made by tuner from the records of the run {name}.")),
        )
    )


def _head(story: Story, name: str) -> Html:
    model = str(story.experiment.get("model", "unknown model"))
    warnings = story.warnings()
    return join(
        (
            tag("p", text(f"{model} · run {name}"), class_="eyebrow"),
            tag("h1", text(story.headline())),
            paragraph(story.answer(), class_="answer"),
            cards(story) if story.evaluations else Html(""),
            items(warnings, class_="warnings") if warnings else Html(""),
        )
    )


def _configuration(story: Story) -> Html:
    first, last = story.baseline, story.winner
    if last is None:
        if first is None:
            return Html("")
        return _section("The configuration as found", code(first.config, "config"))
    if first is None or same(first, last):
        return _section("The configuration", code(last.config, "config"))
    whole = tag("div", tag("h3", text("config.pbtxt of the winner")), code(last.config, "config"))
    title = tag("h3", text("What changes against the model as found"))
    changed = tag("div", title, diff(first.config, last.config))
    return _section("The configuration to use", tag("div", whole, changed, class_="columns"))


def _figure(drawing: Drawing) -> Html:
    title = tag("h3", text(drawing.title))
    if drawing.figure is None:
        missing = paragraph(f"Left out: {_lower_first(drawing.missing)}", class_="reading")
        return tag("figure", title, missing, class_="absent")
    plot = tag(
        "div",
        id=f"figure-{drawing.name}",
        class_="plot",
        style=f"height:{drawing.figure.layout.height}px",
        role="img",
        aria_label=drawing.title,
    )
    return tag("figure", title, paragraph(drawing.reading, class_="reading"), plot)


def _environment(story: Story) -> Html:
    environment = story.experiment.get("environment")
    if not isinstance(environment, dict) or not environment:
        return _section("Environment", paragraph("The run did not record its environment."))
    return _section("Environment", mapping(environment))


def _repeat(story: Story) -> Html:
    command = story.experiment.get("command")
    parts = [paragraph("The run did not record its command line.")]
    if command:
        parts = [tag("div", code(str(command), "command"), class_="command")]
    space = story.experiment.get("space")
    if isinstance(space, dict):
        parts.append(fold("Search space", mapping(space)))
    rest = {k: v for k, v in story.experiment.items() if k not in _OWN_SECTIONS}
    if rest:
        parts.append(fold("Everything else in experiment.yaml", mapping(rest)))
    return _section("Repeat this run", join(parts))


def _section(title: str, content: Html) -> Html:
    return tag("section", tag("h2", text(title)), content)


def _optional_section(title: str, content: Html | None) -> Html:
    return Html("") if content is None else _section(title, content)


def _samples_at_capacity(run: Run, story: Story) -> dict[str, Samples]:
    """The raw samples that figures need, by name; those that are gone or damaged are left out."""
    found = {}
    for subject in story.subjects:
        name = _samples_name(subject.evaluation)
        samples = _load(run.folder, name) if name else None
        if name and samples is not None:
            found[name] = samples
    return found


def _samples_name(evaluation: Evaluation) -> str | None:
    probe = evaluation.at_capacity()
    return probe.samples if probe is not None else None


def _load(folder: Path, name: str) -> Samples | None:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        return Samples.load(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _read(name: str) -> str:
    return files("tuner.report").joinpath(name).read_text(encoding="utf-8")


def _template(name: str) -> Template:
    return Template(_read(name))
