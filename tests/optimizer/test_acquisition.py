"""What is to be gained by measuring more."""

import numpy as np
import pytest

from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate
from tuner.optimizer.acquisition import Gains
from tuner.optimizer.surrogate import Observation, Posterior, Surrogate

CANDIDATES = [
    Candidate.of({MAX_BATCH_SIZE: size, INSTANCE_COUNT: count})
    for count in (1, 4)
    for size in (8, 16, 32, 64)
]
"""Four that behave much alike, and four others that do."""
BATCHES = np.array([8.0, 8.1, 8.2, 8.3, 2.0, 2.1, 2.2, 2.3])


def posterior(measured: dict[int, float], error: float) -> Posterior:
    surrogate = Surrogate(CANDIDATES, np.log(np.full(8, 1000.0)), batches=BATCHES)
    return surrogate.posterior(
        [Observation(CANDIDATES[at], np.log(rate), error) for at, rate in measured.items()]
    )


def gains(after: Posterior, measured: list[int], level: float = -np.inf) -> Gains:
    left = np.array([at for at in range(8) if at not in measured])
    return Gains(after, left, np.ones(8), np.array(measured, dtype=int), level, 0)


def test_what_a_measured_neighbour_may_turn_out_to_be_is_no_gain() -> None:
    """Two families, of which it is open which is better: that is for the confirmation to tell."""
    after = posterior({0: 1000.0, 4: 1000.0}, 0.08)
    both, one = gains(after, [0, 4]), gains(after, [0], np.log(1000.0))
    assert both.of_all(0.01) < 0.5 * one.of_all(0.01)
    assert both.probability_above(0.05) < one.probability_above(0.05)


def test_an_unmeasured_family_is_a_gain() -> None:
    after = posterior({0: 800.0}, 0.02)
    found = gains(after, [0])
    assert found.of_all(0.01) > 0.02
    assert set(found.places[np.argsort(-found.expected)[:4]]) == {4, 5, 6, 7}


def test_without_a_measured_one_the_level_counts() -> None:
    after = posterior({}, 0.02)
    low, high = (gains(after, [], np.log(rate)) for rate in (500.0, 2000.0))
    assert low.of_all(0.01) > high.of_all(0.01) >= 0.0
    assert low.probability_above(0.02) == pytest.approx(1.0, abs=0.05)
