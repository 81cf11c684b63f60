"""When a probe may end early."""

from dataclasses import replace

import numpy as np
import pytest

from tuner.goals.sla import Sla
from tuner.goals.verdict import SlaOutcome
from tuner.measurement.settings import VERIFICATION
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


@pytest.mark.parametrize(
    ("corroborated", "late", "ends"), [(True, 20, True), (True, 60, False), (False, 20, False)]
)
def test_a_verification_that_others_corroborate_ends_when_it_saw_nothing_against_it(
    corroborated: bool, late: int, ends: bool
) -> None:
    """A cluster of late requests within 6 s of a server near its capacity leaves it open."""
    times = np.linspace(0, 6, 4000)
    done = times + 0.01
    done[1000 : 1000 + late] += 0.05
    samples = Samples(times, times, done, np.ones(len(times), dtype=bool))
    how = replace(VERIFICATION, corroborated=corroborated)
    watch = ProbeWatch(Sla.parse("p99<40ms"), how)
    assert watch(samples) is ends
    if ends:
        assert watch.final(samples).outcome is SlaOutcome.INCONCLUSIVE
