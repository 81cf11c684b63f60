from dataclasses import replace

import numpy as np
import pytest

from benchmarks.queues import md1_share, rate_at
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.simulator.predict import is_kept, play, predict_capacity, saturation
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes
from tuner.stats.samples import Samples

ONE = Scheduling(False, 1, (1,))
SECONDS = 0.004
CONSTANT = ServiceTimes(np.full(2, SECONDS))
BATCHER = Scheduling(True, 32, (32,))
BATCHES = ServiceTimes(0.004 + 0.0003 * np.arange(33.0), noise=np.linspace(-4e-4, 4e-4, 9))
P99 = Sla.parse("p99<40ms")


def md1_capacity(seconds: float, limit: float, budget: float) -> float:
    return rate_at(lambda rate: md1_share(rate, seconds, limit), budget, 1 / seconds)


@pytest.mark.parametrize("sla", ["p99<40ms", "p99<12ms", "p90<10ms", "p50<9ms"])
def test_the_capacity_of_a_queue_with_a_closed_form_is_found(sla: str) -> None:
    bound = Sla.parse(sla).primary
    truth = md1_capacity(SECONDS, bound.limit, bound.budget)
    found = predict_capacity(ONE, CONSTANT, Sla.parse(sla), requests=100_000)
    assert found == pytest.approx(truth, rel=0.03)


def test_the_usual_number_of_requests_is_enough() -> None:
    truth = md1_capacity(SECONDS, 0.04, 0.01)
    found = [predict_capacity(ONE, CONSTANT, P99, seed=seed) for seed in range(5)]
    assert np.median(found) == pytest.approx(truth, rel=0.03)
    assert found == pytest.approx([truth] * 5, rel=0.06)


@pytest.mark.parametrize("guess", [1.0, 1500.0, 3000.0, 1e6])
def test_a_guess_changes_nothing_but_the_time_it_takes(guess: float) -> None:
    found = [
        predict_capacity(BATCHER, BATCHES, P99, requests=5000, precision=0.02, guess=each)
        for each in (0.0, guess)
    ]
    assert found[0] == pytest.approx(found[1], rel=0.021)
    assert predict_capacity(BATCHER, BATCHES, Sla.parse("p99<3ms"), guess=guess) == 0.0


@pytest.mark.parametrize("precision", [0.1, 0.001])
def test_the_capacity_keeps_the_sla_and_a_little_more_does_not(precision: float) -> None:
    found = predict_capacity(BATCHER, BATCHES, P99, precision=precision)
    assert is_kept(play(found, 20_000, BATCHER, BATCHES).samples, P99)
    above = found * (1 + 2 * precision)
    assert not is_kept(play(above, 20_000, BATCHER, BATCHES).samples, P99)


@pytest.mark.parametrize("batching", [True, False], ids=["batching", "no batching"])
def test_there_is_no_capacity_where_one_request_takes_too_long(batching: bool) -> None:
    scheduling = replace(BATCHER, batching=batching)
    assert predict_capacity(scheduling, BATCHES, Sla.parse("p99<3ms")) == 0.0


def test_there_is_no_capacity_where_too_many_executions_are_slow() -> None:
    slow_at_times = replace(CONSTANT, noise=np.array([0.0] * 19 + [0.05]))
    assert predict_capacity(ONE, slow_at_times, P99) == 0.0
    assert predict_capacity(ONE, slow_at_times, Sla.parse("p90<40ms")) > 0.0


def test_a_limit_that_nothing_reaches_leaves_saturation() -> None:
    found = predict_capacity(BATCHER, BATCHES, Sla.parse("p99<1000s"), requests=2000)
    assert found == pytest.approx(saturation(BATCHER, BATCHES), rel=0.01)


def test_the_tightest_of_several_bounds_rules() -> None:
    bounds = ["p50<9ms", "p90<40ms", "p99<14ms"]
    alone = [predict_capacity(BATCHER, BATCHES, Sla.parse(bound)) for bound in bounds]
    together = predict_capacity(BATCHER, BATCHES, Sla.parse(",".join(bounds)))
    assert together == pytest.approx(min(alone), rel=0.01)


def test_refused_requests_are_late() -> None:
    short = replace(BATCHER, max_batch=4, preferred=(4,), queue_size=2)
    relaxed = predict_capacity(short, BATCHES, Sla.parse("p99<1s"))
    tight = predict_capacity(short, BATCHES, Sla.parse("p99<1s,errors<0.1%"))
    assert 0 < tight < relaxed < 0.8 * saturation(short, BATCHES)


