import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.stats import (
    design_effect,
    quantile,
    requests_needed,
    surely_above,
    surely_below,
    violations_allowed,
)

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


@given(st.integers(0, 5000), SHARES, CONFIDENCES)
@relaxed
def test_violations_allowed_is_the_inverse_of_requests_needed(
    n: int, share: float, confidence: float
) -> None:
    allowed = violations_allowed(n, share, confidence)
    if allowed is None:
        assert requests_needed(0, share, confidence) > n
    else:
        assert requests_needed(allowed, share, confidence) <= n
        assert requests_needed(allowed + 1, share, confidence) > n


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


def test_independent_violations_have_a_design_effect_near_one() -> None:
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 60, 30_000))
    effects = [design_effect(rng.random(30_000) < 0.01, times, 0.1) for _ in range(20)]
    assert min(effects) >= 1.0
    assert np.mean(effects) < 1.15


def test_the_same_number_in_clusters_has_a_large_design_effect() -> None:
    times = np.linspace(0, 60, 30_000)
    in_bursts = np.arange(30_000) % 5_000 < 50  # 0.1 s late in every 10 s
    assert design_effect(in_bursts, times, 0.1) > 20


def test_a_design_effect_is_one_where_nothing_can_be_said() -> None:
    times = np.linspace(0, 10, 100)
    assert design_effect(np.zeros(100, dtype=bool), times, 0.1) == 1.0
    assert design_effect(np.ones(100, dtype=bool), times, 0.1) == 1.0
    assert design_effect(np.arange(100) < 5, times, 100.0) == 1.0
    assert design_effect(np.empty(0, dtype=bool), np.empty(0), 0.1) == 1.0


@given(st.integers(2, 500), st.integers(0, 2**32 - 1), st.floats(0.01, 10))
@relaxed
def test_a_design_effect_never_makes_requests_say_more(n: int, seed: int, block: float) -> None:
    rng = np.random.default_rng(seed)
    late = rng.random(n) < rng.random()
    assert design_effect(late, np.sort(rng.uniform(0, 20, n)), block) >= 1.0
