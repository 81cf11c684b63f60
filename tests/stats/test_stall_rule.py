"""Which requests the machine's stalls can have touched."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.stats.samples import Samples
from tuner.stats.stalls import (
    STALLS,
    Stall,
    backlog_seconds,
    merged,
    touched,
    unfitness,
)

LIMIT = 0.02
LIMITS = (LIMIT, LIMIT)


def steady(seconds: float = 10.0, rate: float = 500.0, latency: float = 0.005) -> Samples:
    sent = np.arange(0, seconds, 1 / rate)
    return Samples(sent, sent, sent + latency, np.ones(len(sent), bool))


def stalled(samples: Samples, start: float, end: float, speed: float = 4.0) -> Samples:
    """Nothing is answered in [start, end); then replies come ``speed`` times as fast."""
    done = samples.done.copy()
    held = np.flatnonzero((samples.intended < end) & (done > start))
    gap = float(np.diff(samples.intended[:2])[0]) / speed
    last = end
    for index in range(held[0] if len(held) else len(done), len(done)):
        last = max(float(done[index]), last + gap)
        done[index] = last
        if index > held[-1] and last == samples.done[index]:
            break
    return Samples(samples.intended, samples.sent, done, samples.ok)


def test_what_a_stall_made_late_is_left_out_and_hardly_more() -> None:
    samples = stalled(steady(), 4.0, 4.1)
    late = samples.latency > LIMIT
    mask = touched(samples, [Stall(4.0, 0.1, 0)], LIMITS, load=0.25)
    assert late.any()
    assert mask[late].all()
    assert mask.sum() < 2 * late.sum()


def test_nothing_is_left_out_for_being_late() -> None:
    """The server's own stall, at another time, stays in, and all of it."""
    samples = stalled(stalled(steady(), 4.0, 4.1), 7.0, 7.1)
    mask = touched(samples, [Stall(4.0, 0.1, 0)], LIMITS, load=0.25)
    own = samples.intended > 6
    assert (samples.latency[own] > LIMIT).any()
    assert not mask[own].any()


def test_a_server_that_never_recovers_is_not_excused_for_good() -> None:
    samples = steady()
    after = samples.intended > 4.0
    samples = Samples(
        samples.intended, samples.sent, samples.done + np.where(after, 1.0, 0.0), samples.ok
    )
    mask = touched(samples, [Stall(4.0, 0.1, 0)], LIMITS, load=None)
    assert mask.sum() <= 500 * (LIMIT + 0.1 + STALLS.longest_backlog * 0.1) + 2


def test_a_stall_that_is_short_beside_the_limit_leaves_nothing_out() -> None:
    assert not touched(steady(), [Stall(4.0, 0.009, 0)], (0.1, 0.1)).any()


def test_a_process_that_stays_is_no_stall() -> None:
    longer = STALLS.longest_foreign + 0.1
    assert not touched(steady(), [Stall(4.0, longer)], LIMITS).any()
    assert touched(steady(), [Stall(4.0, longer, 0)], LIMITS).any()
    assert merged([Stall(4.0, longer)], longest=None)


def test_of_no_requests_none_are_touched() -> None:
    assert touched(Samples.empty(), [Stall(0.0, 1.0, 0)], LIMITS).shape == (0,)


STRETCHES = st.lists(
    st.builds(
        Stall,
        st.floats(-1, 11),
        st.floats(0.001, 2),
        st.sampled_from([0, 1, None]),
    ),
    max_size=8,
)


@given(STRETCHES, st.floats(0, 1.5) | st.none(), st.randoms(use_true_random=False))
def test_what_is_left_out_lies_within_reach_of_a_stall(
    stalls: list[Stall], load: float | None, random: object
) -> None:
    rng = np.random.default_rng(random.randrange(2**31))  # type: ignore[attr-defined]
    sent = np.sort(rng.uniform(0, 10, 800))
    samples = Samples(sent, sent, sent + rng.exponential(0.01, 800), rng.random(800) > 0.05)
    mask = touched(samples, stalls, LIMITS, load)
    reach = np.zeros(len(sent), bool)
    core = np.zeros(len(sent), bool)
    for start, end in merged(stalls, STALLS.least * LIMIT):
        last = end + backlog_seconds(end - start, load)
        reach |= (sent >= start - LIMIT) & (sent < last)
        core |= (sent >= start - LIMIT) & (sent < end)
    assert not (mask & ~reach).any()
    assert mask[core].all()


@given(STRETCHES)
def test_merged_stretches_are_apart_and_cover_each_stall(stalls: list[Stall]) -> None:
    stretches = merged(stalls, longest=None)
    assert all(a[1] < b[0] for a, b in pairwise(stretches))
    for stall in stalls:
        assert any(start <= stall.start and stall.end <= end for start, end in stretches)


@given(st.floats(0.01, 1), st.floats(0, 3) | st.none())
def test_a_backlog_is_bounded_and_grows_with_the_load(stall: float, load: float | None) -> None:
    seconds = backlog_seconds(stall, load)
    assert 0 <= seconds <= STALLS.longest_backlog * stall
    if load is not None:
        assert seconds <= backlog_seconds(stall, load + 0.1)


def test_a_machine_is_unfit_only_if_its_stalls_use_up_the_budget() -> None:
    often = [Stall(second, 0.1, core) for second in range(10) for core in (0, 1)]
    unfit = unfitness(often, 10.0, LIMIT, 0.01)
    assert unfit is not None
    assert unfit.number == 10
    assert unfit.share == pytest.approx(0.1)
    assert unfit.per_minute == pytest.approx(60)
    assert unfitness(often, 10.0, LIMIT, 0.2) is None  # a budget that has room for it
    assert unfitness(often, 10.0, 1.0, 0.01) is None  # short beside the limit
    assert unfitness(often[:1], 1.0, LIMIT, 0.01) is None  # one may come at any time
    assert unfitness(often, 10.0, math.inf, 0.001) is None  # errors are no matter of time
