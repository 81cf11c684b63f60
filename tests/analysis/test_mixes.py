"""What each of several models serves, and where the time of a pipeline's request goes."""

import pytest

from tests.analysis.test_steps import counted
from tests.records.test_results import evaluation, probe
from tuner.analysis.mixes import model_shares
from tuner.analysis.steps import waterfall
from tuner.goals.sla import Sla
from tuner.load.mix import Mix
from tuner.records.manifest import RecordedStep
from tuner.records.results import Insight, ProbeRecord, StepReading
from tuner.report.wording import bottleneck_sentences

SLA = Sla.parse("a:p50<10ms,a:p99<40ms,b:p99<20ms")


def near_capacity() -> ProbeRecord:
    steps = tuple(
        StepReading(model=name, instances=1, server=counted(500, 4, 0.016)) for name in "ab"
    )
    latency = {"a p50": 0.009, "a p99": 0.020, "b p99": 0.030, "p99": 0.02}
    return probe(n=1000, errors=0, seconds=10.0, steps=steps, latency=latency)


def test_each_model_has_its_part_of_the_capacity_and_its_room_below_the_sla() -> None:
    mix = Mix.parse("a=1,b=3")
    found = evaluation(capacity=400.0, recommended=360.0)
    insight = Insight(alone={"a": 500.0, "b": 900.0})
    a, b = model_shares(found, near_capacity(), SLA, mix, insight)
    assert (a.capacity, b.capacity) == (100.0, 300.0)
    assert (a.recommended, b.recommended) == (90.0, 270.0)
    assert a.bound.of_all == "p50"  # of its two bounds the one of which more is used up
    assert a.slack == pytest.approx(0.1)
    assert b.slack == pytest.approx(-0.5)
    assert (a.alone, b.alone) == (500.0, 900.0)
    assert a.use is not None
    assert a.use.utilization == pytest.approx(125 * 0.016 / 10)


def test_a_held_model_keeps_its_rate_at_the_capacity() -> None:
    mix = Mix.parse("a=1,b=3").holding({"b": 50.0})
    a, b = model_shares(evaluation(capacity=400.0), None, SLA, mix)
    assert (a.capacity, b.capacity) == (400.0, 50.0)
    assert b.latency is None
    assert b.slack is None


def test_steps_begin_once_those_that_they_read_from_are_done() -> None:
    steps = (
        StepReading(model="first", instances=1, server=counted(1000, 1, 0.004, queue=0.002)),
        StepReading(model="left", instances=1, server=counted(1000, 1, 0.010, queue=0.0)),
        StepReading(model="right", instances=1, server=counted(1000, 1, 0.003, queue=0.001)),
        StepReading(model="last", instances=1, server=counted(1000, 1, 0.001, queue=0.0)),
    )
    record = probe(n=1000, errors=0, seconds=10.0, steps=steps)
    order = [
        RecordedStep(model="first"),
        RecordedStep(model="left", after=(0,)),
        RecordedStep(model="right", after=(0,)),
        RecordedStep(model="last", after=(1, 2)),
    ]
    spans = waterfall(record, order)
    assert [round(span.start, 6) for span in spans] == [0.0, 0.006, 0.006, 0.016]
    assert spans[-1].end == pytest.approx(0.017)
    assert waterfall(record, [*order, RecordedStep(model="silent")]) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [(1.12, "would gain 12"), (0.7, "would lose 30"), (1.001, "would gain nothing")],
)
def test_what_one_more_instance_would_do_is_said(more: float, words: str) -> None:
    from tuner.analysis.steps import step_uses

    insight = Insight(one_more={"a": more, "b": 1.0})
    sentence, *_ = bottleneck_sentences(step_uses(near_capacity()), insight, "step")
    assert "Bottleneck: a, busy" in sentence
    assert words in sentence.replace("\N{NO-BREAK SPACE}", " ")
