"""The report of a run: one self-contained HTML file, made from the run's records alone."""

import zipfile
from pathlib import Path

from tuner.errors import StorageError
from tuner.records.manifest import CompareManifest
from tuner.records.results import Evaluation
from tuner.records.run import Run, write_text
from tuner.report import compare_page
from tuner.report.figures import Drawing, drawings
from tuner.report.frame import environment, figure, footer, render_page, repeat, section
from tuner.report.html import Html, code, diff, items, join, paragraph, tag, text
from tuner.report.sections import cards, failures, measurement, search, table
from tuner.report.story import Story, same
from tuner.stats.samples import Samples


def write_report(run: Run) -> Path:
    """Write ``report.html`` anew, of a search, a measurement or a comparison; RunError where the
    records cannot be read.
    """
    html = compare_page.page(run) if isinstance(run.manifest(), CompareManifest) else _page(run)
    try:
        write_text(run.report, html)
    except OSError as error:
        raise StorageError(f"cannot write {run.report}: {error.strerror}") from error
    return run.report


def _page(run: Run) -> str:
    evaluations = run.evaluations()
    story = Story(run.manifest(), evaluations, run.outcome())
    drawn = drawings(evaluations, story.sla, _samples_at_capacity(run, story))
    return render(story, drawn, run.folder.name)


def render(story: Story, drawn: list[Drawing], name: str) -> str:
    return render_page(f"{story.headline()} · {name}", _body(story, drawn, name), drawn)


def _body(story: Story, drawn: list[Drawing], name: str) -> Html:
    return join(
        (
            _head(story, name),
            _configuration(story),
            section("Figures", join(map(figure, drawn))) if story.evaluations else Html(""),
            section("All candidates", table(story)) if story.evaluations else Html(""),
            section("How the search went", search(story)),
            section("Failures", failures(story)),
            section("How it was measured", measurement(story)),
            environment(story.manifest),
            repeat(story.manifest),
            footer(name),
        )
    )


def _head(story: Story, name: str) -> Html:
    model = str(story.manifest.experiment.model)
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
        return section("The configuration as found", code(first.config, "config"))
    if first is None or same(first, last):
        return section("The configuration", code(last.config, "config"))
    whole = tag("div", tag("h3", text("config.pbtxt of the winner")), code(last.config, "config"))
    title = tag("h3", text("What changes against the model as found"))
    changed = tag("div", title, diff(first.config, last.config))
    return section("The configuration to use", tag("div", whole, changed, class_="columns"))


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
