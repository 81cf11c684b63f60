"""Verdicts of a gate: what passes, what fails, and how often either is wrong."""

from typing import Any

import numpy as np
import pytest

from tests.records.test_results import evaluation
from tuner.analysis.gate import judge_outcome, judge_ratio, judge_versions
from tuner.analysis.ratios import Ratio, unpaired_ratio
from tuner.deadline import OUT_OF_TIME
from tuner.goals.verdict import SlaOutcome
from tuner.records.gate import Cause, Verdict
from tuner.records.results import Evaluation, State
from tuner.stats.sequential import boundary

MARGIN = 0.05
EQUAL = Ratio(1.0, 0.97, 1.03)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Ratio(1.0, 0.96, 1.04), Verdict.PASS),
        (Ratio(1.3, 1.2, 1.4), Verdict.PASS),
        (Ratio(0.97, 0.955, 0.985), Verdict.PASS),  # surely a little less, within the margin
        (Ratio(1.0, 0.94, 1.06), Verdict.INCONCLUSIVE),
        (Ratio(0.96, 0.93, 0.99), Verdict.INCONCLUSIVE),
        (Ratio(0.93, 0.85, 1.01), Verdict.INCONCLUSIVE),
        (Ratio(0.9, 0.85, 0.95), Verdict.FAIL),
        (None, Verdict.INCONCLUSIVE),
    ],
)
def test_a_ratio_is_judged_by_its_interval(ratio: Ratio | None, verdict: Verdict) -> None:
    assert judge_ratio(ratio, MARGIN).verdict is verdict


def ok() -> Evaluation:
    return evaluation(phase="confirm", capacity=100.0)


def missing() -> Evaluation:
    return evaluation(phase="confirm", bound_ratio=2.0)


def failed(why: str = "it does not load", **fields: Any) -> Evaluation:
    return evaluation(phase="confirm", state=State.FAILED, failure=why, **fields)


@pytest.mark.parametrize(
    ("old", "new", "verdict", "cause"),
    [
        (ok(), failed(), Verdict.FAIL, Cause.NEW_FAILED),
        (failed(), ok(), Verdict.INCONCLUSIVE, Cause.OLD_FAILED),
        (failed(), failed(), Verdict.INCONCLUSIVE, Cause.OLD_FAILED),
        (ok(), missing(), Verdict.FAIL, Cause.NEW_MISSES_SLA),
        (missing(), ok(), Verdict.PASS, Cause.OLD_MISSES_SLA),
        (missing(), missing(), Verdict.INCONCLUSIVE, Cause.BOTH_MISS_SLA),
        (ok(), failed(OUT_OF_TIME), Verdict.INCONCLUSIVE, Cause.UNKNOWN),
        (ok(), failed("client", client_limited=True), Verdict.INCONCLUSIVE, Cause.UNKNOWN),
    ],
)
def test_only_the_new_versions_own_fault_fails_it(
    old: Evaluation, new: Evaluation, verdict: Verdict, cause: Cause
) -> None:
    judged = judge_versions(old, new, None, MARGIN, rounds=2)
    assert (judged.verdict, judged.cause) == (verdict, cause)


@pytest.mark.parametrize("new", [ok(), missing()])
def test_one_round_decides_nothing(new: Evaluation) -> None:
    assert judge_versions(ok(), new, EQUAL, MARGIN, rounds=1).verdict is Verdict.INCONCLUSIVE


def test_a_rate_passes_only_if_it_is_met() -> None:
    def verdict(outcome: SlaOutcome, **fields: Any) -> Verdict:
        return judge_outcome(evaluation(phase="measure", **fields), outcome).verdict

    assert verdict(SlaOutcome.MET) is Verdict.PASS
    assert verdict(SlaOutcome.VIOLATED) is Verdict.FAIL
    assert verdict(SlaOutcome.VIOLATED, client_limited=True) is Verdict.INCONCLUSIVE
    assert verdict(SlaOutcome.INCONCLUSIVE) is Verdict.INCONCLUSIVE
    assert judge_outcome(failed(), SlaOutcome.INCONCLUSIVE).verdict is Verdict.FAIL
    broken = {"state": State.INFEASIBLE, "failure": "violates a constraint at every rate"}
    assert verdict(SlaOutcome.INCONCLUSIVE, **broken) is Verdict.FAIL


@pytest.mark.parametrize("looks", [1, 2, 12])
def test_all_looks_together_are_wrong_as_often_as_is_said(looks: int) -> None:
    scores = np.array(boundary(looks, 0.05))
    assert list(scores) == sorted(scores, reverse=True)
    walks = np.random.default_rng(1).standard_normal((20_000, looks)).cumsum(axis=1)
    wrong = (walks / np.sqrt(np.arange(1, looks + 1)) > scores).any(axis=1)
    assert wrong.mean() == pytest.approx(0.05, abs=0.006)


def test_one_look_is_the_usual_test() -> None:
    assert boundary(1, 0.05)[0] == pytest.approx(1.645, abs=0.02)


def test_capacities_of_different_times_have_the_interval_of_both() -> None:
    one = evaluation(phase="confirm", capacity=90.0, low=85.0, high=95.3)
    other = evaluation(phase="confirm", capacity=100.0, low=95.0, high=105.3)
    found, wider = unpaired_ratio(one, other), unpaired_ratio(one, other, 0.99)
    assert found is not None
    assert wider is not None
    assert found.value == pytest.approx(0.9)
    assert wider.low < found.low < 0.85
    assert wider.high > found.high > 0.95
    assert unpaired_ratio(evaluation(phase="confirm", bound_ratio=2.0), other) is None
