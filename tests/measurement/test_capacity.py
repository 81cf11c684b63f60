from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.queues import Queue, QueueServer, batches, md1, md1_share, rate_at
from tuner.goals.sla import Bound, Sla, bound_ratio
from tuner.goals.verdict import LateCount, SlaOutcome, judge
from tuner.measurement.capacity import (
    Capacity,
    Effort,
    conclude,
    find_capacity,
    find_concurrency,
)
from tuner.measurement.fitting import ProbeResult, fit_by_server, fit_results
from tuner.measurement.settings import CONFIRMATION, EFFORTS
from tuner.stats.samples import Samples

relaxed = settings(deadline=None, max_examples=20)
P99 = Sla((Bound(0.99, 0.04),))


def server(queue: Queue, sla: Sla = P99, **how: Any) -> QueueServer:
    return QueueServer(queue, sla, **how)


BATCHER = batches(0.004, 0.00035, 64)
CAPACITY = 2080.0
"""Of BATCHER within 40 ms at p99, from long runs."""


@pytest.mark.parametrize("seed", range(4))
def test_the_capacity_of_a_batcher_is_found(seed: int) -> None:
    queue = server(BATCHER, seed=seed)
    found = find_capacity(queue, 1500.0, Effort())
    assert found.rate == pytest.approx(CAPACITY, rel=0.08)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.rate <= found.high
    assert found.recommended is not None
    assert found.recommended <= min(found.low, 0.95 * found.rate)
    assert len(queue.probed) <= Effort().most_probes


@pytest.mark.parametrize("seed", range(3))
def test_a_capacity_below_reach_is_found(seed: int) -> None:
    """The rounds of a confirmation stay near what is expected; that may be far too much."""
    queue, results, effort = server(BATCHER, seed=seed), [], EFFORTS.side_by_side
    for _ in range(CONFIRMATION.looks):
        found = find_capacity(queue, 1.4 * CAPACITY, effort, results)
    assert found.rate == pytest.approx(CAPACITY, rel=0.15)


def just_broken(share: float, rates: list[float]) -> list[ProbeResult]:
    """Probes of which so much is late at each of the rates, a little more the higher it is."""
    bound = P99.primary
    return [
        ProbeResult(
            rate,
            SlaOutcome.INCONCLUSIVE,
            1.2,
            (LateCount(bound, round(2000 * share * (rate / rates[0]) ** 20), 2000, 1.0),),
        )
        for rate in rates
    ]


def test_a_rate_just_below_all_that_were_tried_is_one_to_verify() -> None:
    results = just_broken(0.015, [800.0, 820.0, 850.0])
    found = conclude(results, 850.0, other_launches=True, verified=True)
    assert found.rate is not None
    assert 720.0 < found.rate < 800.0
    assert found.recommended is not None
    assert found.recommended < found.rate
    assert conclude(results, 850.0, other_launches=True).rate is None


def test_a_rate_far_below_all_that_were_tried_is_not_believed() -> None:
    results = just_broken(0.3, [800.0, 820.0, 850.0])
    assert conclude(results, 850.0, other_launches=True, verified=True).rate is None


@pytest.mark.parametrize("start", [0.1, 0.5, 4.0])
def test_from_any_start_it_gets_there(start: float) -> None:
    queue = server(BATCHER)
    found = find_capacity(queue, start * CAPACITY, Effort(seconds=24.0))
    assert found.rate == pytest.approx(CAPACITY, rel=0.15)
    assert len(queue.probed) <= Effort().most_probes


@pytest.mark.slow
def test_a_queue_with_a_closed_form_is_found_where_the_formula_says() -> None:
    service, limit = 0.004, 0.04
    truth = rate_at(lambda rate: md1_share(rate, service, limit), 0.01, 1 / service)
    effort = Effort(seconds=40.0, width=0.0)
    rates = [find_capacity(server(md1(service), seed=s), 150.0, effort).rate for s in range(3)]
    assert float(np.median([rate or 0.0 for rate in rates])) == pytest.approx(truth, rel=0.08)


def test_what_cannot_win_is_left_early() -> None:
    patient, hasty = server(BATCHER), server(BATCHER)
    find_capacity(patient, 1500.0, Effort(width=0.01, seconds=30.0))
    lost = find_capacity(hasty, 1.05 * 4000.0, Effort(width=0.01, seconds=30.0, to_beat=4000.0))
    assert lost.beaten
    assert lost.high is not None
    assert lost.high < 4000.0
    assert len(hasty.probed) < len(patient.probed)


def test_what_may_win_is_not_left() -> None:
    queue = server(BATCHER)
    found = find_capacity(queue, CAPACITY, Effort(to_beat=0.8 * CAPACITY, doubt=0.2))
    assert not found.beaten
    assert found.rate == pytest.approx(CAPACITY, rel=0.15)


