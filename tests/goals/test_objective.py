import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.goals.test_constraints import probe
from tuner.errors import UnitError, UsageError
from tuner.goals.objective import INSTANCES, Objective, Term
from tuner.goals.quantities import QUANTITIES
from tuner.measurement.draft import summarise
from tuner.records.costs import describe_cost, objective_of
from tuner.records.results import LEAST_COST, Cost, ProbeRecord
from tuner.stats.estimators import PERCENTILES

GIB = 2**30


def timed(**changes: object) -> ProbeRecord:
    latency = {"p50": 0.004, "p99": 0.008}
    intervals = {"p99": (0.0076, 0.0084)}
    update = {"latency": latency, "latency_interval": intervals, "mean": 0.005, **changes}
    return probe().model_copy(update=update)


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("p99", 0.008, "8 ms"),
        (" p50 ", 0.004, "4 ms"),
        ("mean", 0.005, "5 ms"),
        ("instances", 3.0, "3"),
        ("gpu_memory", 12 * GIB, "12 GiB"),
        ("cpu", 1.5, "1.5 cores"),
        ("p99/10ms + 0.5*instances", 0.8 + 1.5, "2.3"),
        ("2 * p99/4ms+gpu_memory/4GiB", 4.0 + 3.0, "7"),
        ("p99/1s + instances/3", 1.008, "1.01"),
    ],
)
def test_a_probe_has_a_value(text: str, value: float, shown: str) -> None:
    objective = Objective.parse(text, 1000.0)
    assert objective.value(timed(), 3) == pytest.approx(value)
    assert objective.show(objective.value(timed(), 3)) == shown


def test_energy_is_what_the_gpus_took_for_each_good_reply() -> None:
    record = timed(n=110, errors=10, seconds=2.0)
    assert record.gpu is not None
    devices = record.gpu.devices or 1
    objective = Objective.parse("energy", 1000.0)
    assert objective.value(record, 1) == pytest.approx(
        (record.gpu.power or 0.0) * devices * 2.0 / 100
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("p98", "did you mean 'p99'"),
        ("gpu_memroy", "did you mean 'gpu_memory'"),
        ("p99 + instances", "in a sum, scale p99, as in p99/10ms"),
        ("gpu_memory + instances", "as in gpu_memory/4GiB"),
        ("p99/10", "needs a unit"),
        ("p99/4GiB + instances", "unknown unit 'GiB'"),
        ("0*p99", "must be above zero"),
        ("-1*p99", "is not valid"),
        ("p99 instances", "is not valid"),
        ("", "is not valid"),
        ("p99/10ms +", "is not valid"),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(text: str, hint: str) -> None:
    with pytest.raises(UnitError) as caught:
        Objective.parse(text, 1000.0)
    assert hint in str(caught.value)


def test_a_missing_reading_is_no_value_and_an_error() -> None:
    objective = Objective.parse("gpu_memory", 1000.0)
    record = probe(gpu=None)
    assert objective.value(record, 1) is None
    with pytest.raises(UsageError, match="no GPU readings, so gpu_memory cannot be minimized"):
        objective.require_readings(record)
    objective.require_readings(probe())


def test_a_percentile_that_failures_reach_is_infinite() -> None:
    objective = Objective.parse("p99/10ms + instances", 1000.0)
    value = objective.value(timed(latency={"p99": math.inf}), 1)
    assert value == math.inf
    assert objective.show(value) == "no answer"


def test_its_error_is_that_of_the_latencies_in_it() -> None:
    alone = Objective.parse("p99", 1000.0).error(timed(), 1)
    assert alone == pytest.approx(0.0008 / 3.92 / 0.008)
    both = Objective.parse("p99/10ms + instances", 1000.0)
    assert both.error(timed(), 4) < both.error(timed(), 1) < alone
    assert Objective.parse("instances", 1000.0).error(timed(), 3) == 0.0
    assert Objective.parse("cpu", 1000.0).error(timed(), 1) == pytest.approx(0.01)


def test_a_probe_too_short_for_its_percentile_tells_little() -> None:
    open_ended = timed(latency_interval={"p99": (0.0076, None)})
    objective = Objective.parse("p99", 1000.0)
    assert objective.error(open_ended, 1) > objective.error(timed(), 1)


@pytest.mark.parametrize(
    ("text", "requests"), [("p99", 2000), ("p50 + p99.9/1s", 20_000), ("instances", 0)]
)
def test_a_higher_percentile_needs_more_requests(text: str, requests: int) -> None:
    text = text.replace("p50 +", "p50/1s +")
    assert Objective.parse(text, 1000.0).requests == requests


@pytest.mark.parametrize("text", ["0.00005*cpu", "2000000000000*cpu", "p99 / 10 ms + instances"])
def test_unusual_ways_to_write_are_read_again(text: str) -> None:
    objective = Objective.parse(text, 1.0)
    assert Objective.parse(str(objective), 1.0) == objective


names = st.sampled_from([INSTANCES, "mean", *PERCENTILES, *QUANTITIES])
weights = st.floats(0.001, 1000).map(lambda value: float(f"{value:.6g}"))


@given(names, weights)
def test_what_is_printed_parses_to_the_same(name: str, weight: float) -> None:
    objective = Objective((Term(name, weight),), 5.0)
    assert Objective.parse(str(objective), 5.0) == objective


def test_a_record_tells_its_cost_in_words() -> None:
    cost = Cost(objective="p99", rate=1000.0, value=0.0081, low=0.0079, high=0.0084)
    assert describe_cost(cost) == "p99 8.1 ms at 1,000/s (95 %: 7.9 ms to 8.4 ms)"
    bare = Cost(objective="instances", rate=1000.0, value=2.0, low=2.0, high=2.0)
    assert describe_cost(bare) == "instances 2 at 1,000/s"
    assert objective_of([]) is None


@given(st.floats(1e-4, 1e3), st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=5))
def test_rounds_are_summed_up_between_their_extremes(value: float, logs: list[float]) -> None:
    costs = [(value * math.exp(log), 0.01) for log in logs]
    middle, low, high = summarise(costs)
    assert min(costs)[0] * 0.999 <= middle <= max(costs)[0] * 1.001
    assert low < middle < high


def test_what_is_known_exactly_has_no_interval() -> None:
    assert summarise([(2.0, 0.0)] * 3) == pytest.approx((2.0, 2.0, 2.0))
    assert summarise([(0.0, 0.0)])[0] == pytest.approx(LEAST_COST)


def test_rounds_that_differ_widen_the_interval() -> None:
    _, low, high = summarise([(1.0, 0.01), (1.01, 0.01), (0.99, 0.01)])
    _, lower, higher = summarise([(1.0, 0.01), (1.3, 0.01), (0.7, 0.01)])
    assert lower < low < high < higher
