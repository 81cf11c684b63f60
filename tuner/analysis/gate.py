"""Whether a change makes a model slower: verdicts of a gate."""

from dataclasses import dataclass

from tuner.analysis.ratios import Ratio
from tuner.deadline import OUT_OF_TIME
from tuner.goals.verdict import SlaOutcome
from tuner.records.gate import Cause, GateRecord, Verdict
from tuner.records.results import Evaluation, State

FEWEST_ROUNDS = 2
"""Rounds that a verdict rests on: one alone may have had a bad moment of the machine."""


@dataclass(frozen=True)
class Judgement:
    """``ratio`` is new / old, with the interval that the verdict rests on; None where there are no
    two capacities.
    """

    verdict: Verdict
    cause: Cause
    ratio: Ratio | None = None


def judgement_of(record: GateRecord) -> Judgement:
    if record.ratio is None or record.low is None or record.high is None:
        return Judgement(record.verdict, record.cause)
    return Judgement(record.verdict, record.cause, Ratio(record.ratio, record.low, record.high))


def judge_ratio(ratio: Ratio | None, margin: float) -> Judgement:
    """A test of non-inferiority, as of a drug beside an established one: the change passes once it
    is sure that no more than the margin is lost. It fails once it is sure that something is lost,
    and more than the margin is more likely than not.
    """
    if ratio is None:
        return Judgement(Verdict.INCONCLUSIVE, Cause.UNKNOWN)
    if ratio.low > 1 - margin:
        return Judgement(Verdict.PASS, Cause.NOT_WORSE, ratio)
    if ratio.high < 1 and ratio.value < 1 - margin:
        return Judgement(Verdict.FAIL, Cause.WORSE, ratio)
    return Judgement(Verdict.INCONCLUSIVE, Cause.OPEN, ratio)


def judge_versions(
    old: Evaluation, new: Evaluation, ratio: Ratio | None, margin: float, rounds: int
) -> Judgement:
    """Of what was measured in so many rounds, and the ratio of the two capacities. Whatever leaves
    one of these unknown that is not the new version's own fault leaves the verdict open.
    """
    if _is_at_fault(old):
        return Judgement(Verdict.INCONCLUSIVE, Cause.OLD_FAILED)
    if _is_at_fault(new):
        return Judgement(Verdict.FAIL, Cause.NEW_FAILED)
    if rounds < FEWEST_ROUNDS:
        return Judgement(Verdict.INCONCLUSIVE, Cause.UNKNOWN)
    misses = [each.state is State.INFEASIBLE for each in (old, new)]
    if all(misses):
        return Judgement(Verdict.INCONCLUSIVE, Cause.BOTH_MISS_SLA)
    if misses == [False, True] and old.capacity is not None:
        return Judgement(Verdict.FAIL, Cause.NEW_MISSES_SLA)
    if misses == [True, False] and new.capacity is not None:
        return Judgement(Verdict.PASS, Cause.OLD_MISSES_SLA)
    return judge_ratio(ratio, margin)


def judge_outcome(evaluation: Evaluation, outcome: SlaOutcome) -> Judgement:
    """Of a test of one rate."""
    if _is_at_fault(evaluation):
        return Judgement(Verdict.FAIL, Cause.NEW_FAILED)
    if outcome is SlaOutcome.MET:
        return Judgement(Verdict.PASS, Cause.RATE_MET)
    breaks_constraint = evaluation.state is State.INFEASIBLE and bool(evaluation.failure)
    is_violated = outcome is SlaOutcome.VIOLATED and not evaluation.client_limited
    if is_violated or breaks_constraint:
        return Judgement(Verdict.FAIL, Cause.RATE_VIOLATED)
    return Judgement(Verdict.INCONCLUSIVE, Cause.RATE_OPEN)


def _is_at_fault(evaluation: Evaluation) -> bool:
    """Whether it failed by itself: not for lack of time, nor of a client that keeps up."""
    is_out_of_time = (evaluation.failure or "").startswith(OUT_OF_TIME)
    is_own = not (is_out_of_time or evaluation.client_limited)
    return evaluation.state is State.FAILED and is_own
