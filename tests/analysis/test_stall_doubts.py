"""What a report says of a machine that stalled."""

from typing import Any

from tests.search_records import evaluate, probe
from tuner.analysis.stalls import ForeignLoad, MachineStalls, stall_doubts
from tuner.records.results import Evaluation, ProbeRecord, Undisturbed
from tuner.report.wording import doubt_sentence, undisturbed_words

REST = Undisturbed(n=800, late=3, outcome="met", left_out=0.2, bound_ratio=0.6, decides=True)


def measured(**changes: Any) -> tuple[Evaluation, ProbeRecord]:
    record, _ = probe({}, 400.0, 0, seconds=10.0, **{"stalls": (), **changes})
    found = evaluate(0, {}).model_copy(update={"probes": (record,)})
    return found, record


def test_stalls_that_decided_are_told_with_both_verdicts() -> None:
    both = ((1.0, 0.125, 0), (1.01, 0.1, 1))
    found, record = measured(stalls=both, undisturbed=REST)
    doubt = next(stall_doubts([found]))
    assert doubt == MachineStalls(6.0, 0.125, 1, 1, 0)
    assert "Machine stalls: 6 a minute, up to 125 ms." in doubt_sentence(doubt)
    assert undisturbed_words(record).startswith("met without machine stalls (3 of 800 late")
    assert record.telling_ratio == REST.bound_ratio
    assert record.bound_ratio != REST.bound_ratio


def test_a_few_short_stalls_that_decided_nothing_are_no_doubt() -> None:
    found, record = measured(stalls=((1.0, 0.02, 0),))
    assert not list(stall_doubts([found]))
    assert undisturbed_words(record) == ""
    assert record.telling_ratio == record.bound_ratio


def test_other_processes_are_told_from_stalls() -> None:
    found, _ = measured(stalls=((0.0, 4.0, "foreign"),))
    assert list(stall_doubts([found])) == [ForeignLoad(0.4)]
    assert "for 40" in doubt_sentence(ForeignLoad(0.4))
    assert not list(stall_doubts([]))


def test_too_many_stalls_leave_it_undecidable() -> None:
    rest = REST.model_copy(update={"outcome": None, "left_out": 0.7, "decides": False})
    found, record = measured(stalls=((1.0, 6.0, 0),), undisturbed=rest)
    doubt = next(stall_doubts([found]))
    assert isinstance(doubt, MachineStalls)
    assert doubt.undecidable == 1
    assert "too many affected requests for a verdict" in doubt_sentence(doubt)
    assert undisturbed_words(record).startswith("undecidable")
