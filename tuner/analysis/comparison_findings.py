"""What the records of a comparison of deployments come to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from tuner.analysis.contenders import Contender, contenders
from tuner.analysis.doubts import Doubt, Lack, Lacking, doubts_on, doubts_on_machine
from tuner.analysis.recommend import Recommendation, recommend
from tuner.analysis.replicas import ReplicaPlan, plan_replicas
from tuner.analysis.rules import Judgement, judge_rules
from tuner.errors import UnitError
from tuner.goals.sla import Sla
from tuner.records.comparison import Comparison, read_comparison
from tuner.records.results import Evaluation
from tuner.records.run import Run


@dataclass(frozen=True)
class ComparisonFindings:
    """``simulated`` has capacities (requests/s) by deployment where the load generator gave out; by
    default those that the comparison holds.
    """

    comparison: Comparison
    evaluations: list[Evaluation]
    simulated: Mapping[str, float] | None = None

    @classmethod
    def of(cls, run: Run, simulated: Mapping[str, float] | None = None) -> "ComparisonFindings":
        """RunError where the records cannot be read."""
        return cls(read_comparison(run), run.evaluations(), simulated)

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
        return {deployed.name: deployed.title for deployed in self.comparison.deployments}

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
        return plan_replicas(self.comparison, self.evaluations, rate, self.simulated)

    def doubts(self) -> Iterator[Doubt]:
        """What a reader must know before trusting the answer; none is good news."""
        deployments = self.comparison.deployments
        missing = ", ".join(d.title for d in deployments if d.name not in self.by_name)
        if self.evaluations and missing:
            yield Lacking(Lack.EVALUATION, missing)
        for contender in self.contenders:
            yield from doubts_on(contender.title, contender.evaluation)
        yield from doubts_on_machine(self.evaluations)
