"""Each rule of thumb against what was measured, by its own rule."""

from dataclasses import replace
from typing import Any

import pytest
from comparing_records import DELAYS, SHAPES, comparison, deployed, evaluated, failed, realistic

from tuner.analysis.claim import Claim
from tuner.analysis.claims import claims
from tuner.records.comparison import Comparison, Delay
from tuner.records.results import Evaluation

BY_NAME = {shape.name: shape for shape in SHAPES}


def find(found: list[Claim], words: str) -> Claim:
    (claim,) = [claim for claim in found if words in claim.text.replace("\N{NO-BREAK SPACE}", " ")]
    return claim


def scaled(name: str, trial: int, capacity: float, width: float = 0.04) -> Evaluation:
    ends = {"low": (1 - width) * capacity, "high": (1 + width) * capacity}
    return evaluated(BY_NAME[name], trial, capacity=capacity, by_round=(), **ends)


def with_capacities(**capacities: float) -> list[Claim]:
    names = [name.replace("_", "-") for name in capacities]
    records = comparison(tuple(BY_NAME[name] for name in names))
    values = zip(names, capacities.values(), strict=True)
    return claims(records, [scaled(name, i, value) for i, (name, value) in enumerate(values)])


def test_all_claims_are_always_there_each_with_its_reason() -> None:
    whole = claims(*realistic(gpu=True))
    nothing = claims(comparison(SHAPES, delays=()), [failed(SHAPES[0], 0)])
    assert [c.text for c in whole] == [c.text for c in nothing]
    assert all(c.why for c in (*whole, *nothing))
    assert [c.holds for c in whole].count(None) == 1
    assert all(c.holds is None and c.measured == "-" for c in nothing if "swap" not in c.text)
    for each in whole:
        assert Claim.model_validate_json(each.model_dump_json()) == each


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
    for words in ("dynamic batching gives", "Triton serves 5"):
        claim = find(found, words)
        assert (claim.holds, claim.why) == (holds, why)


def test_batching_is_not_judged_where_the_tuned_configuration_has_none() -> None:
    plain = replace(BY_NAME["triton-tuned"], batching=False)
    records = comparison((plain, BY_NAME["triton-unbatched"]))
    found = claims(records, [evaluated(plain, 0), evaluated(BY_NAME["triton-unbatched"], 1)])
    assert find(found, "dynamic batching gives").why == "the tuned configuration does not batch"


def test_the_one_as_found_is_the_tuned_one_where_nothing_is_better() -> None:
    best = replace(BY_NAME["triton"], tuned=True)
    records = comparison((best, BY_NAME["triton-unbatched"]))
    found = claims(records, [evaluated(best, 0), evaluated(BY_NAME["triton-unbatched"], 1)])
    assert find(found, "dynamic batching gives").holds is False


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
    assert find(found, "enough below 100").holds is low
    assert find(found, "above 100 requests/s").holds is high


@pytest.mark.parametrize(
    ("naive", "holds"), [(30.0, False), (50.0, True), (62.0, True), (85, False)]
)
def test_one_instance(naive: float, holds: bool) -> None:
    assert find(with_capacities(naive=naive), "one instance").holds is holds


@pytest.mark.parametrize(("floor", "holds"), [(0.006, True), (0.0053, True), (0.0122, False)])
def test_a_lone_request_may_wait_up_to_five_milliseconds(floor: float, holds: bool) -> None:
    tuned = replace(BY_NAME["triton-tuned"], floor=floor)
    records = comparison((tuned, BY_NAME["triton-unbatched"]))
    found = claims(records, [evaluated(tuned, 0), evaluated(BY_NAME["triton-unbatched"], 1)])
    assert find(found, "a lone request").holds is holds


def test_time_outside_inference() -> None:
    slow = replace(BY_NAME["naive"], floor=0.009, inference=0.0009)
    found = claims(comparison((slow,)), [evaluated(slow, 0)])
    assert find(found, "(alone)").holds is True
    assert find(claims(*realistic()), "(alone)").holds is False


def test_gpus_are_judged_only_where_there_is_one_that_tells() -> None:
    found = claims(*realistic(gpu=True))
    assert find(found, "less than 10 %").holds is True
    assert find(found, "60 to 80 %").holds is True
    assert find(claims(*realistic()), "60 to 80 %").why == "no GPU here"
    records, _ = realistic(gpu=True)
    silent = claims(records, realistic()[1])
    assert find(silent, "60 to 80 %").why == "the GPU did not tell how busy it is"


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
    found = claims(records, [])
    assert find(found, "1 to 2 ms").holds is short
    assert find(found, "5 to 10 ms").holds is long


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
    found = claims(comparison(shapes), [evaluated(s, i) for i, s in enumerate(shapes)])
    assert find(found, "swapped").holds is holds


def test_a_swap_that_failed_is_none() -> None:
    made: Any = deployed(BY_NAME["fastapi"], 0)
    broken = made.swap.model_copy(update={"failure": "no answer", "seconds": None})
    records = comparison((BY_NAME["fastapi"], BY_NAME["triton-tuned"]))
    first = made.model_copy(update={"swap": broken})
    records = records.model_copy(update={"deployments": (first, records.deployments[1])})
    found = claims(records, [evaluated(BY_NAME["fastapi"], 0)])
    assert find(found, "swapped").holds is None


@pytest.mark.parametrize(("hybrid", "holds"), [(600.0, True), (205.0, False), (100.0, False)])
def test_the_hybrid_has_a_place_where_fastapi_does_not_reach(hybrid: float, holds: bool) -> None:
    found = with_capacities(fastapi=200.0, triton_tuned=900.0, hybrid=hybrid)
    assert find(found, "medium loads").holds is holds
