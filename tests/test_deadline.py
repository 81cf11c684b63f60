import math

import pytest

from tuner.deadline import Deadline
from tuner.errors import OutOfTime


def test_without_one_there_is_all_the_time() -> None:
    deadline = Deadline()
    assert deadline.left == math.inf
    assert deadline.bound(3.0) == 3.0
    deadline.require(1e9)


def test_a_phase_has_an_end_of_its_own_and_never_a_later_one() -> None:
    deadline = Deadline()
    deadline.set(1000.0)
    with deadline.within(10.0):
        assert 9.0 < deadline.left <= 10.0
        with deadline.within(500.0):
            assert deadline.left <= 10.0
    assert 990.0 < deadline.left <= 1000.0


def test_nothing_is_begun_too_near_to_it() -> None:
    deadline = Deadline()
    deadline.set(0.3)
    with pytest.raises(OutOfTime):
        deadline.require(0.4)
    deadline.set(-1.0)
    assert deadline.left == 0.0
    assert deadline.bound(5.0) == 0.0
    with pytest.raises(OutOfTime):
        deadline.require()
