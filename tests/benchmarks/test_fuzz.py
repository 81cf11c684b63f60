"""The benchmark of hostile input finds what it looks for."""

from pathlib import Path

import pytest

from benchmarks.fuzz import __main__ as command
from benchmarks.fuzz import readers as registry
from benchmarks.fuzz.inputs import BOMBS
from benchmarks.fuzz.readers import Reader
from benchmarks.fuzz.running import Outcome, Progress, run
from tuner.errors import UsageError


def outcome_of(read: registry.Read, limit: float = 5.0) -> Outcome:
    return run(Reader(read, (b"seed",)), 0, range(10), limit)


def test_errors_of_tuners_own_are_refusals() -> None:
    def refuse(raw: bytes, folder: Path) -> object:
        raise UsageError("no")

    outcome = outcome_of(refuse)
    assert (outcome.inputs, outcome.refused, outcome.foreign) == (10, 10, 0)


def test_other_errors_are_counted_and_told_once() -> None:
    def fail(raw: bytes, folder: Path) -> object:
        return raw.decode("ascii")[1000]

    outcome = outcome_of(fail)
    assert outcome.foreign == 10 - sum(len(raw) > 1000 for raw in BOMBS[:9])
    assert [failure.number for failure in outcome.failures][:1] == [0]
    assert outcome.failures[0].kind == "IndexError"


def test_a_long_message_is_a_failure() -> None:
    def refuse(raw: bytes, folder: Path) -> object:
        raise UsageError("x" * 9000)

    assert "a message of more than" in outcome_of(refuse).failures[0].kind


def test_what_takes_too_long_is_a_failure() -> None:
    def hang(raw: bytes, folder: Path) -> object:
        while True:
            pass

    outcome = run(Reader(hang, (b"seed",)), 0, range(2), 0.1)
    assert outcome.foreign == 2
    assert outcome.failures[0].kind == "TooSlow"
    assert 0.05 < outcome.slowest < 5


def test_another_process_sees_how_far_it_is(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress")
    assert progress.get() == -1
    run(Reader(lambda raw, folder: None, (b"seed",)), 0, range(3, 7), 1.0, progress)
    assert Progress(tmp_path / "progress").get() == 6


@pytest.mark.slow
def test_a_reader_is_run_in_a_process_of_its_own() -> None:
    outcome = command.fuzz("units", 0, 50)
    assert (outcome.inputs, outcome.foreign) == (50, 0)
    assert outcome.peak > 0


@pytest.mark.slow
def test_a_process_that_is_ended_is_a_failure_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "LIMITS", command.Limits(memory=64 << 20, restarts=2))
    outcome = command.fuzz("units", 0, 50)  # with so little, not even the imports fit
    assert outcome.foreign == 2
    assert "ended with" in outcome.failures[0].kind
