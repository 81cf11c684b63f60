"""Each moment of a run counts for one phase, and sessions add up."""

from pathlib import Path

import pytest

from tests.manifests import make_manifest
from tests.search_records import EXPERIMENT, realistic
from tuner.records.phases import PhaseClock, TimeBudget
from tuner.records.run import Run


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_phase_within_another_counts_for_itself_alone() -> None:
    now = Clock()
    clock = PhaseClock(now)
    clock.enter("start", since=98.0)
    now.now += 1
    clock.enter("trials")
    with clock.phase("calibration"), clock.part("launches"):
        now.now += 5
    now.now += 7
    clock.enter("report")
    now.now += 2
    clock.stop()
    now.now += 50
    assert clock.take() == TimeBudget(start=3, calibration=5, trials=7, report=2, launches=5)
    assert clock.take().total == 0


def test_what_is_taken_in_between_is_not_counted_twice() -> None:
    now = Clock()
    clock = PhaseClock(now)
    clock.enter("trials")
    now.now += 3
    with clock.phase("verification"):
        now.now += 2
        first = clock.take()
        now.now += 4
    assert TimeBudget.sum([first, clock.take()]) == TimeBudget(trials=3, verification=6)


def test_a_phase_that_fails_ends() -> None:
    now = Clock()
    clock = PhaseClock(now)
    clock.enter("trials")

    def fail() -> None:
        with clock.phase("simulation"):
            now.now += 2
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    now.now += 1
    assert clock.take() == TimeBudget(simulation=2, trials=1)


def test_a_resumed_run_adds_up(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "run", make_manifest(**EXPERIMENT))
    assert made.time_budget() is None  # as in runs of before there were any
    first, second = realistic(None)[:2]
    for evaluation, seconds in ((first, 4.0), (second, 6.0)):
        run, now = Run.open(made.folder), Clock()
        run.clock = PhaseClock(now)
        run.clock.enter("trials")
        now.now += seconds
        run.append(evaluation)
    budget = Run.open(made.folder).time_budget()
    assert budget is not None
    assert (budget.trials, budget.total) == (10.0, 10.0)


def test_a_run_without_phases_keeps_no_times(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", make_manifest(**EXPERIMENT))
    run.append(realistic(None)[0])
    assert not run.times_file.exists()
