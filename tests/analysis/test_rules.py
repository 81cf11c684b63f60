"""Each rule of thumb against what was measured, by its own rule."""

from dataclasses import replace
from typing import Any

import pytest

from tests.comparing_records import (
    DELAYS,
    SHAPES,
    comparison,
    deployed,
    evaluated,
    failed,
    realistic,
)
from tuner.analysis.rules import Judgement, Reason, Rule, judge_rules
from tuner.records.comparison import Comparison, Delay
from tuner.records.results import Evaluation
from tuner.report.wording_rules import RULES, evidence_words, reason_words

BY_NAME = {shape.name: shape for shape in SHAPES}


def find(judgements: list[Judgement], rule: Rule) -> Judgement:
    (judgement,) = [judgement for judgement in judgements if judgement.rule is rule]
    return judgement


def scaled(name: str, trial: int, capacity: float, width: float = 0.04) -> Evaluation:
    ends = {"low": (1 - width) * capacity, "high": (1 + width) * capacity}
    return evaluated(BY_NAME[name], trial, capacity=capacity, by_round=(), **ends)


def with_capacities(**capacities: float) -> list[Judgement]:
    names = [name.replace("_", "-") for name in capacities]
    records = comparison(tuple(BY_NAME[name] for name in names))
    values = zip(names, capacities.values(), strict=True)
    return judge_rules(records, [scaled(name, i, value) for i, (name, value) in enumerate(values)])


def test_all_claims_are_always_there_each_with_its_reason() -> None:
    whole = judge_rules(*realistic(gpu=True))
    nothing = judge_rules(comparison(SHAPES, delays=()), [failed(SHAPES[0], 0)])
    assert [j.rule for j in whole] == [j.rule for j in nothing] == list(Rule) == list(RULES)
    assert all(reason_words(j) for j in (*whole, *nothing))
    assert [j.holds for j in whole].count(None) == 1
    assert all(evidence_words(j.evidence) != "-" for j in whole if j.holds is not None)
    others = [j for j in nothing if j.rule is not Rule.SWAPPING]
    assert all(j.holds is None and j.evidence is None for j in others)


@pytest.mark.parametrize(
    ("tuned", "holds", "why"),
    [
        (300.0, False, "less than 5 to 10 times"),
        (480.0, True, "overlaps 5 to 10 times"),
        (700.0, True, "overlaps 5 to 10 times"),
        (1500.0, False, "more than 5 to 10 times"),
    ],
)
def test_batching_is_judged_by_the_interval_of_the_ratio(
    tuned: float, holds: bool, why: str
) -> None:
    found = with_capacities(triton_unbatched=100.0, triton_tuned=tuned, fastapi=100.0)
    for rule in (Rule.BATCHING_GAIN, Rule.TRITON_GAIN):
        judgement = find(found, rule)
        assert (judgement.holds, reason_words(judgement)) == (holds, why)


def test_batching_is_not_judged_where_the_tuned_configuration_has_none() -> None:
    plain = replace(BY_NAME["triton-tuned"], batching=False)
    records = comparison((plain, BY_NAME["triton-unbatched"]))
    found = judge_rules(records, [evaluated(plain, 0), evaluated(BY_NAME["triton-unbatched"], 1)])
    assert find(found, Rule.BATCHING_GAIN).reason is Reason.NO_BATCHING


def test_the_one_as_found_is_the_tuned_one_where_nothing_is_better() -> None:
    best = replace(BY_NAME["triton"], tuned=True)
    records = comparison((best, BY_NAME["triton-unbatched"]))
    found = judge_rules(records, [evaluated(best, 0), evaluated(BY_NAME["triton-unbatched"], 1)])
    assert find(found, Rule.BATCHING_GAIN).holds is False


@pytest.mark.parametrize(
    ("fastapi", "triton", "low", "high"),
    [
        (80.0, 900.0, False, True),
        (98.0, 900.0, True, True),
        (150.0, 900.0, True, True),
        (150.0, 151.0, True, False),
        (400.0, 900.0, True, False),
    ],
)
def test_where_fastapi_gives_out(fastapi: float, triton: float, low: bool, high: bool) -> None:
    found = with_capacities(fastapi=fastapi, triton_tuned=triton)
    assert find(found, Rule.LOW_LOADS).holds is low
    assert find(found, Rule.HIGH_LOADS).holds is high


@pytest.mark.parametrize(
    ("naive", "holds"), [(30.0, False), (50.0, True), (62.0, True), (85, False)]
)
def test_one_instance(naive: float, holds: bool) -> None:
    assert find(with_capacities(naive=naive), Rule.ONE_INSTANCE).holds is holds


@pytest.mark.parametrize(("floor", "holds"), [(0.006, True), (0.0053, True), (0.0122, False)])
def test_a_lone_request_may_wait_up_to_five_milliseconds(floor: float, holds: bool) -> None:
    tuned = replace(BY_NAME["triton-tuned"], floor=floor)
    records = comparison((tuned, BY_NAME["triton-unbatched"]))
    found = judge_rules(records, [evaluated(tuned, 0), evaluated(BY_NAME["triton-unbatched"], 1)])
    assert find(found, Rule.BATCHING_PRICE).holds is holds


