"""Two verdicts: as it happened, and without the machine's own stalls."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.stalling import Pauses, one_server
from tuner.goals.sla import Sla
from tuner.goals.undisturbed import told_apart, without_stalls
from tuner.goals.verdict import SlaOutcome, judge
from tuner.measurement.settings import VERIFICATION
from tuner.measurement.watch import ProbeWatch
from tuner.stats.samples import Samples
from tuner.stats.stalls import Stall

SLA = Sla.parse("p99<20ms")
RATE, SERVICE, SECONDS = 500.0, 0.001, 20.0
EVERY = np.arange(0.5, SECONDS, 1.0)
PAUSES = Pauses(EVERY, EVERY + 0.12)


def run(pauses: Pauses, seed: int = 0) -> Samples:
    """M/D/1 at half load, which without pauses is never late."""
    rng = np.random.default_rng(seed)
    return one_server(RATE, np.full(int(RATE * SECONDS), SERVICE), pauses, rng)


def seen(pauses: Pauses) -> tuple[Stall, ...]:
    return pauses.seen(np.random.default_rng(1))


def test_stalls_of_the_machine_violate_as_it_happened_and_not_without_them() -> None:
    samples = run(PAUSES)
    honest, rest = judge(samples, SLA, 0.95), without_stalls(samples, SLA, 0.95, seen(PAUSES), 0.5)
    assert honest.outcome is SlaOutcome.VIOLATED
    assert rest is not None
    assert rest.verdict.outcome is SlaOutcome.MET
    assert rest.decides(honest)
    assert rest.excuses(honest)
    assert 0.1 < rest.left_out < 0.4
    told = told_apart(honest, rest)
    assert told.outcome is SlaOutcome.VIOLATED  # the default stays the honest one
    assert told.counts == honest.counts
    assert told.telling == rest.verdict.telling
    assert told.repeat
    assert "stalls of the machine decided" in (told.remedy or "")


def test_a_server_that_stalls_by_itself_is_not_excused() -> None:
    """No stall was seen; or others, at other times, were."""
    samples = run(PAUSES)
    assert without_stalls(samples, SLA, 0.95, (), 0.5) is None
    honest = judge(samples, SLA, 0.95)
    assert told_apart(honest, None) is honest
    elsewhere = [replace(s, start=s.start + 0.5) for s in seen(PAUSES)]
    rest = without_stalls(samples, SLA, 0.95, elsewhere, 0.5)
    assert rest is not None
    assert rest.verdict.outcome is SlaOutcome.VIOLATED
    told = told_apart(honest, rest)
    assert told.outcome is SlaOutcome.VIOLATED
    assert not told.repeat


def test_both_stall_and_only_the_machine_is_excused() -> None:
    own = Pauses(EVERY + 0.5, EVERY + 0.58)
    samples = run(PAUSES.joined(own))
    honest, rest = judge(samples, SLA, 0.95), without_stalls(samples, SLA, 0.95, seen(PAUSES), 0.5)
    assert rest is not None
    assert rest.verdict.outcome is SlaOutcome.VIOLATED
    assert not rest.excuses(honest)
    # What is said of the server is the share that it has by itself.
    alone = judge(run(own), SLA, 0.95).decided
    left = rest.verdict.decided
    assert left.late / left.n == pytest.approx(alone.late / alone.n, rel=0.4)


def test_a_machine_that_stalls_most_of_the_time_leaves_it_undecidable() -> None:
    pauses = Pauses(EVERY, EVERY + 0.6)
    samples = run(pauses)
    honest, rest = judge(samples, SLA, 0.95), without_stalls(samples, SLA, 0.95, seen(pauses), 0.5)
    assert rest is not None
    assert not rest.is_decidable
    told = told_apart(honest, rest)
    assert told.repeat
    assert told.telling == honest.telling
    assert "stalled too often" in (told.remedy or "")


def test_what_was_met_all_the_same_is_not_repeated() -> None:
    pauses = Pauses(np.array([10.0]), np.array([10.015]))
    samples = run(pauses)
    honest, rest = judge(samples, SLA, 0.95), without_stalls(samples, SLA, 0.95, seen(pauses), 0.5)
    assert honest.outcome is SlaOutcome.MET
    assert rest is not None
    told = told_apart(honest, rest)
    assert told.met
    assert not told.repeat


@pytest.mark.parametrize("by_machine", [True, False])
def test_a_probe_goes_on_where_only_the_machine_violates(by_machine: bool) -> None:
    samples = run(PAUSES)
    stalls = seen(PAUSES) if by_machine else ()
    watch = ProbeWatch(SLA, VERIFICATION, stalls=lambda: stalls, load=0.5)
    ends = [t for t in np.arange(1.0, SECONDS, 0.5) if watch(samples.between(0, t))]
    assert bool(ends and ends[0] < 15) is not by_machine
    assert watch.final(samples).outcome is SlaOutcome.VIOLATED
