import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.queues import md1, mm1, mm1_share
from tuner.stats.estimators import (
    design_effect,
    growth,
    quantile,
    quantile_interval,
    requests_needed,
    surely_above,
    surely_below,
    throughput_interval,
)
from tuner.stats.samples import Samples

relaxed = settings(deadline=None, max_examples=100)
SHARES = st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.5])
CONFIDENCES = st.sampled_from([0.9, 0.95, 0.99])
OVER = [0, 1, 2, 5, 10, 20, 50, 100]
# MLPerf LoadGen's early-stopping table: (share, confidence) -> requests for so many over the bound
TABLE = {
    (0.05, 0.99): [90, 130, 165, 259, 398, 656, 1_372, 2_504],
    (0.01, 0.99): [459, 662, 838, 1_307, 2_010, 3_304, 6_898, 12_571],
    (0.001, 0.99): [4_603, 6_636, 8_403, 13_105, 20_140, 33_097, 69_058, 125_826],
    (0.01, 0.95): [299, 473, 628, 1_049, 1_693, 2_902, 6_323, 11_799],
}


def test_no_data_has_no_quantile() -> None:
    assert quantile(np.empty(0), 0.99) is None


@given(
    st.lists(st.floats(0, allow_nan=False, allow_infinity=True), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]),
)
@relaxed
def test_a_quantile_is_the_smallest_value_with_enough_at_or_below(
    latency: list[float], q: float
) -> None:
    value = quantile(np.array(latency), q)
    assert value in latency
    needed = math.ceil(round(q * len(latency), 6))
    assert sum(each <= value for each in latency) >= needed
    assert sum(each < value for each in latency) < needed


