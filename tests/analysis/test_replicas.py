"""As many replicas as it takes, and not one more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.comparing_records import SHAPES, comparison, evaluated, missed, realistic
from tuner.analysis.replicas import Advantage, ReplicaPlan, p99_at, plan_replicas, replicas_for
from tuner.records.results import Undisturbed
from tuner.report.wording_recommendation import plan_reason


@given(st.floats(0.1, 1e7), st.floats(0.1, 1e5))
def test_replicas_suffice_and_one_fewer_does_not(rate: float, safe: float) -> None:
    number = replicas_for(rate, safe)
    assert number >= 1
    assert number * safe >= rate
    assert number == 1 or (number - 1) * safe < rate


@given(st.floats(1, 50_000))
def test_a_plan_is_in_order_and_no_replica_gets_too_much(rate: float) -> None:
    found = plan_replicas(*realistic(), rate)
    assert [p.replicas for p in found] == sorted(p.replicas for p in found)
    for each in found:
        assert each.rate <= each.safe_rate * (1 + 1e-12)
        assert each.replicas * each.rate == pytest.approx(rate)
        assert ReplicaPlan.model_validate_json(each.model_dump_json()) == each


def test_the_pick_says_why_and_what_it_takes() -> None:
    first, second = plan_replicas(*realistic(), 5000.0)[:2]
    assert (first.deployment, first.replicas) == ("triton-tuned", 5)
    assert plan_reason(first) == "the fewest replicas: one serves 1,034/s"
    assert first.config is not None
    assert "max_queue_delay_microseconds: 500" in first.config
    assert first.cores == pytest.approx(5 * (0.1 + 3.7 * 1000 / 1480), rel=1e-3)
    assert plan_reason(second) == "the best for clients that send text: one serves 751/s"


def test_of_as_many_replicas_the_one_with_least_cores_comes_first() -> None:
    found = plan_replicas(*realistic(), 50.0)
    assert {p.replicas for p in found} == {1}
    assert [p.cores for p in found] == sorted(p.cores or math.inf for p in found)
    assert found[0].advantage is Advantage.FEWEST_AND_LEAST_CORES


def test_p99_is_interpolated_and_unknown_outside_of_what_was_probed() -> None:
    probes = evaluated(SHAPES[1], 1).probes
    low, high = probes[2], probes[3]
    middle = p99_at(probes, ((low.rate or 0) + (high.rate or 0)) / 2)
    ends = low.latency["p99"], high.latency["p99"]
    assert middle == pytest.approx(math.sqrt((ends[0] or 0) * (ends[1] or 0)))
    assert p99_at(probes, low.rate or 0) == pytest.approx(ends[0])
    assert p99_at(probes, 1.0) is None
    assert p99_at(probes, 1e6) is None
    assert p99_at(probes[:1], 100.0) is None


def test_where_the_client_gave_out_the_simulated_capacity_counts() -> None:
    records = comparison((SHAPES[4],), simulated={"triton-tuned": 4000.0})
    limited = [evaluated(SHAPES[4], 0, client_limited=True)]
    (found,) = plan_replicas(records, limited, 7000.0)
    assert found.simulated
    assert found.safe_rate == pytest.approx(0.94 * 4000)
    assert found.replicas == 2
    assert found.p99 is None
    assert "simulated" in plan_reason(found)
    (measured,) = plan_replicas(records, limited, 7000.0, simulated={})
    assert not measured.simulated
    (steady,) = plan_replicas(records, [evaluated(SHAPES[4], 0)], 7000.0)
    assert not steady.simulated


def test_no_plan_without_a_deployment_that_keeps_the_promise() -> None:
    assert plan_replicas(comparison(SHAPES[:1]), [missed(SHAPES[0], 0)], 100.0) == []


def test_what_stalls_of_the_machine_made_late_is_not_held_against_a_deployment() -> None:
    stalled = Undisturbed(n=100, late=0, outcome="met", left_out=0.1, bound_ratio=0.5, decides=True)
    probes = [
        each.model_copy(update={"latency": {"p99": 0.5}, "undisturbed": stalled})
        for each in evaluated(SHAPES[1], 1).probes
    ]
    assert p99_at(probes, 300.0) is None
