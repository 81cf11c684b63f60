import pytest

from tuner.model.parameter import Value
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, PREFERRED, Candidate
from tuner.optimizer.feasibility import success_probability
from tuner.optimizer.measurement import Measurement
from tuner.records.results import Cause, State

THREADS = "parameters[intra_op_thread_count]"


def candidate(largest: int, count: int, **more: Value) -> Candidate:
    names = {"preferred": PREFERRED, "threads": THREADS}
    rest = {names[name]: value for name, value in more.items()}
    return Candidate.of({MAX_BATCH_SIZE: largest, INSTANCE_COUNT: count, **rest})


def measured(of: Candidate) -> Measurement:
    return Measurement(of, State.OK, merit=100.0)


def failed(of: Candidate, cause: Cause | None = None) -> Measurement:
    return Measurement(of, State.FAILED, cause=cause)


def test_as_long_as_nothing_failed_all_may_live() -> None:
    measurements = [measured(candidate(8, 1))]
    assert success_probability([candidate(8, 2), candidate(64, 4)], measurements).tolist() == [
        1.0,
        1.0,
    ]


@pytest.mark.parametrize("cause", ["out of memory", "timed out"])
def test_what_is_larger_than_what_did_not_fit_is_not_tried(cause: Cause) -> None:
    measurements = [failed(candidate(32, 2), cause)]
    larger = [
        candidate(32, 2),
        candidate(64, 2),
        candidate(32, 3),
        candidate(64, 4, preferred=(8,)),
    ]
    assert success_probability(larger, measurements).tolist() == [0.0] * 4
    smaller = [candidate(16, 4), candidate(64, 1), candidate(16, 1)]
    assert all(success_probability(smaller, measurements) > 0)


def test_memory_of_other_settings_is_another_question() -> None:
    measurements = [failed(candidate(32, 2, threads=1), "out of memory")]
    assert success_probability([candidate(64, 4, threads=2)], measurements)[0] > 0


def test_a_setting_that_only_failed_is_avoided_more_and_more() -> None:
    bad = [candidate(8, count, threads=0) for count in (1, 2, 3)]
    chances = [
        success_probability(
            [candidate(16, 4, threads=0)], [failed(c, "refused") for c in bad[:number]]
        )[0]
        for number in (1, 2, 3)
    ]
    assert 0.5 > chances[0] > chances[1] > chances[2] > 0


def test_a_setting_that_mostly_succeeded_is_not_to_blame() -> None:
    successes = [measured(candidate(8, count)) for count in (1, 2, 3)]
    blamed = failed(candidate(8, 4, threads=0), "died")
    chances = success_probability(
        [candidate(8, 3), candidate(8, 3, threads=0)], [*successes, blamed]
    )
    assert chances[0] > 0.7 > 0.3 > chances[1]
