import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tuner.arrivals import Arrivals, schedule

relaxed = settings(deadline=None, max_examples=60)
KINDS = st.sampled_from(list(Arrivals))


def test_poisson_gaps_are_exponential() -> None:
    times = schedule(Arrivals.POISSON, 200.0, 50.0, np.random.default_rng(3))
    gaps = np.diff(np.concatenate(([0.0], times)))
    assert stats.kstest(gaps, "expon", args=(0, 1 / 200)).pvalue > 0.01


def test_poisson_gaps_do_not_depend_on_each_other() -> None:
    gaps = np.diff(schedule(Arrivals.POISSON, 200.0, 50.0, np.random.default_rng(3)))
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4 / np.sqrt(len(gaps))


def test_poisson_counts_have_the_mean_and_variance_of_their_rate() -> None:
    rng = np.random.default_rng(4)
    counts = [len(schedule(Arrivals.POISSON, 50.0, 2.0, rng)) for _ in range(2000)]
    assert np.mean(counts) == pytest.approx(100, abs=4 * np.sqrt(100 / 2000))
    assert np.var(counts) == pytest.approx(100, rel=0.15)


@pytest.mark.parametrize("kind", Arrivals)
def test_the_seed_alone_decides(kind: Arrivals) -> None:
    first, again, other = (
        schedule(kind, 100.0, 5.0, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first[0] != other[0]


def test_constant_arrivals_are_evenly_spaced() -> None:
    times = schedule(Arrivals.CONSTANT, 40.0, 5.0, np.random.default_rng(0))
    assert np.diff(times) == pytest.approx(1 / 40)
    assert 0 <= times[0] < 1 / 40


@given(KINDS, st.floats(0.1, 2000), st.floats(0.01, 5), st.integers(0, 2**32 - 1))
@relaxed
def test_times_ascend_within_the_duration(
    kind: Arrivals, rate: float, duration: float, seed: int
) -> None:
    times = schedule(kind, rate, duration, np.random.default_rng(seed))
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times < duration))
    if kind is Arrivals.CONSTANT:
        assert abs(len(times) - rate * duration) <= 1
    else:
        assert abs(len(times) - rate * duration) <= 8 * np.sqrt(rate * duration) + 8


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_no_rate_or_no_time_is_refused(rate: float, duration: float) -> None:
    with pytest.raises(ValueError, match="must be greater than zero"):
        schedule(Arrivals.POISSON, rate, duration, np.random.default_rng(0))