@pytest.mark.parametrize(
    ("n", "rank"), [(1, 1), (2, 2), (99, 99), (100, 99), (101, 100), (1000, 990)]
)
def test_the_p99_is_the_right_rank(n: int, rank: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert quantile(values, 0.99) == rank


def test_failures_show_once_they_reach_the_percentile() -> None:
    latency = np.full(100, 0.01)
    latency[0] = np.inf
    assert quantile(latency, 0.99) == 0.01
    latency[1] = np.inf
    assert quantile(latency, 0.99) == np.inf


@pytest.mark.parametrize(("share", "confidence"), TABLE)
def test_the_published_table_is_reproduced(share: float, confidence: float) -> None:
    needed = [requests_needed(over, share, confidence) for over in OVER]
    assert needed == TABLE[share, confidence]


@given(st.integers(0, 300), SHARES, CONFIDENCES)
@relaxed
def test_requests_needed_is_the_smallest_number_that_passes(
    over: int, share: float, confidence: float
) -> None:
    needed = requests_needed(over, share, confidence)
    assert surely_below(over, needed, share, confidence)
    assert not surely_below(over, needed - 1, share, confidence)


@given(st.integers(1, 5000), st.data(), SHARES, CONFIDENCES)
@relaxed
def test_more_violations_never_speak_for_a_smaller_share(
    n: int, data: st.DataObject, share: float, confidence: float
) -> None:
    over = data.draw(st.integers(0, n - 1))
    below = [surely_below(v, n, share, confidence) for v in (over, over + 1)]
    above = [surely_above(v, n, share, confidence) for v in (over, over + 1)]
    assert below[0] >= below[1]
    assert above[0] <= above[1]
    assert not (below[0] and above[0])


@given(st.integers(0, 200), st.integers(1, 3000), SHARES, CONFIDENCES)
@relaxed
def test_more_requests_with_the_same_violations_never_speak_for_a_larger_share(
    over: int, n: int, share: float, confidence: float
) -> None:
    n += over
    assert surely_below(over, n, share, confidence) <= surely_below(over, n + 1, share, confidence)
    assert surely_above(over, n, share, confidence) >= surely_above(over, n + 1, share, confidence)


def test_nothing_is_sure_without_requests() -> None:
    assert not surely_below(0, 0, 0.01, 0.99)
    assert not surely_above(0, 0, 0.01, 0.99)


RNG = np.random.default_rng


def test_independent_latencies_have_a_design_effect_near_one() -> None:
    rng = RNG(1)
    times = np.sort(rng.uniform(0, 60, 30_000))
    effects = [design_effect(rng.exponential(1.0, 30_000), times, 4.6) for _ in range(20)]
    assert min(effects) >= 1.0
    assert np.mean(effects) < 1.8  # the largest of several estimates


@pytest.mark.parametrize(("load", "limit"), [(0.5, 8.0), (0.8, 20.0)])
def test_the_design_effect_of_a_queue_is_the_variance_of_its_share_of_late(
    load: float, limit: float
) -> None:
    """Against the scatter of the share over many runs of an M/M/1 queue."""
    rng, n = RNG(2), 40_000
    runs = [mm1(1.0)(load, n, rng) for _ in range(60)]
    share = mm1_share(load, 1.0, limit)
    shares = [float(np.mean(run.latency > limit)) for run in runs]
    truth = float(np.mean([(s - share) ** 2 for s in shares])) * n / (share * (1 - share))
    found = float(np.median([design_effect(r.latency, r.intended, limit) for r in runs]))
    assert truth / 2 < found < 4 * truth


def test_the_same_number_in_clusters_has_a_large_design_effect() -> None:
    times = np.linspace(0, 60, 30_000)
    in_bursts = np.arange(30_000) % 5_000 < 50  # 0.1 s late in every 10 s
    assert design_effect(np.where(in_bursts, 1.0, 0.1), times, 0.5) > 20


def test_clusters_show_below_the_limit_before_anything_is_late() -> None:
    run = mm1(1.0)(0.8, 20_000, RNG(3))
    assert max(run.latency) < 60
    assert design_effect(run.latency, run.intended, 60.0) > 10


def test_clusters_far_below_the_limit_are_not_those_of_late_requests() -> None:
    run = mm1(1.0)(0.8, 20_000, RNG(3))
    assert design_effect(run.latency, run.intended, 1e3) == 1.0


def test_a_design_effect_is_one_where_nothing_can_be_said() -> None:
    times = np.linspace(0, 10, 100)
    assert design_effect(np.full(100, 0.1), times, 1.0) == 1.0
    assert design_effect(np.full(100, 9.0), times, 1.0) == 1.0
    assert design_effect(np.empty(0), np.empty(0), 0.1) == 1.0
    assert design_effect(np.array([1.0, 2.0]), np.array([3.0, 3.0]), 0.1) == 1.0


@given(st.integers(2, 500), st.integers(0, 2**32 - 1), st.floats(0.01, 10))
@relaxed
def test_a_design_effect_never_makes_requests_say_more(n: int, seed: int, limit: float) -> None:
    rng = RNG(seed)
    latency = np.where(rng.random(n) < 0.1, np.inf, rng.exponential(1.0, n))
    times = np.sort(rng.uniform(0, 20, n))
    assert 1.0 <= design_effect(latency, times, limit) <= n
    assert 1.0 <= design_effect(latency, times, math.inf) <= n


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_intervals_of_quantiles_hold_the_truth_as_often_as_they_say(q: float) -> None:
    rng = RNG(4)
    truth = -math.log(1 - q)
    held = 0
    for _ in range(400):
        low, high = quantile_interval(rng.exponential(1.0, 2000), q, 1.0, 0.95)
        held += low <= truth <= high
    assert 0.93 <= held / 400 <= 1.0


def test_an_interval_is_open_above_where_the_run_is_too_short() -> None:
    latency = RNG(5).exponential(1.0, 200)
    assert quantile_interval(latency, 0.99, 1.0, 0.95)[1] == math.inf
    assert quantile_interval(latency, 0.9, 1.0, 0.95)[1] < math.inf
    wide = quantile_interval(latency, 0.5, 20.0, 0.95)
    narrow = quantile_interval(latency, 0.5, 1.0, 0.95)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_interval_of_the_throughput_holds_the_rate() -> None:
    rng = RNG(6)
    held = 0
    for _ in range(200):
        times = np.cumsum(rng.exponential(1 / 500, 2000))
        found = throughput_interval(Samples(times, times, times, np.ones(2000, dtype=bool)))
        assert found is not None
        held += found[0] <= 500 <= found[1]
    assert held / 200 > 0.9


def test_too_few_replies_have_no_throughput_interval() -> None:
    times = np.arange(10.0)
    assert throughput_interval(Samples(times, times, times, np.ones(10, dtype=bool))) is None
    assert throughput_interval(Samples.empty()) is None


@pytest.mark.parametrize(("load", "growing"), [(0.5, 0.0), (0.8, 0.0), (1.25, 0.25), (2.0, 1.0)])
def test_latency_grows_by_what_is_not_served(load: float, growing: float) -> None:
    service = 0.002
    samples = md1(service)(load / service, 4000, np.random.default_rng(3))
    assert growth(samples) == pytest.approx(growing, abs=0.1)


def test_very_few_replies_tell_of_no_growth() -> None:
    assert growth(md1(0.001)(100.0, 12, np.random.default_rng(0))) is None


def test_few_replies_show_a_queue_that_grows_by_more_than_half() -> None:
    grown = [growth(md1(0.4)(4.0, 60, np.random.default_rng(seed))) or 0.0 for seed in range(100)]
    assert sum(each > 0.1 for each in grown) > 80


def test_a_queue_that_does_not_grow_is_rarely_taken_for_one() -> None:
    grown = [growth(md1(0.4)(2.0, 60, np.random.default_rng(seed))) or 0.0 for seed in range(200)]
    assert sum(each > 0.1 for each in grown) < 0.1 * 200
