"""SLAs of several models: each bound holds for the requests to its model alone."""

import numpy as np
import pytest

from tuner.errors import UnitError, UsageError
from tuner.goals.sla import Sla, bound_ratio
from tuner.goals.verdict import SlaOutcome, judge, judge_as_loadgen
from tuner.stats.samples import Samples

MODELS = ("detector", "classifier")
SLA = Sla.parse("detector:p99<40ms,classifier:p99<20ms")


def samples(detector: float, classifier: float, n: int = 4000) -> Samples:
    """Every second request goes to each; latencies are uniform up to so many seconds."""
    sent = np.arange(n) / 1000.0
    kind = np.arange(n) % 2
    latency = np.where(kind == 0, detector, classifier)
    latency *= np.random.default_rng(0).uniform(0.2, 1.0, n)
    return Samples(sent, sent, sent + latency, np.ones(n, dtype=bool), kind, MODELS)


def test_a_bound_names_its_model_in_text_and_is_parsed_back() -> None:
    assert SLA.text == "classifier:p99<20ms,detector:p99<40ms"
    assert Sla.parse(SLA.text) == SLA
    assert str(SLA) == "classifier p99 ≤ 20 ms and detector p99 ≤ 40 ms"
    assert SLA.models == ("classifier", "detector")
    with pytest.raises(UnitError, match="write it like detector:p99<20ms"):
        Sla.parse("a b:p99<20ms")
    with pytest.raises(UnitError, match="is not valid"):
        Sla.parse("detector:p990<20ms")


def test_what_is_said_without_a_model_counts_for_each() -> None:
    both = Sla.parse("p99<20ms,detector:p50<5ms").of_each(MODELS)
    assert both.text == "detector:p50<5ms,classifier:p99<20ms,detector:p99<20ms"
    with pytest.raises(UsageError, match="ranker gets no requests"):
        Sla.parse("ranker:p99<20ms").of_each(MODELS)
    with pytest.raises(UsageError, match="says nothing of classifier"):
        Sla.parse("detector:p99<20ms").of_each(MODELS)


@pytest.mark.parametrize("rule", [judge, judge_as_loadgen])
def test_the_sla_is_met_only_if_every_model_keeps_its_own(rule: object) -> None:
    assert callable(rule)
    assert rule(samples(0.03, 0.01), SLA, 0.95).outcome is SlaOutcome.MET
    # 30 ms are fine for one model, and too long for the other
    late = rule(samples(0.01, 0.03), SLA, 0.95)
    assert late.outcome is SlaOutcome.VIOLATED
    assert late.decided.bound.model == "classifier"
    assert late.decided.n == 2000


def test_the_bound_ratio_is_that_of_the_model_nearest_to_its_limit() -> None:
    assert bound_ratio(samples(0.03, 0.01), SLA) == pytest.approx(0.75, rel=0.02)
    assert bound_ratio(samples(0.01, 0.03), SLA) == pytest.approx(1.5, rel=0.02)
    only = samples(0.03, 0.5)
    assert bound_ratio(only.take(only.kind == 0), SLA) == pytest.approx(0.75, rel=0.02)


def test_a_model_without_a_request_yet_leaves_the_verdict_open() -> None:
    only = samples(0.01, 0.01)
    assert only.kind is not None
    verdict = judge(only.take(only.kind == 0), SLA, 0.95)
    assert verdict.outcome is SlaOutcome.INCONCLUSIVE
    assert verdict.decided.bound.model == "classifier"