def test_arrivals_in_bursts_leave_less_capacity_and_even_ones_more() -> None:
    found = [
        predict_capacity(ONE, CONSTANT, P99, Arrivals.parse(text))
        for text in ("gamma:3", "gamma:1.5", "poisson", "gamma:0.3", "constant")
    ]
    assert found == sorted(found)
    assert found[0] < 0.7 * found[2]
    assert found[-1] == pytest.approx(1 / SECONDS, rel=0.01)


def test_a_mix_of_client_batches_counts_requests() -> None:
    """Without batching an execution holds one request, so that it is M/D/1 again."""
    service = ServiceTimes(0.001 * np.arange(9.0))
    found = predict_capacity(
        Scheduling(False, 8, (8,)), service, P99, mix=BatchMix.parse("8"), requests=100_000
    )
    assert found == pytest.approx(md1_capacity(0.008, 0.04, 0.01), rel=0.03)


def test_a_batcher_serves_as_many_items_whatever_their_requests() -> None:
    sla = Sla.parse("p99<200ms")
    service = ServiceTimes(0.001 + 0.0005 * np.arange(33.0))
    single = predict_capacity(BATCHER, service, sla)
    for text in ("4", "1:0.5,7:0.5"):
        mix = BatchMix.parse(text)
        found = predict_capacity(BATCHER, service, sla, mix=mix)
        assert found * mix.mean == pytest.approx(single, rel=0.08)


@pytest.mark.parametrize(
    ("scheduling", "service", "expected"),
    [
        (ONE, CONSTANT, 250.0),
        (replace(ONE, instances=3), CONSTANT, 250.0),
        (replace(ONE, instances=3), replace(CONSTANT, exclusive=0.5), 500.0),
        (replace(ONE, instances=3), replace(CONSTANT, exclusive=0.1), 750.0),
        (replace(ONE, instances=3, devices=3), CONSTANT, 750.0),
        (ONE, replace(CONSTANT, release=0.001), 200.0),
        (ONE, replace(CONSTANT, noise=np.array([0.0, 0.002])), 200.0),
        (ONE, replace(CONSTANT, reply=0.01), 100.0),
        (ONE, replace(CONSTANT, accept=0.02), 50.0),
        (BATCHER, BATCHES, 32 / 0.0136),
    ],
    ids=[
        "one",
        "in turns",
        "half shared",
        "hardly shared",
        "devices",
        "release",
        "noise",
        "reply",
        "accept",
        "batches",
    ],
)
def test_saturation_is_that_of_the_busiest(
    scheduling: Scheduling, service: ServiceTimes, expected: float
) -> None:
    assert saturation(scheduling, service) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["1:0.6,2:0.4", "1:0.9,16:0.1"])
def test_without_batching_a_mix_is_served_at_one_over_its_mean_service(text: str) -> None:
    mix, scheduling = BatchMix.parse(text), Scheduling(False, 16, (16,))
    service = ServiceTimes(0.004 + 0.0001 * np.arange(17.0))
    rate = 1 / float(np.dot(mix.shares, service.seconds[list(mix.sizes)]))
    assert play(2 * rate, 20_000, scheduling, service, mix=mix).samples.throughput == pytest.approx(
        rate, rel=0.02
    )
    assert saturation(scheduling, service, mix) == pytest.approx(rate, rel=0.02)
    assert predict_capacity(scheduling, service, Sla.parse("p99<1s"), mix=mix) > 0.9 * rate


@pytest.mark.parametrize("batching", [True, False], ids=["batching", "no batching"])
def test_requests_that_are_all_refused_have_no_capacity(batching: bool) -> None:
    scheduling = replace(BATCHER, batching=batching)
    assert predict_capacity(scheduling, BATCHES, P99, mix=BatchMix.parse("64")) == 0.0


def test_as_many_requests_are_played_as_asked_for_and_whole_patterns() -> None:
    assert len(play(500.0, 20_000, ONE, CONSTANT).samples) == pytest.approx(20_000, rel=0.03)
    pattern = Arrivals.parse("piecewise:1x5s,3x5s")
    assert play(100.0, 50, ONE, CONSTANT, pattern).samples.span > 9.5


def test_no_samples_keep_no_promise() -> None:
    assert not is_kept(Samples.empty(), P99)
