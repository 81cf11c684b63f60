from typing import Any

import pytest

from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, PREFERRED, Candidate, Value
from tuner.records.results import Cause, Evaluation, State
from tuner.search.failures import survival

THREADS = "parameters[intra_op_thread_count]"


def candidate(largest: int, count: int, **more: Value) -> Candidate:
    names = {"preferred": PREFERRED, "threads": THREADS}
    rest = {names[name]: value for name, value in more.items()}
    return Candidate.of({MAX_BATCH_SIZE: largest, INSTANCE_COUNT: count, **rest})


def done(of: Candidate, cause: Cause | None = None, failed: bool = True) -> Evaluation:
    values: dict[str, Any] = {"state": State.OK, "capacity": 100.0}
    if failed:
        values = {"state": State.FAILED, "failure": "no such luck", "cause": cause}
    return Evaluation(
        trial=0,
        phase="search",
        baseline=False,
        settings=dict(of.settings),
        config="",
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
        **values,
    )


def test_as_long_as_nothing_failed_all_may_live() -> None:
    evaluations = [done(candidate(8, 1), failed=False)]
    assert survival([candidate(8, 2), candidate(64, 4)], evaluations).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("cause", ["out of memory", "timed out"])
def test_what_is_larger_than_what_did_not_fit_is_not_tried(cause: Cause) -> None:
    evaluations = [done(candidate(32, 2), cause)]
    larger = [
        candidate(32, 2),
        candidate(64, 2),
        candidate(32, 3),
        candidate(64, 4, preferred=(8,)),
    ]
    assert survival(larger, evaluations).tolist() == [0.0] * 4
    smaller = [candidate(16, 4), candidate(64, 1), candidate(16, 1)]
    assert all(survival(smaller, evaluations) > 0)


def test_what_failed_besides_counts_as_well() -> None:
    known: list[tuple[Candidate, Cause | None]] = [(candidate(32, 2), "out of memory")]
    assert survival([candidate(64, 2), candidate(16, 1)], [], known).tolist() == [0.0, 1.0]


def test_memory_of_other_settings_is_another_question() -> None:
    evaluations = [done(candidate(32, 2, threads=1), "out of memory")]
    assert survival([candidate(64, 4, threads=2)], evaluations)[0] > 0


def test_a_setting_that_only_failed_is_avoided_more_and_more() -> None:
    bad = [candidate(8, count, threads=0) for count in (1, 2, 3)]
    chances = [
        survival([candidate(16, 4, threads=0)], [done(c, "refused") for c in bad[:number]])[0]
        for number in (1, 2, 3)
    ]
    assert 0.5 > chances[0] > chances[1] > chances[2] > 0


def test_a_setting_that_mostly_lived_is_not_to_blame() -> None:
    lived = [done(candidate(8, count), failed=False) for count in (1, 2, 3)]
    blamed = done(candidate(8, 4, threads=0), "died")
    chances = survival([candidate(8, 3), candidate(8, 3, threads=0)], [*lived, blamed])
    assert chances[0] > 0.7 > 0.3 > chances[1]
