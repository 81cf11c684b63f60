import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.comparison import Round, paired_ratio

RATES = st.floats(1.0, 1e5)


def rounds(*rates: float, error: float = 0.0) -> tuple[Round, ...]:
    return tuple((rate, error) for rate in rates)


def test_what_is_common_to_a_round_cancels() -> None:
    found = paired_ratio(rounds(200.0, 100.0, 400.0), rounds(100.0, 50.0, 200.0))
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(found.high)


def test_one_round_has_no_interval() -> None:
    assert paired_ratio(rounds(200.0), rounds(100.0)) is None
    assert paired_ratio((), ()) is None


def test_the_interval_is_never_narrower_than_the_rounds_own_errors_allow() -> None:
    found = paired_ratio(rounds(200.0, 200.0, error=0.1), rounds(100.0, 100.0, error=0.1))
    assert found is not None
    assert found.low == pytest.approx(2 * np.exp(-1.96 * 0.1), rel=1e-3)


@given(st.lists(st.tuples(RATES, RATES), min_size=2, max_size=5))
def test_the_inverse_ratio_has_the_inverse_interval(pairs: list[tuple[float, float]]) -> None:
    first, second = (rounds(*rates) for rates in zip(*pairs, strict=True))
    there, back = paired_ratio(first, second), paired_ratio(second, first)
    assert there is not None
    assert back is not None
    assert there.value == pytest.approx(1 / back.value)
    assert there.low == pytest.approx(1 / back.high)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        common = rng.normal(0, 0.3, 3)
        first = np.exp(np.log(300) + common + rng.normal(0, 0.02, 3))
        second = np.exp(np.log(100) + common + rng.normal(0, 0.02, 3))
        found = paired_ratio(rounds(*first, error=0.02), rounds(*second, error=0.02))
        assert found is not None
        held += found.low <= 3.0 <= found.high
    assert held / 300 >= 0.93
