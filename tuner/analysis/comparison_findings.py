"""What the records of a comparison of deployments come to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tuner.analysis.contenders import Contender, contenders, title_of
from tuner.analysis.doubts import (
    Doubt,
    Lack,
    Lacking,
    baseline_differs,
    doubts_on,
    doubts_on_machine,
)
from tuner.analysis.ratios import ratio
from tuner.analysis.recommend import Recommendation, recommend
from tuner.analysis.replicas import ReplicaPlan, plan_replicas
from tuner.analysis.rules import TUNED, Judgement, judge_rules
from tuner.errors import RunError, UnitError
from tuner.goals.sla import Sla
from tuner.records.comparison import Comparison, read_comparison
from tuner.records.results import Evaluation, baseline, best
from tuner.records.run import Run

SEARCH = "search"
"""The folder of the search that a comparison makes itself, in its own."""


@dataclass(frozen=True)
class ComparisonFindings:
    """``simulated`` has capacities (requests/s) by deployment where the load generator gave out; by
    default those that the comparison holds. ``searched`` are the evaluations of the search that the
    comparison made itself; none if it took the configuration from elsewhere.
    """

    comparison: Comparison
    evaluations: list[Evaluation]
    simulated: Mapping[str, float] | None = None
    searched: Sequence[Evaluation] = ()

    @classmethod
    def of(cls, run: Run, simulated: Mapping[str, float] | None = None) -> "ComparisonFindings":
        """RunError where the records cannot be read."""
        return cls(read_comparison(run), run.evaluations(), simulated, _searched(run))

    @cached_property
    def sla(self) -> Sla | None:
        """As it was given or as it prints itself; None where it is neither."""
        try:
            return Sla.parse(self.comparison.sla.replace(" and ", ",").replace("≤", "<"))
        except UnitError:
            return None

    @cached_property
    def contenders(self) -> list[Contender]:
        return contenders(self.comparison, self.evaluations)

    @cached_property
    def by_name(self) -> dict[str, Contender]:
        return {each.name: each for each in self.contenders}

    @cached_property
    def titles(self) -> dict[str, str]:
        return {deployed.name: title_of(deployed) for deployed in self.comparison.deployments}

    @cached_property
    def recommendation(self) -> Recommendation:
        return recommend(self.comparison, self.evaluations)

    @cached_property
    def judgements(self) -> list[Judgement]:
        return judge_rules(self.comparison, self.evaluations)

    @cached_property
    def plans(self) -> list[ReplicaPlan]:
        """For the rate that is to be served; none where none was given."""
        rate = self.comparison.target_rate
        if rate is None:
            return []
        return plan_replicas(self.comparison, self.evaluations, rate, self.simulated, self.sla)

    @cached_property
    def has_better_configuration(self) -> bool:
        """Whether tuning found a configuration that serves more than the baseline: in the search
        if it is known, and beyond the intervals of the comparison if both were measured in it.
        """
        found = best(list(self.searched))
        if self.searched and (found is None or found.baseline):
            return False
        tuned = next((e for e in self.contenders if e.name == TUNED), None)
        compared = ratio(tuned, self._baseline) if tuned and self._baseline else None
        return compared is None or compared.low > 1

    @property
    def _baseline(self) -> Contender | None:
        """Triton with the model's own configuration."""
        return self.by_name.get("triton")

    def doubts(self) -> Iterator[Doubt]:
        """What a reader must know before trusting the answer; none is good news."""
        deployments = self.comparison.deployments
        missing = ", ".join(title_of(d) for d in deployments if d.name not in self.by_name)
        if self.evaluations and missing:
            yield Lacking(Lack.EVALUATION, missing)
        for contender in self.contenders:
            yield from doubts_on(contender.title, contender.evaluation)
        searched, own = baseline(list(self.searched)), self._baseline
        if searched is not None and own is not None:
            yield from baseline_differs(searched, own.evaluation)
        yield from doubts_on_machine(self.evaluations)


def _searched(run: Run) -> list[Evaluation]:
    """Of the search in the comparison's folder; none where there is none that can be read."""
    try:
        return Run.open(run.folder / SEARCH).evaluations()
    except RunError:
        return []