def test_time_outside_inference() -> None:
    slow = replace(BY_NAME["naive"], floor=0.009, inference=0.0009)
    found = judge_rules(comparison((slow,)), [evaluated(slow, 0)])
    assert find(found, Rule.OVERHEAD_ALONE).holds is True
    assert find(judge_rules(*realistic()), Rule.OVERHEAD_ALONE).holds is False


def test_gpus_are_judged_only_where_there_is_one_that_tells() -> None:
    found = judge_rules(*realistic(gpu=True))
    assert find(found, Rule.FASTAPI_GPU).holds is True
    assert find(found, Rule.TRITON_GPU).holds is True
    assert find(judge_rules(*realistic()), Rule.TRITON_GPU).reason is Reason.NO_GPU
    records, _ = realistic(gpu=True)
    silent = judge_rules(records, realistic()[1])
    assert find(silent, Rule.TRITON_GPU).reason is Reason.NO_GPU_READING


def delays(*capacities: float | None) -> Comparison:
    """For delays of 0, 1, 2, 5 and 10 ms."""
    seconds = (0.0, 0.001, 0.002, 0.005, 0.01)
    pairs = zip(seconds, capacities, strict=True)
    return comparison(delays=tuple(Delay(delay=d, capacity=c, p50=0.005 + d) for d, c in pairs))


@pytest.mark.parametrize(
    ("records", "short", "long"),
    [
        (delays(1000, 1100, 1150, 1300, 1310), True, True),
        (delays(1000, 1010, 1005, 900, 500), False, False),
        (delays(1000, 1100, 1300, 1310, 1300), True, False),
        (delays(None, 1100, 1200, 1300, None), True, True),
        (delays(1000, 1000, 1000, None, None), False, False),
        (delays(None, None, None, None, None), None, None),
        (comparison(delays=DELAYS[:1]), None, None),
    ],
)
def test_delays_are_judged_by_what_waiting_buys(
    records: Comparison, short: bool | None, long: bool | None
) -> None:
    found = judge_rules(records, [])
    assert find(found, Rule.SHORT_DELAY).holds is short
    assert find(found, Rule.LONG_DELAY).holds is long


@pytest.mark.parametrize(
    ("service", "triton", "holds"),
    [
        ((3.0, 0), (1.0, 0), False),
        ((1.0, 0), (3.0, 0), True),
        ((1.5, 0), (1.6, 0), False),
        ((9.0, 0), (1.0, 2), True),
        ((1.0, 2), (9.0, 0), False),
    ],
)
def test_a_swap_is_better_that_loses_less_and_of_equals_the_quicker(
    service: tuple[float, int], triton: tuple[float, int], holds: bool
) -> None:
    shapes = (
        replace(BY_NAME["fastapi"], swap=service),
        replace(BY_NAME["triton-tuned"], swap=triton),
    )
    found = judge_rules(comparison(shapes), [evaluated(s, i) for i, s in enumerate(shapes)])
    assert find(found, Rule.SWAPPING).holds is holds


def test_a_swap_that_failed_is_none() -> None:
    made: Any = deployed(BY_NAME["fastapi"], 0)
    broken = made.swap.model_copy(update={"failure": "no answer", "seconds": None})
    records = comparison((BY_NAME["fastapi"], BY_NAME["triton-tuned"]))
    first = made.model_copy(update={"swap": broken})
    records = records.model_copy(update={"deployments": (first, records.deployments[1])})
    found = judge_rules(records, [evaluated(BY_NAME["fastapi"], 0)])
    assert find(found, Rule.SWAPPING).holds is None


@pytest.mark.parametrize(("hybrid", "holds"), [(600.0, True), (205.0, False), (100.0, False)])
def test_the_hybrid_has_a_place_where_fastapi_does_not_reach(hybrid: float, holds: bool) -> None:
    found = with_capacities(fastapi=200.0, triton_tuned=900.0, hybrid=hybrid)
    assert find(found, Rule.MEDIUM_LOADS).holds is holds


def test_a_simulation_far_from_the_measurement_judges_no_delay() -> None:
    told = delays(1000, 1100, 1150, 1300, 1310).model_copy(
        update={"simulated": {"triton-tuned": 1300.0}}
    )
    near, far = (
        judge_rules(told, [scaled("triton-tuned", len(SHAPES) - 2, capacity)])
        for capacity in (1250.0, 700.0)
    )
    for rule in (Rule.SHORT_DELAY, Rule.LONG_DELAY):
        assert find(near, rule).holds is True
        assert find(far, rule).reason is Reason.SIMULATION_OFF


def test_swapping_is_judged_by_the_fastapi_that_is_recommended() -> None:
    shapes = (
        replace(BY_NAME["naive"], swap=(0.5, 0)),
        replace(BY_NAME["fastapi"], swap=(3.0, 0)),
        replace(BY_NAME["triton-tuned"], swap=(1.0, 0)),
    )
    assert find(judge_rules(comparison(shapes), []), Rule.SWAPPING).holds is None
    measured = [scaled(shape.name, trial, 100.0) for trial, shape in enumerate(shapes)]
    assert find(judge_rules(comparison(shapes), measured), Rule.SWAPPING).holds is False
