"""What the records of a search, or of one measurement, come to."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal

from tuner.analysis.breakdown import representative
from tuner.analysis.doubts import (
    ClientLimitedProbes,
    Doubt,
    Lack,
    Lacking,
    doubts_on,
    doubts_on_machine,
    drift,
    refutation,
)
from tuner.analysis.mixes import ModelShare, model_shares
from tuner.analysis.ratios import Ratio, gain
from tuner.analysis.steps import Span, StepUse, step_uses, waterfall
from tuner.goals.constraints import Constraint
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.load.mix import Mix
from tuner.model.space import format_value
from tuner.records.costs import objective_of
from tuner.records.manifest import Manifest
from tuner.records.phases import TimeBudget
from tuner.records.results import (
    Evaluation,
    Insight,
    Outcome,
    ProbeRecord,
    State,
    baseline,
    best,
    closest,
)
from tuner.records.run import Run

Role = Literal["baseline", "winner", "closest"]
LEAST_GAIN = 0.02
"""Share: a smaller gain is none, since capacities are found in steps of about that size."""
SAME_RATIO = 0.05
"""Share by which the gain may differ from the ratio of the two capacities and still be shown beside
them. They differ since the gain compares rounds, and a capacity rests on all probes."""


class GainVerdict(StrEnum):
    """Whether the winner is shown to be better than the baseline."""

    UNKNOWN = "unknown"
    """There is no winner, or no baseline that meets the SLA to compare it with."""
    BASELINE_BEST = "baseline best"
    NOT_SHOWN = "not shown"
    """The interval of the gain contains 1; of a gain without an interval, it is below 2 %."""
    TOO_SMALL = "too small"
    """Below 2 %, though its interval does not contain 1."""
    SHOWN = "shown"


@dataclass(frozen=True)
class ComparedCandidate:
    """One of the two candidates that a report compares, with the evaluation that counts for it."""

    role: Role
    evaluation: Evaluation


def is_same_candidate(one: Evaluation, other: Evaluation) -> bool:
    return one.candidate == other.candidate or (one.baseline and other.baseline)


def probes_of(evaluations: list[Evaluation], candidate: Evaluation) -> list[ProbeRecord]:
    """All probes of a candidate, from whatever phase."""
    return [p for e in evaluations if is_same_candidate(e, candidate) for p in e.probes]


def winner(evaluations: list[Evaluation]) -> Evaluation | None:
    """The search's winner or, in a run that only measured, what served the most."""
    measured = [e for e in evaluations if e.phase == "measure" and e.merit is not None]
    return best(evaluations) or max(measured, key=lambda e: e.merit or 0.0, default=None)


def subjects(evaluations: list[Evaluation]) -> list[ComparedCandidate]:
    """Baseline and winner, as far as they exist; one where the baseline is the winner.

    Where nothing meets the SLA, what came closest stands in the winner's place.
    """
    first, last, nearest = baseline(evaluations), winner(evaluations), closest(evaluations)
    chosen = [] if first is None else [ComparedCandidate("baseline", first)]
    second = nearest if last is None else last
    if second is not None and (first is None or not is_same_candidate(first, second)):
        chosen.append(ComparedCandidate("closest" if last is None else "winner", second))
    return chosen


def _is_verified_below(evaluation: Evaluation) -> bool:
    """Whether a rate was verified, and it is lower than the recommended one."""
    proof, recommended = evaluation.proof(), evaluation.recommended
    rate = proof.rate if proof is not None else None
    return rate is not None and recommended is not None and rate < (1 - SAME_RATIO) * recommended


