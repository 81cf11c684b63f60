"""What is drawn of several candidates together agrees with what is said of each."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate
from tuner.optimizer.surrogate import Observation, Surrogate, below

CANDIDATES = [
    Candidate.of({MAX_BATCH_SIZE: size, INSTANCE_COUNT: count})
    for size in (4, 8, 16, 32)
    for count in (1, 2, 4)
]
PRIOR = np.log(np.linspace(500.0, 1600.0, len(CANDIDATES)))
ALL = np.arange(len(CANDIDATES))
observations = st.lists(
    st.builds(
        Observation,
        st.sampled_from(CANDIDATES),
        st.floats(5.0, 9.0),
        st.floats(0.005, 0.3),
    ),
    max_size=6,
)


@given(observations)
def test_draws_have_the_mean_and_the_error_that_are_stated(seen: list[Observation]) -> None:
    posterior = Surrogate(CANDIDATES, PRIOR).posterior(seen)
    drawn = posterior.draw(ALL, 4000, 1)
    assert drawn.shape == (4000, len(CANDIDATES))
    far = 6 * posterior.error / math.sqrt(4000)
    assert np.all(np.abs(drawn.mean(axis=0) - posterior.mean) <= far + 1e-6)
    assert np.all(drawn.std(axis=0) <= 1.25 * posterior.error + 1e-6)


def test_what_is_known_of_one_is_known_of_those_with_the_same_batches() -> None:
    """Their difference is known better than either: so ties are not measured one by one."""
    batches = np.array([3.0 if c.get(INSTANCE_COUNT) == 4 else 8.0 for c in CANDIDATES])
    surrogate = Surrogate(CANDIDATES, PRIOR, batches=batches)
    seen = [Observation(CANDIDATES[0], PRIOR[0] + 0.2, 0.04)]
    drawn = surrogate.posterior(seen).draw(np.array([0, 3, 2]), 4000, 1)
    alike, unlike = (drawn[:, 1] - drawn[:, 0]).std(), (drawn[:, 2] - drawn[:, 0]).std()
    assert alike < 0.02 < drawn[:, 0].std()
    assert unlike > 2 * alike


def test_a_certain_prior_is_drawn_as_it_is() -> None:
    posterior = Surrogate(CANDIDATES, PRIOR, certain=True).posterior([])
    assert posterior.draw(ALL, 3, 0) == pytest.approx(np.tile(PRIOR, (3, 1)))


def test_what_lies_below_where_it_is_expected_anyhow_tells_nothing() -> None:
    assert below(CANDIDATES[0], 7.0, 0.05, 7.5) is None


@given(st.floats(6.0, 8.0), st.floats(0.02, 0.4), st.floats(-3.0, 1.0))
def test_what_lies_below_is_believed_lower_and_not_far_below(
    mean: float, error: float, away: float
) -> None:
    """A candidate that was left at one probe above its capacity is no bad one for that."""
    limit = mean + away * error
    observation = below(CANDIDATES[0], mean, error, limit)
    if observation is None:
        assert away > 0
        return
    precision = 1 / error**2 + 1 / (observation.error**2 + 0.03**2)
    after = (mean / error**2 + observation.log / (observation.error**2 + 0.03**2)) / precision
    assert after < mean
    assert after > limit - 2 * error - 0.06
