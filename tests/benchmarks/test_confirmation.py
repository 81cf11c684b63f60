"""Confirmations of simulated queues."""

import numpy as np

from benchmarks.load.confirmation import MACHINE, Machine, Stand, _row, _settled
from tuner.deployments.subjects import Subject
from tuner.measurement.draft import Draft
from tuner.measurement.settings import SHORT_PROBE

CAPACITY = 2080.0
"""Of the fastest queue, from long runs."""


def stand(rounds: int, settled: bool, ahead: bool = True) -> Stand:
    return Stand(rounds, 10.0 * rounds, ahead, (1.0, 1.2), settled)


def test_a_confirmation_ends_where_the_rule_says() -> None:
    history = [stand(1, False), stand(2, True), stand(3, False)]
    assert _settled(history).rounds == 2
    assert _settled(history[:1]).rounds == 1


def test_the_wrong_one_ahead_counts_where_it_matters() -> None:
    ends = [stand(2, True), stand(2, True, ahead=False), stand(4, False, ahead=False)]
    row = _row(ends, 1.08)
    assert (row["wrong"], row["wrong_settled"]) == (66.7, 33.3)
    assert (row["held"], row["settled"]) == (100.0, 66.7)
    assert row["played"]["median"] == 2
    assert _row(ends, 1.01)["wrong"] == 0.0
    assert _row(ends, 1.3)["held"] == 0.0


def test_a_simulated_server_is_late_above_its_capacity() -> None:
    machine = Machine({0: 1.0}, np.random.default_rng(1))
    draft = Draft(Subject(0), "confirm", "", np.random.default_rng(0))
    with machine.open(draft) as session:
        assert machine.seconds == MACHINE.launch_seconds
        assert session.probe(0.6 * CAPACITY, SHORT_PROBE).kept
        assert not session.probe(1.4 * CAPACITY, SHORT_PROBE).kept
    assert machine.seconds > MACHINE.launch_seconds
    with machine.open(draft) as session:
        assert session.number == 1
