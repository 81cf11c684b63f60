"""Confirmations of simulated queues."""

import numpy as np

from benchmarks.load.confirmation import MACHINE, End, Machine, _confirm, _row
from tuner.deployments.subjects import Subject
from tuner.measurement.draft import Draft
from tuner.measurement.settings import SHORT_PROBE

CAPACITY = 2080.0
"""Of the fastest queue, from long runs."""


def end(rounds: int, settled: bool, ahead: bool = True) -> End:
    return End(rounds, 10.0 * rounds, ahead, (1.0, 1.2), settled, recommended=0.9)


def test_the_wrong_one_ahead_counts_where_it_matters() -> None:
    ends = [end(2, True), end(2, True, ahead=False), end(4, False, ahead=False)]
    row = _row(ends, 1.08)
    assert row["wrong"] == 66.7
    assert (row["held"], row["settled"], row["kept"]) == (100.0, 66.7, 100.0)
    assert row["played"]["median"] == 2
    assert _row(ends, 1.01)["wrong"] == 0.0
    assert _row(ends, 1.3)["held"] == 0.0


def test_a_confirmation_knows_the_better_one_and_its_capacity() -> None:
    machine = Machine({0: 1.0, 1: 1.5, 2: 2.5}, np.random.default_rng(1))
    found = _confirm(machine, (CAPACITY, 0.67 * CAPACITY, 0.4 * CAPACITY), beside=True)
    assert found.first_is_ahead
    assert abs(found.error) < 0.15
    assert 2 <= found.rounds <= 5
    assert found.seconds == machine.seconds > 3 * MACHINE.launch_seconds


def test_a_simulated_server_is_late_above_its_capacity() -> None:
    machine = Machine({0: 1.0}, np.random.default_rng(1))
    draft = Draft(Subject(0), "confirm", "", np.random.default_rng(0))
    with machine.open(draft) as session:
        assert machine.seconds == MACHINE.launch_seconds
        assert session.probe(0.6 * CAPACITY, SHORT_PROBE).kept
        assert not session.probe(1.4 * CAPACITY, SHORT_PROBE).kept
    assert machine.seconds > MACHINE.launch_seconds
    with machine.open(draft) as session:
        assert session.server == 1
