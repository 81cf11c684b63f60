import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tuner.simulator.curve import ServiceCurve, Timing
from tuner.stats.samples import Floats

relaxed = settings(deadline=None, max_examples=100)
Curve = Callable[[Floats], Floats]
SIZES = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64])


def fitted(sizes: Floats, seconds: Floats, count: int = 500) -> ServiceCurve:
    pairs = zip(sizes, seconds, strict=True)
    return ServiceCurve.fit(Timing(int(b), float(s), count) for b, s in pairs)


def line(sizes: Floats) -> Floats:
    return np.asarray(0.004 + 0.0003 * sizes)


def flat_then_rising(sizes: Floats) -> Floats:
    return np.asarray(np.maximum(0.005, 0.0003 * sizes))


def steps(sizes: Floats) -> Floats:
    return np.asarray(0.002 * np.ceil(sizes / 8) + 0.003)


@pytest.mark.parametrize("truth", [line, flat_then_rising])
def test_a_curve_is_recovered_from_some_of_its_sizes(truth: Curve) -> None:
    found = fitted(SIZES, truth(SIZES)).table(64)
    sizes = np.arange(1, 65)
    assert found.shape == (65,)
    assert found[0] == 0
    np.testing.assert_allclose(found[SIZES], truth(SIZES), rtol=0.04)
    np.testing.assert_allclose(found[1:], truth(sizes), rtol=0.07)


def test_a_line_is_recovered_from_three_sizes() -> None:
    sizes = np.array([1, 8, 64])
    np.testing.assert_allclose(
        fitted(sizes, line(sizes)).table(64)[1:], line(np.arange(1, 65)), rtol=0.04
    )


def test_steps_are_recovered_where_they_are_seen() -> None:
    sizes = np.array([1, 2, 4, 8, 9, 11, 16, 17, 23, 24])
    found = fitted(sizes, steps(sizes)).table(24)
    np.testing.assert_allclose(found[sizes], steps(sizes), rtol=0.2)
    assert found[16] - found[8] == pytest.approx(0.002, rel=0.35)


@pytest.mark.parametrize("truth", [line, flat_then_rising])
def test_noisy_windows_are_off_by_no_more_than_the_stated_errors(
    truth: Curve,
) -> None:
    rng, held, far = np.random.default_rng(1), [], []
    for _ in range(60):
        seconds = truth(SIZES) * (1 + 0.03 * rng.standard_normal(len(SIZES)))
        curve = fitted(SIZES, seconds)
        aside = np.abs(np.array(curve.seconds) - truth(np.array(curve.sizes)))
        held += list(aside <= 2 * np.array(curve.errors))
        far += list(aside / truth(np.array(curve.sizes)))
    assert np.mean(held) > 0.9
    assert np.mean(far) < 0.03


def test_more_windows_have_smaller_errors() -> None:
    few = fitted(SIZES, line(SIZES))
    many = fitted(np.tile(SIZES, 9), np.tile(line(SIZES), 9))
    assert sum(many.errors) < sum(few.errors) / 2
    np.testing.assert_allclose(many.seconds, few.seconds, rtol=0.03)


def test_sizes_that_ran_often_count_for_more() -> None:
    often, once = Timing(8, 0.010, 10_000), Timing(8, 0.020, 1)
    assert ServiceCurve.fit([often, once]).table(8)[8] == pytest.approx(0.010, rel=0.05)


observations = st.builds(Timing, st.integers(1, 200), st.floats(1e-4, 1.0), st.integers(1, 10**6))


@given(st.lists(observations, min_size=1, max_size=30), st.integers(1, 400))
@relaxed
def test_a_table_never_falls(seen: list[Timing], largest: int) -> None:
    curve = ServiceCurve.fit(seen)
    table = curve.table(largest)
    assert table.shape == (largest + 1,)
    assert np.isfinite(table).all()
    assert (np.diff(table) >= -1e-9 * table.max()).all()
    assert table[1:].min() >= 0
    assert list(curve.sizes) == sorted(set(curve.sizes))
    assert min(curve.errors) >= 0


UNSEEN_BELOW_11 = [
    Timing(187, 1 / 3, 26260),
    Timing(137, 0.1875, 3517),
    Timing(11, 1.0, 163),
    Timing(11, 0.5, 475714),
]
"""Nothing says how long few items take, so that rounding may decide."""


@given(st.lists(observations, min_size=1, max_size=10), st.floats(1e-2, 1e2))
@example(UNSEEN_BELOW_11, 2.0)
@relaxed
def test_a_unit_of_time_does_not_matter(seen: list[Timing], factor: float) -> None:
    scaled = [Timing(o.size, o.seconds * factor, o.count) for o in seen]
    expected = np.array(ServiceCurve.fit(seen).seconds) * factor
    top = max(o.seconds for o in scaled)
    np.testing.assert_allclose(ServiceCurve.fit(scaled).seconds, expected, atol=1e-3 * top)


def test_what_falls_is_taken_for_its_mean() -> None:
    """Weighted by relative errors, which are alike here: by 1 / seconds²."""
    sizes, seconds = np.array([1, 4, 16]), np.array([0.0102, 0.0101, 0.01])
    table = fitted(sizes, seconds).table(16)
    assert np.ptp(table[1:]) == pytest.approx(0, abs=1e-9)
    assert table[1] == pytest.approx(np.average(seconds, weights=seconds**-2.0), rel=1e-3)


def test_what_lies_far_above_the_others_hardly_counts() -> None:
    sizes, seconds = np.array([1, 4, 4, 16, 16]), np.array([0.01, 0.01, 0.02, 0.012, 0.03])
    table = fitted(sizes, seconds).table(16)
    np.testing.assert_allclose(table[[1, 4, 16]], [0.01, 0.01, 0.012], rtol=0.05)


def test_a_dip_is_levelled_out() -> None:
    sizes, seconds = np.array([1, 2, 4, 8]), np.array([0.004, 0.009, 0.007, 0.012])
    table = fitted(sizes, seconds).table(8)
    assert 0.004 < table[2] <= table[4] < 0.009


def test_beyond_what_was_seen_the_last_slope_goes_on() -> None:
    sizes = SIZES[SIZES <= 16]
    curve = fitted(sizes, flat_then_rising(sizes))
    table = curve.table(100)
    np.testing.assert_allclose(np.diff(table[16:]), curve.slope)
    rising = fitted(sizes, line(sizes)).table(64)
    assert rising[64] == pytest.approx(line(np.array(64)), rel=0.1)


@pytest.mark.parametrize("size", [1, 2, 8, 100])
def test_one_size_says_what_it_takes_itself(size: int) -> None:
    curve = fitted(np.array([size]), np.array([0.01]))
    assert curve.table(size)[size] == pytest.approx(0.01)
    assert np.isfinite(curve.table(2 * size)).all()


@pytest.mark.parametrize(
    "seen",
    [[], [Timing(4, 0.01, 0)], [Timing(4, math.nan, 5)]],
    ids=["none", "none that ran", "no number"],
)
def test_a_curve_of_nothing_is_refused(seen: list[Timing]) -> None:
    with pytest.raises(ValueError, match="no executions were observed"):
        ServiceCurve.fit(seen)