def test_with_more_doubt_it_takes_less_to_be_left() -> None:
    sure, doubtful = server(BATCHER), server(BATCHER)
    rate = 1.1 * CAPACITY
    find_capacity(sure, rate, Effort(to_beat=rate, seconds=30.0))
    assert find_capacity(doubtful, rate, Effort(to_beat=rate, seconds=30.0, doubt=0.3)).beaten
    assert len(doubtful.probed) <= len(sure.probed)


def test_a_promise_that_nothing_keeps_has_no_capacity() -> None:
    queue = server(BATCHER, Sla((Bound(0.99, 0.001),)))
    found = find_capacity(queue, 1000.0, Effort())
    assert found.rate is None
    assert found.bound_ratio is not None
    assert found.bound_ratio > 1


def test_the_tightest_of_several_bounds_decides() -> None:
    both = Sla((Bound(0.5, 0.012), Bound(0.99, 0.04)))
    alone = find_capacity(server(BATCHER), 1000.0, Effort(seconds=20.0)).rate
    found = find_capacity(server(BATCHER, both), 1000.0, Effort(seconds=20.0)).rate
    assert alone is not None
    assert found is not None
    assert found < 0.95 * alone


@pytest.mark.slow
def test_a_constraint_that_breaks_before_the_promise_does_decides() -> None:
    queue = server(BATCHER)

    def probe(rate: float) -> ProbeResult:
        return replace(queue(rate), constraints=(("cpu<1", rate > 1400.0),))

    found = find_capacity(probe, 1800.0, Effort(seconds=30.0))
    assert found.rate == pytest.approx(1400.0, rel=0.08)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 1400.0 <= found.high


def test_what_the_client_could_not_send_is_not_the_servers_limit() -> None:
    found = find_capacity(server(BATCHER, most=1000.0), 700.0, Effort())
    assert found.client_limited
    assert found.rate is not None
    assert 700.0 <= found.rate <= 1000.0


def test_a_moment_in_which_the_client_was_late_is_not_its_limit() -> None:
    queue = server(BATCHER)

    def probe(rate: float) -> ProbeResult:
        found = queue(rate)
        return (
            replace(found, bound_ratio=10.0, client_limited=True)
            if len(queue.probed) == 1
            else found
        )

    found = find_capacity(probe, 1200.0, Effort(seconds=20.0))
    assert found.rate == pytest.approx(CAPACITY, rel=0.1)
    assert not found.client_limited


def test_a_client_that_gives_out_at_once_leaves_nothing_to_say() -> None:
    found = find_capacity(server(BATCHER, most=1.0), 700.0, Effort())
    assert found.client_limited
    assert found.rate is None


@pytest.mark.parametrize("stalls_at", [240.0, 285.0])
def test_one_stall_weighs_as_one_event(stalls_at: float) -> None:
    """The true capacity is 300/s, and a tenth of one probe's three seconds is a stall."""
    rng = np.random.default_rng(3)

    def finding(rate: float, stall: float) -> ProbeResult:
        sent = np.sort(rng.uniform(0, 3, int(3 * rate)))
        late = rng.random(len(sent)) < 0.01 * (rate / 300) ** 40
        done = sent + np.where(late, 0.06, rng.uniform(0.004, 0.006, len(sent)))
        done = np.where((sent > 1) & (sent < 1 + stall), np.maximum(done, 1 + stall + 0.05), done)
        samples = Samples(sent, sent, done, np.ones(len(sent), dtype=bool))
        told = judge(samples, P99, 0.95)
        worst = bound_ratio(samples, P99)
        return ProbeResult(rate, told.outcome, worst, told.telling, told.repeat, False, 3.0)

    rates = (240.0, 270.0, 285.0, 295.0, 305.0, 320.0)
    calm = conclude([finding(rate, 0.0) for rate in rates], 300.0)
    stalled = conclude([finding(rate, 0.25 * (rate == stalls_at)) for rate in rates], 300.0)
    assert calm.rate == pytest.approx(300, rel=0.03)
    assert stalled.rate == pytest.approx(300, rel=0.03)
    assert (stalled.low or 0.0) > 0.9 * 300


def test_every_earlier_probe_is_used() -> None:
    known: list[ProbeResult] = []
    first = find_capacity(server(BATCHER, seed=1), 1500.0, Effort(seconds=6.0), known)
    second = find_capacity(server(BATCHER, seed=2), 2000.0, Effort(seconds=12.0, width=0.0), known)
    widths = [(found.high or 9.0) / (found.low or 1.0) for found in (first, second)]
    assert widths[1] < widths[0]
    assert len(known) > 4


@pytest.mark.slow
def test_a_server_that_had_a_bad_time_does_not_outweigh_two_that_agree() -> None:
    def one(launch: int, slower: float, seed: int) -> list[ProbeResult]:
        known: list[ProbeResult] = []
        queue = server(batches(0.004 * slower, 0.00035 * slower, 64), seed=seed)
        find_capacity(queue, 1500.0 / slower, Effort(seconds=15.0), known)
        return [replace(finding, server=launch) for finding in known]

    calm = conclude([*one(0, 1, 1), *one(1, 1, 2)], 1500.0)
    disturbed = conclude([*one(0, 1, 1), *one(1, 1, 2), *one(2, 3, 3)], 1500.0)
    assert calm.rate == pytest.approx(CAPACITY, rel=0.05)
    assert disturbed.rate == pytest.approx(CAPACITY, rel=0.08)


