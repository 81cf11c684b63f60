"""What figures draw in one color: a candidate of a search, all others of it, or a deployment."""

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap

from tuner.analysis.contenders import Contender, contenders, title_of
from tuner.analysis.search_findings import (
    ComparedCandidate,
    is_same_candidate,
    subjects,
)
from tuner.records.comparison import UNBATCHED, Comparison, Deployed
from tuner.records.results import Evaluation, ProbeRecord
from tuner.report import style
from tuner.report.metric import Metric

_KINDS = {
    "naive": "#c9a46a",
    "fastapi": style.BASELINE,
    "hybrid": "#9361c4",
    "triton": "#6fb3df",
}
_OWN_SERVICES = ("#2f9e6e", "#c0567a", "#7d8f2a", "#5b6fd0")


@dataclass(frozen=True)
class Series:
    """Probes under one name in one color. ``is_crowd`` is for the candidates that are only there
    for comparison: small translucent marks without a line.
    """

    name: str
    color: str
    probes: list[ProbeRecord]
    is_crowd: bool = False


def color_of(subject: ComparedCandidate) -> str:
    return style.BASELINE if subject.role == "baseline" else style.WINNER


def label_of(subject: ComparedCandidate) -> str:
    """``winner, 431/s``: for a legend."""
    metric = Metric.of([subject.evaluation])
    value = metric.value(subject.evaluation)
    return style.label(subject.role if value is None else f"{subject.role}, {metric.show(value)}")


def by_role(
    evaluations: list[Evaluation], chosen: list[ComparedCandidate], others: str = "other candidates"
) -> Iterable[tuple[str, str, list[Evaluation]]]:
    """Name, color and evaluations: those of all others first, then of each of the chosen."""
    groups = [[e for e in evaluations if is_same_candidate(e, s.evaluation)] for s in chosen]
    taken = {id(e) for group in groups for e in group}
    yield others, style.OTHERS, [e for e in evaluations if id(e) not in taken]
    for subject, group in zip(chosen, groups, strict=True):
        yield subject.role, color_of(subject), group


def candidates(evaluations: list[Evaluation]) -> list[Series]:
    """Of a search: all other candidates, baseline, and winner or what came closest."""
    return [
        Series(name, color, [p for e in group for p in e.probes], is_crowd=not place)
        for place, (name, color, group) in enumerate(by_role(evaluations, subjects(evaluations)))
    ]


@dataclass(frozen=True)
class ShownDeployment:
    """A deployment with its color; ``contender`` is None where it was not measured."""

    deployed: Deployed
    contender: Contender | None
    color: str

    @property
    def plain_title(self) -> str:
        return title_of(self.deployed)

    @property
    def title(self) -> str:
        """For a figure."""
        return style.label(self.plain_title)

    @property
    def lines(self) -> str:
        """The title, broken for the side of a figure."""
        lines = wrap(self.plain_title, 17) or [self.deployed.name]
        return "<br>".join(map(style.label, lines))

    @property
    def evaluation(self) -> Evaluation | None:
        return self.contender.evaluation if self.contender is not None else None

    @property
    def series(self) -> Series:
        probes = [] if self.evaluation is None else list(self.evaluation.probes)
        return Series(self.title, self.color, probes)


def deployments(comparison: Comparison, evaluations: list[Evaluation]) -> list[ShownDeployment]:
    """One color per deployment, the same in all figures and tables."""
    by_name = {each.name: each for each in contenders(comparison, evaluations)}
    services = [d.name for d in comparison.deployments if d.kind == "service"]
    return [
        ShownDeployment(deployed, by_name.get(deployed.name), _color(deployed, services))
        for deployed in comparison.deployments
    ]


def _color(deployed: Deployed, services: list[str]) -> str:
    if deployed.kind == "service":
        return _OWN_SERVICES[services.index(deployed.name) % len(_OWN_SERVICES)]
    if deployed.kind != "triton":
        return _KINDS[deployed.kind]
    if deployed.name == UNBATCHED:
        return style.OTHERS
    return style.WINNER if deployed.tuned else _KINDS["triton"]
