"""When a probe may end early."""

import numpy as np
import pytest

from tuner.goals.sla import Sla
from tuner.goals.verdict import SlaOutcome
from tuner.measurement.watch import ProbeWatch, Thoroughness
from tuner.stats.samples import Samples

HOW = Thoroughness(seconds=4.0, least_seconds=1.5, most_seconds=30.0, confidence=0.95)


def burst(seconds: float) -> Samples:
    """500 requests/s; in the first second, nine of ten are late."""
    sent = np.arange(0, seconds, 0.002)
    late = (sent < 1) & (np.arange(len(sent)) % 10 > 0)
    return Samples(sent, sent, sent + np.where(late, 1.0, 0.001), np.ones(len(sent), bool))


@pytest.mark.parametrize("period", [0.0, 3.0])
def test_the_worst_of_a_pattern_does_not_decide_before_the_pattern_is_over(period: float) -> None:
    watch = ProbeWatch(Sla.parse("p60<20ms"), HOW, period)
    assert watch(burst(1.0)) is (period == 0.0)
    if period == 0.0:
        assert watch.final(burst(1.0)).outcome is SlaOutcome.VIOLATED
    else:
        assert watch.final(burst(4.0)).outcome is not SlaOutcome.VIOLATED
