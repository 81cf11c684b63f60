"""The simplest deployment that meets the SLA, by rate, with its reasons."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.comparing_records import SHAPES, Shape, comparison, evaluated, failed, missed, realistic
from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.analysis.contenders import Contender, contenders
from tuner.analysis.costs import near_capacity, usage_at
from tuner.analysis.ratios import ratio
from tuner.analysis.recommend import Recommendation, recommend
from tuner.records.results import Evaluation
from tuner.report.wording_recommendation import headline, reasons

BY_NAME = {shape.name: shape for shape in SHAPES}


def at(name: str, trial: int, capacity: float, **changes: Any) -> Evaluation:
    """With that capacity, known to within 4 %."""
    known = {
        "capacity": capacity,
        "low": 0.96 * capacity,
        "high": 1.04 * capacity,
        "recommended": 0.95 * capacity,
        "by_round": (),
    }
    return evaluated(BY_NAME[name], trial, **(known | changes))


def findings(capacities: dict[str, float | None], **changes: Any) -> ComparisonFindings:
    """Of deployments with these capacities; None for one that meets the SLA at no rate."""
    shapes = tuple(replace(BY_NAME[name], **changes) for name in capacities)
    found = [
        missed(BY_NAME[name], i) if capacity is None else at(name, i, capacity)
        for i, (name, capacity) in enumerate(capacities.items())
    ]
    return ComparisonFindings(comparison(shapes), found)


def answer(capacities: dict[str, float | None], **changes: Any) -> Recommendation:
    return findings(capacities, **changes).recommendation


def picks(found: Recommendation, clients: int = 0) -> list[str]:
    return [band.deployment for band in found.answers[clients].bands]


def test_the_simplest_goes_first_and_what_serves_more_follows() -> None:
    found = answer({"fastapi": 200.0, "triton-tuned": 900.0, "hybrid": 600.0})
    assert picks(found, 0) == ["fastapi", "hybrid", "hybrid"]
    assert picks(found, 1) == ["fastapi", "triton-tuned", "triton-tuned"]
    text = found.answers[0].bands
    assert [(band.low, band.high) for band in text] == [(0, 190), (190, 570), (570, None)]
    assert [band.replicas for band in text] == [False, False, True]
    assert text[0].edge == pytest.approx((192, 208))


def test_without_text_there_is_one_answer() -> None:
    shares = {"fastapi": 200.0, "triton-tuned": 600.0, "hybrid": 900.0}
    found = answer(shares, sends="tensors")
    assert [each.clients for each in found.answers] == ["any"]
    assert picks(found) == ["fastapi", "triton-tuned", "hybrid", "hybrid"]


def test_what_serves_no_more_beyond_the_intervals_is_a_tie() -> None:
    known = findings({"fastapi": 200.0, "hybrid": 205.0})
    assert picks(known.recommendation) == ["fastapi", "fastapi"]
    assert known.recommendation.answers[0].bands[0].ties == ("hybrid",)
    assert any(" tie at " in reason for reason in reasons(known))


def test_a_tie_with_an_open_end_is_told() -> None:
    evaluations = [
        at("fastapi", 0, 200.0),
        at("hybrid", 1, 205.0, high=None),
    ]
    shapes = (BY_NAME["fastapi"], BY_NAME["hybrid"])
    told = reasons(ComparisonFindings(comparison(shapes), evaluations))
    assert "(95\N{NO-BREAK SPACE}%: at least 0.9" in told[0]


@pytest.mark.parametrize(
    ("naive", "made", "first"),
    [
        (50.0, 200.0, "fastapi"),
        (205.0, 200.0, "fastapi"),
        (260.0, 200.0, "naive"),
        (50.0, None, "naive"),
    ],
)
def test_the_naive_form_takes_the_place_only_of_what_is_worse(
    naive: float, made: float | None, first: str
) -> None:
    assert picks(answer({"naive": naive, "fastapi": made}))[0] == first


@pytest.mark.parametrize(("tuned", "chosen"), [(620.0, "triton"), (900.0, "triton-tuned")])
def test_triton_is_tuned_unless_it_serves_as_much_as_found(tuned: float, chosen: str) -> None:
    assert picks(answer({"triton": 600.0, "triton-tuned": tuned}))[0] == chosen


def test_the_yardstick_without_batching_is_never_recommended() -> None:
    assert answer({"triton-unbatched": 900.0}).answers[0].bands == ()


def test_a_service_of_the_users_runs_already() -> None:
    own = Shape("flask", "Our Flask", "service", 0.006, 0.004, 200.0, 2.0, 2**29, "own")
    found = recommend(
        comparison((BY_NAME["fastapi"], own)),
        [at("fastapi", 0, 300.0), evaluated(own, 1, capacity=80.0, recommended=76.0, by_round=())],
    )
    assert picks(found) == ["flask", "fastapi", "fastapi"]


def test_a_comparison_without_a_winner_says_so() -> None:
    records = comparison(SHAPES[:3])
    known = ComparisonFindings(records, [failed(SHAPES[0], 0), missed(SHAPES[1], 1)])
    assert headline(known) == "No deployment meets p99 ≤ 20 ms"
    told = " ".join(reasons(known))
    assert "FastAPI (naive) could not be measured: the server died" in told
    assert "FastAPI meets p99 ≤ 20 ms at no probed rate." in told
    assert "Triton (baseline) was not measured." in told


def test_where_only_clients_of_tensors_are_served_the_headline_says_so() -> None:
    shapes = (BY_NAME["fastapi"], BY_NAME["triton-tuned"])
    records = comparison(shapes)
    known = ComparisonFindings(records, [missed(shapes[0], 0), at("triton-tuned", 1, 900.0)])
    assert headline(known) == "For clients that send tensors alone: Triton tuned up to 855/s"
    assert reasons(known)[0].startswith("Clients that send text: no deployment meets")


def test_the_reasons_tell_rates_ratios_and_costs() -> None:
    known = ComparisonFindings(*realistic())
    assert headline(known) == (
        "FastAPI up to 269/s, then FastAPI in front of Triton up to 751/s. "
        "Above 269/s, if clients can send tensors: Triton tuned up to 1,034/s"
    )
    told = " ".join(reasons(known)).replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "FastAPI meets p99 ≤ 20 ms up to 269/s, the simplest to run (capacity 286/s, 95 %: 275/s"
        in told
    )
    assert "Triton tuned serves 2.9 × (95 %: 2.8" in told
    assert "tokenize their requests, which took 210 µs" in told
    assert "Resources at 80.5/s, a rate that all of them serve: FastAPI (naive) 1.5" in told


def test_ratios_of_unpaired_capacities_are_as_wide_as_both() -> None:
    records = comparison(tuple(BY_NAME[name] for name in ("fastapi", "hybrid")))
    made, hybrid = contenders(records, [at("fastapi", 0, 200.0), at("hybrid", 1, 400.0)])
    found = ratio(hybrid, made)
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(2 * math.exp(-math.hypot(math.log(0.96), math.log(1.04))))
    open_ended = replace(made, evaluation=at("fastapi", 0, 200.0, high=None))
    lowest = ratio(hybrid, open_ended)
    assert lowest is not None
    assert lowest.low == 0


def contender(name: str) -> Contender:
    records, evaluations = realistic()
    return next(each for each in contenders(records, evaluations) if each.name == name)


def test_costs_are_interpolated_between_probes_and_unknown_beyond() -> None:
    each = contender("triton-tuned")
    low, high = each.evaluation.probes[1], each.evaluation.probes[2]
    assert low.rate is not None
    assert high.rate is not None
    assert low.host is not None
    assert high.host is not None
    between = usage_at(each, (low.rate + high.rate) / 2)
    assert between.cores == pytest.approx(((low.host.cpu or 0) + (high.host.cpu or 0)) / 2)
    below = usage_at(each, low.rate / 4)
    assert below.cores == pytest.approx((low.host.cpu or 0) / 4)
    assert below.memory == low.host.memory
    assert usage_at(each, 1e6).cores is None
    near = near_capacity(each)
    assert near is not None
    assert near.cores_per_1000 == pytest.approx(1000 * (near.cores or 0) / near.rate)


NAMES = ("naive", "fastapi", "triton", "triton-unbatched", "triton-tuned", "hybrid")
CAPACITIES = st.dictionaries(
    st.sampled_from(NAMES), st.none() | st.floats(1, 5000), min_size=1, max_size=len(NAMES)
)


@given(CAPACITIES)
def test_bands_ascend_without_gaps_and_promise_no_more_than_is_kept(
    capacities: dict[str, float | None],
) -> None:
    found = answer(capacities)
    for each in found.answers:
        if not each.bands:
            continue
        assert each.bands[0].low == 0
        assert each.bands[-1].high is None
        for one, other in zip(each.bands, each.bands[1:], strict=False):
            assert one.high == other.low
            assert one.low < other.low
        for band in each.bands[:-1]:
            safe = 0.95 * (capacities[band.deployment] or 0.0)
            assert band.high == pytest.approx(safe)


@given(CAPACITIES)
def test_every_recommendation_has_its_sentences(capacities: dict[str, float | None]) -> None:
    known = findings(capacities)
    told = reasons(known)
    assert len(told) >= len(known.recommendation.answers)
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in told)
    assert headline(known)
