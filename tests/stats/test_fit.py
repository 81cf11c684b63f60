import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.stats.fit import Fit, ProbePoint, fit_rate, lowest

BUDGET = 0.01
relaxed = settings(deadline=None, max_examples=25)


def share(rate: float, capacity: float, steepness: float) -> float:
    return 1 / (1 + math.exp(-math.log(BUDGET / (1 - BUDGET)) - steepness * (rate / capacity - 1)))


def points(
    capacity: float, steepness: float, rates: list[float], n: int, rng: np.random.Generator
) -> list[ProbePoint]:
    """Probes of n independent requests at these multiples of the capacity."""
    return [
        ProbePoint(
            r * capacity, float(rng.binomial(n, share(r * capacity, capacity, steepness))), n
        )
        for r in rates
    ]


@pytest.mark.slow
@pytest.mark.parametrize("steepness", [10.0, 40.0, 150.0])
def test_the_interval_holds_the_truth_as_often_as_it_says(steepness: float) -> None:
    rng = np.random.default_rng(3)
    rates = [0.8, 0.9, 0.97, 1.0, 1.02, 1.05]
    fits = [fit_rate(points(700.0, steepness, rates, 600, rng), BUDGET, 600.0) for _ in range(60)]
    held = np.mean([fit.low <= 700.0 <= fit.high for fit in fits])
    assert held >= 0.9
    assert abs(np.median([fit.rate for fit in fits]) / 700.0 - 1) < 0.03


def test_a_cliff_and_a_slope_are_told_apart() -> None:
    rng = np.random.default_rng(4)
    rates = [0.85, 0.95, 0.99, 1.0, 1.01, 1.03, 1.06]
    slope = fit_rate(points(700.0, 12.0, rates, 5000, rng), BUDGET, 700.0)
    cliff = fit_rate(points(700.0, 200.0, rates, 5000, rng), BUDGET, 700.0)
    assert not slope.is_cliff
    assert cliff.is_cliff
    assert cliff.width < slope.width


@pytest.mark.slow
@given(st.floats(1.0, 1e5), st.floats(0.5, 1.5), st.integers(0, 2**32 - 1))
@relaxed
def test_a_unit_of_rates_does_not_matter(scale: float, guess: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = points(1.0, 30.0, [0.8, 0.95, 1.05], 500, rng)
    scaled = [ProbePoint(p.rate * scale, p.late, p.n) for p in found]
    one, other = fit_rate(found, BUDGET, guess), fit_rate(scaled, BUDGET, guess * scale)
    assert other.rate / one.rate == pytest.approx(scale, rel=1e-3)
    assert other.width == pytest.approx(one.width, rel=1e-2)


@given(st.integers(0, 30), st.integers(0, 2**32 - 1))
@relaxed
def test_more_late_never_speaks_for_more_capacity(more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = points(1000.0, 30.0, [0.9, 1.0], 500, rng)
    worse = [*found[:-1], ProbePoint(found[-1].rate, found[-1].late + more, 530)]
    same = [*found[:-1], ProbePoint(found[-1].rate, found[-1].late, 530)]
    assert fit_rate(worse, BUDGET, 900.0).rate <= fit_rate(same, BUDGET, 900.0).rate * 1.001


def test_without_probes_the_guess_is_all_there_is() -> None:
    fit = fit_rate([], BUDGET, 500.0)
    assert fit.rate == pytest.approx(500.0, rel=0.02)
    assert fit.width > 3


def test_a_drifting_machine_widens_the_interval() -> None:
    rng = np.random.default_rng(5)
    rates = [0.9, 0.95, 1.0, 1.05] * 2
    calm = points(700.0, 80.0, rates, 5000, rng)
    drifting = [
        ProbePoint(r * 700.0, 5000 * share(r * 700.0, 700.0 * drift, 80.0), 5000)
        for r, drift in zip(rates, (1.0, 0.9, 1.1, 1.0, 0.93, 1.08, 0.9, 1.1), strict=True)
    ]
    assert fit_rate(drifting, BUDGET, 700.0).width > 2 * fit_rate(calm, BUDGET, 700.0).width


def test_the_first_of_several_bounds_to_break_decides() -> None:
    rng = np.random.default_rng(6)
    near = fit_rate(points(500.0, 40.0, [0.9, 1.0, 1.1], 3000, rng), BUDGET, 500.0)
    far = fit_rate(points(900.0, 40.0, [0.5, 0.9, 1.1], 3000, rng), BUDGET, 500.0)
    both = lowest([far, near])
    assert both.rate == pytest.approx(near.rate, rel=0.01)
    assert both.steepness == near.steepness
    twice = lowest([near, near])
    assert twice.rate < near.rate
    assert isinstance(twice, Fit)
