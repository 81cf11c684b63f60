"""Candidates that do the same under a load are one, named by its simplest member."""

import numpy as np
import pytest

from tests.simulated import batch_times
from tuner.load.arrivals import Arrivals
from tuner.model.space import MAX_BATCH_SIZE, PREFERRED, QUEUE_DELAY, Candidate
from tuner.optimizer.behaviour import Behaviour, classes, observe, simplest_of_each
from tuner.optimizer.simulators import Seen
from tuner.simulator.predict import play
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes

GPU = ServiceTimes(batch_times(0.004, 0.00035), exclusive=0.7)
CAPACITY = 1000.0


def behaviour(scheduling: Scheduling, capacity: float = CAPACITY) -> Behaviour:
    def simulated(rate: float, requests: int) -> Seen:
        played = play(rate, requests, scheduling, GPU, Arrivals.POISSON, None, 0)
        return Seen(played.samples, np.array([np.mean(played.sizes)]))

    return observe(capacity, simulated)


def greedy(most: int, delay: float = 0.0) -> Scheduling:
    return Scheduling(True, most, (most,), delay, instances=2)


def test_batches_that_are_never_reached_make_no_difference() -> None:
    small, large, larger = greedy(4), greedy(32), greedy(64)
    known = {each: (CAPACITY, behaviour(each)) for each in (small, large, larger)}
    numbers = classes(known)
    assert numbers[large] == numbers[larger]
    assert numbers[small] != numbers[large]
    assert known[large][1].batches == known[larger][1].batches > 1


def test_a_delay_that_is_waited_for_does() -> None:
    known = {each: (CAPACITY, behaviour(each)) for each in (greedy(64), greedy(64, 0.002))}
    assert len(set(classes(known).values())) == 2


@pytest.mark.parametrize(("other", "same"), [(1010.0, True), (1049.0, False)])
def test_they_are_compared_at_one_rate_wherever_their_capacities_were_found(
    other: float, same: bool
) -> None:
    """With capacities on either side of a rate of comparison, too."""
    known = {
        each: (capacity, behaviour(each, capacity))
        for each, capacity in ((greedy(32), 990.0), (greedy(64), other * 0.99))
    }
    assert (len(set(classes(known).values())) == 1) is same


def test_the_simplest_stands_for_its_class() -> None:
    plain = Candidate.of({MAX_BATCH_SIZE: 32, QUEUE_DELAY: 0})
    late = Candidate.of({MAX_BATCH_SIZE: 32, QUEUE_DELAY: 5000})
    preferred = Candidate.of({MAX_BATCH_SIZE: 32, QUEUE_DELAY: 0, PREFERRED: (4, 8)})
    large = Candidate.of({MAX_BATCH_SIZE: 64, QUEUE_DELAY: 0})
    candidates = [preferred, late, large, plain]
    one_class, every = np.zeros(4, dtype=np.int64), np.ones(4, dtype=bool)
    assert simplest_of_each(candidates, one_class, every).tolist() == [False, False, False, True]
    left = np.array([True, True, True, False])
    assert simplest_of_each(candidates, one_class, left).tolist() == [False, False, True, False]
    own_classes = np.arange(4)
    assert simplest_of_each(candidates, own_classes, every).all()