@dataclass(frozen=True)
class SearchFindings:
    manifest: Manifest
    evaluations: list[Evaluation]
    outcome: Outcome | None = None
    budget: TimeBudget | None = None

    @classmethod
    def of(cls, run: Run) -> "SearchFindings":
        """RunError where the records cannot be read."""
        return cls(run.manifest(), run.evaluations(), run.outcome(), run.time_budget())

    @property
    def sla(self) -> Sla:
        return self.manifest.experiment.sla

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        return self.manifest.experiment.constraints

    @cached_property
    def winner(self) -> Evaluation | None:
        return winner(self.evaluations)

    @property
    def insight(self) -> Insight | None:
        """What the simulation says of the best configuration of several models."""
        return None if self.outcome is None else self.outcome.insight

    @property
    def mix(self) -> Mix | None:
        """How often each of several models was asked; None of a single one."""
        experiment = self.manifest.experiment
        if experiment.mix is None:
            return None
        return Mix(experiment.mix.weights, tuple(experiment.hold.items()))

    @property
    def model_shares(self) -> list[ModelShare]:
        """What each of several models serves in the best configuration."""
        chosen, mix = self.winner, self.mix
        if chosen is None or mix is None:
            return []
        return model_shares(chosen, representative(chosen), self.sla, mix, self.insight)

    @property
    def step_uses(self) -> list[StepUse]:
        """The models that work together in the best configuration."""
        probe = None if self.winner is None else representative(self.winner)
        return [] if probe is None else step_uses(probe)

    @property
    def waterfall(self) -> list[Span]:
        """Where the time of a request of a pipeline goes, in the best configuration."""
        probe = None if self.winner is None else representative(self.winner)
        return [] if probe is None else waterfall(probe, self.manifest.pipeline)

    @cached_property
    def baseline(self) -> Evaluation | None:
        return baseline(self.evaluations)

    @cached_property
    def closest(self) -> Evaluation | None:
        return closest(self.evaluations)

    @cached_property
    def subjects(self) -> list[ComparedCandidate]:
        return subjects(self.evaluations)

    @cached_property
    def objective(self) -> Objective | None:
        """What was minimised; None where the capacity was looked for."""
        return objective_of(self.evaluations)

    @property
    def baseline_wins(self) -> bool:
        first, last = self.baseline, self.winner
        return first is not None and last is not None and is_same_candidate(first, last)

    @property
    def all_failed(self) -> bool:
        return all(e.state is State.FAILED for e in self.evaluations)

    @property
    def gain(self) -> float | None:
        """Winner's capacity over the baseline's, or the baseline's cost over the winner's; None
        unless both have one.
        """
        if self.gain_interval is not None:
            return self.gain_interval.value
        if self.winner is None or self.baseline is None or not self.baseline.merit:
            return None
        return (self.winner.merit or 0.0) / self.baseline.merit

    @cached_property
    def gain_interval(self) -> Ratio | None:
        """The gain with its interval; None unless both were measured in interleaved rounds."""
        first, last = self.baseline, self.winner
        if first is None or last is None or not first.merit or self.baseline_wins:
            return None
        return gain(last, first)

    @cached_property
    def gain_verdict(self) -> GainVerdict:
        gain, interval = self.gain, self.gain_interval
        if self.baseline_wins:
            return GainVerdict.BASELINE_BEST
        if gain is None:
            return GainVerdict.UNKNOWN
        if interval is not None and interval.low <= 1:
            return GainVerdict.NOT_SHOWN
        if gain < 1 + LEAST_GAIN:
            return GainVerdict.NOT_SHOWN if interval is None else GainVerdict.TOO_SMALL
        return GainVerdict.SHOWN

    @property
    def to_deploy(self) -> Evaluation | None:
        """The winner if it is shown to be better than the baseline, or the baseline does not meet
        the SLA; else the baseline. None without a winner.
        """
        keeps = (GainVerdict.BASELINE_BEST, GainVerdict.NOT_SHOWN, GainVerdict.TOO_SMALL)
        return self.baseline if self.gain_verdict in keeps else self.winner

    @property
    def exports_unproven_winner(self) -> bool:
        """Whether the exported winner is not shown to be better than the baseline."""
        return self.winner is not None and not self.baseline_wins and self.to_deploy != self.winner

    @property
    def gain_fits_values(self) -> bool:
        """Whether the ratio of the two capacities, or costs, is the gain, up to rounding."""
        first, last = self.baseline, self.winner
        if self.gain is None or first is None or last is None or not first.merit or not last.merit:
            return False
        return abs(last.merit / first.merit / self.gain - 1) <= SAME_RATIO

    @property
    def candidates(self) -> int:
        return len({e.candidate for e in self.evaluations})

    def unmeasured_values(self) -> dict[str, list[str]]:
        """Of each parameter, the listed values that no candidate had."""
        lacking = {}
        for path, parameter in self.manifest.space.parameters.items():
            listed = map(format_value, parameter.values or ())
            seen = {format_value(e.candidate.get(path)) for e in self.evaluations}
            if unseen := [value for value in listed if value not in seen]:
                lacking[path] = unseen
        return lacking

    def doubts(self) -> Iterator[Doubt]:
        """What a reader must know before trusting the answer; none is good news."""
        if self.evaluations and self.baseline is None:
            yield Lacking(Lack.BASELINE)
        if self.winner is not None and all(e.phase == "search" for e in self.evaluations):
            yield Lacking(Lack.CONFIRMATION)
        is_confirmed = any(e.phase == "confirm" for e in self.evaluations)
        for subject in self.subjects:
            yield from doubts_on(subject.role, subject.evaluation)
            if is_confirmed and subject.evaluation.phase != "confirm":
                yield Lacking(Lack.OWN_CONFIRMATION, subject.role)
        if self.winner is not None and _is_verified_below(self.winner):
            yield Lacking(Lack.VERIFICATION, "winner")
        limited = sum(p.client_limited for e in self.evaluations for p in e.probes)
        if limited:
            yield ClientLimitedProbes(limited)
        for doubt in (refutation(self.evaluations), drift(self.evaluations)):
            if doubt is not None:
                yield doubt
        yield from doubts_on_machine(self.evaluations)