class TestConcurrency:
    @staticmethod
    def closed_loop(
        most: int, service: float = 0.01, slots: int = 4
    ) -> Callable[[int], ProbeResult]:
        """Throughput rises until ``slots`` are busy; the promise holds up to ``most`` at once."""

        def probe(concurrency: int) -> ProbeResult:
            outcome = SlaOutcome.MET if concurrency <= most else SlaOutcome.VIOLATED
            rate = min(concurrency, slots) / service
            return ProbeResult(rate, outcome, concurrency / most)

        return probe

    @given(st.integers(1, 200))
    @relaxed
    def test_the_best_concurrency_is_found_within_an_eighth(self, most: int) -> None:
        found = find_concurrency(self.closed_loop(most, slots=1000), Effort(most_probes=20))
        assert found.rate is not None
        assert most * 100 / 1.13 - 100 <= found.rate <= most * 100
        assert found.high is not None
        assert found.rate < found.high

    def test_a_promise_that_one_at_a_time_breaks_has_no_rate(self) -> None:
        found = find_concurrency(
            lambda c: ProbeResult(10.0 * c, SlaOutcome.VIOLATED, 2.0 * c), Effort(most_probes=6)
        )
        assert found == Capacity(None, bound_ratio=2.0)

    def test_it_stops_where_throughput_falls(self) -> None:
        probed: list[int] = []

        def probe(concurrency: int) -> ProbeResult:
            probed.append(concurrency)
            return ProbeResult(100.0 - concurrency, SlaOutcome.MET, 0.1)

        assert find_concurrency(probe, Effort()).rate == 99.0
        assert probed == [1, 2, 4]


def test_a_rate_a_little_too_high_is_followed_by_one_that_is_kept() -> None:
    """Where all that was tried is late by a little, there still is a capacity."""
    for seed in range(6):
        queue = server(BATCHER, seconds=2.0, seed=seed)
        found = find_capacity(queue, 1.04 * CAPACITY, Effort(seconds=3.5, fewest=2))
        assert found.rate == pytest.approx(CAPACITY, rel=0.15)
        assert (found.low or 0.0) <= CAPACITY <= (found.high or 0.0)


def by_rounds(seed: int) -> list[ProbeResult]:
    findings: list[ProbeResult] = []
    for number in range(3):
        queue = server(BATCHER, seconds=2.0, seed=10 * seed + number)

        def probe(rate: float, queue: QueueServer = queue, number: int = number) -> ProbeResult:
            return replace(queue(rate), server=number)

        find_capacity(probe, CAPACITY, Effort(width=0.0, seconds=3.5, fewest=2), findings)
    return findings


@pytest.mark.slow
def test_rounds_share_how_steep_it_is() -> None:
    for seed in range(4):
        findings = by_rounds(seed)
        together, each = fit_results(findings, CAPACITY), fit_by_server(findings, CAPACITY)
        assert len(each) == 3
        assert together.low <= CAPACITY <= together.high
        for number, fit in enumerate(each):
            alone = fit_results([f for f in findings if f.server == number], CAPACITY)
            assert fit.steepness == each[0].steepness
            assert fit.rate == pytest.approx(alone.rate, rel=0.15)


@pytest.mark.slow
def test_rounds_together_say_more_than_one_of_them() -> None:
    widths = []
    for seed in range(5):
        findings = by_rounds(seed)
        first = fit_results([f for f in findings if f.server == 0], CAPACITY)
        widths.append(fit_results(findings, CAPACITY).width / first.width)
    assert float(np.median(widths)) < 0.9


@pytest.mark.parametrize(
    ("one", "other", "chance"),
    [
        (Capacity(100.0, 90.0, 110.0), Capacity(100.0, 80.0, 120.0), (0.5, 0.5)),
        (Capacity(100.0, 90.0, 110.0), Capacity(150.0, 140.0, 160.0), (0.0, 1e-6)),
        (Capacity(100.0, 70.0, 140.0), Capacity(110.0, 100.0, 120.0), (0.2, 0.4)),
        (Capacity(100.0), Capacity(110.0), (0.3, 0.5)),
        (Capacity(None), Capacity(1.0), (0.0, 0.0)),
        (Capacity(1.0), Capacity(None), (1.0, 1.0)),
    ],
)
def test_the_chance_to_be_higher(
    one: Capacity, other: Capacity, chance: tuple[float, float]
) -> None:
    least, most = chance
    assert least <= one.chance_above(other) <= most
    if one.rate and other.rate:
        assert one.chance_above(other) + other.chance_above(one) == pytest.approx(1.0)
