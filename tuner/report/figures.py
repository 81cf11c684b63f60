"""The figures of a run by their stable names, for pages and notebooks."""

import zipfile
from pathlib import Path

import plotly.graph_objects as go

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.analysis.search_findings import SearchFindings
from tuner.errors import UsageError
from tuner.model.space import did_you_mean
from tuner.records.manifest import CompareManifest
from tuner.records.run import Run
from tuner.report import compare_figures, gate_figures, search_figures
from tuner.report.drawing import Drawing
from tuner.stats.samples import Samples


def is_comparison(run: Run) -> bool:
    return isinstance(run.manifest(), CompareManifest)


def names(run: Run) -> tuple[str, ...]:
    """What ``figure`` knows of a run of this kind, in reading order."""
    if is_comparison(run):
        return compare_figures.NAMES
    if run.manifest().kind == "gate":
        return gate_figures.NAMES
    manifest = run.manifest()
    several = bool(manifest.pipeline) or manifest.experiment.mix is not None
    return (*search_figures.TOGETHER, *search_figures.NAMES) if several else search_figures.NAMES


def drawings(run: Run) -> list[Drawing]:
    """Every figure that fits the run, with its words, in reading order."""
    if is_comparison(run):
        return compare_figures.drawings(ComparisonFindings.of(run))
    if run.manifest().kind == "gate":
        return gate_figures.drawings(run.evaluations(), run.manifest().experiment.sla)
    return search_drawings(run, SearchFindings.of(run))


def search_drawings(run: Run, findings: SearchFindings) -> list[Drawing]:
    samples = _samples_at_capacity(run, findings)
    together = search_figures.drawings_together(findings)
    return [*together, *search_figures.drawings(findings.evaluations, findings.sla, samples)]


def figure(run: Run, name: str) -> go.Figure:
    """The figure of that name; UsageError where there is none, which says why."""
    known = names(run)
    if name not in known:
        hint = did_you_mean(name, list(known))
        raise UsageError(f"no figure is called {name!r}{hint}")
    drawing = next((d for d in drawings(run) if d.name == name), None)
    if drawing is None:
        raise UsageError(f"the run has nothing to draw {name!r} from")
    if drawing.figure is None:
        raise UsageError(f"the run has nothing to draw {name!r} from: {drawing.missing}")
    return drawing.figure


def _samples_at_capacity(run: Run, findings: SearchFindings) -> dict[str, Samples]:
    """The raw samples that figures need, by name; those that are gone or damaged are left out."""
    probes = [subject.evaluation.at_capacity() for subject in findings.subjects]
    names = [probe.samples for probe in probes if probe is not None and probe.samples]
    samples = {name: _load(run.folder, name) for name in names}
    return {name: raw for name, raw in samples.items() if raw is not None}


def _load(folder: Path, name: str) -> Samples | None:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        return Samples.load(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
