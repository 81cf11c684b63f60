"""The simulator against queues whose answers are known exactly."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.queues import md1, md1_share
from tuner.load.arrivals import Arrivals
from tuner.simulator.predict import play, saturation
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, Simulation, simulate

N = 400_000
SECONDS = 0.004
ONE = Scheduling(False, 1, (1,))
WAYS = {
    "no batching": ONE,
    "batches of one": replace(ONE, batching=True),
    "a queue that is never full": replace(ONE, batching=True, queue_size=N),
}
EXPONENTIAL = -np.log(1 - (np.arange(20_000) + 0.5) / 20_000)


def constant(seconds: float, largest: int = 1, exclusive: float = 1.0) -> ServiceTimes:
    return ServiceTimes(np.full(largest + 1, seconds), exclusive=exclusive)


def exponential(mean: float, exclusive: float) -> ServiceTimes:
    noise = EXPONENTIAL * mean / EXPONENTIAL.mean()
    return ServiceTimes(np.zeros(2), exclusive=exclusive, noise=noise)


def mean_wait(simulation: Simulation) -> float:
    return float(np.mean(simulation.started - simulation.samples.intended))


def throughput(scheduling: Scheduling, service: ServiceTimes) -> float:
    """Items per second of a load that is 1.5 times what can be."""
    played = play(1.5 * saturation(scheduling, service), 50_000, scheduling, service)
    return float(played.sizes.sum() / played.ends.max())


@pytest.mark.parametrize("exclusive", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scheduling", WAYS.values(), ids=WAYS)
def test_one_at_a_time_is_the_queue_m_d_1(scheduling: Scheduling, exclusive: float) -> None:
    expected = md1(SECONDS)(0.9 / SECONDS, 50_000, np.random.default_rng(1))
    found = simulate(expected.intended, scheduling, constant(SECONDS, exclusive=exclusive))
    np.testing.assert_allclose(found.samples.latency, expected.latency, atol=1e-9)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_late_of_constant_service_are_as_many_as_in_m_d_1(load: float) -> None:
    rate = load / SECONDS
    found = play(rate, 4 * N, ONE, constant(SECONDS))
    for share in (0.2, 0.05, 0.01):
        limit = float(np.quantile(found.samples.latency, 1 - share))
        assert md1_share(rate, SECONDS, limit) == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_the_wait_for_constant_service_is_that_of_pollaczek_and_khinchine(load: float) -> None:
    found = play(load / SECONDS, N, ONE, constant(SECONDS))
    assert mean_wait(found) == pytest.approx(SECONDS * load / (2 * (1 - load)), rel=0.03)
    assert found.queue == pytest.approx(mean_wait(found))


@pytest.mark.parametrize("spread", [0.2, 0.5, 1.0])
def test_the_wait_for_noisy_service_is_that_of_pollaczek_and_khinchine(spread: float) -> None:
    load, noise = 0.7, SECONDS * spread * np.array([-1.0, 1.0])
    found = play(load / SECONDS, N, ONE, replace(constant(SECONDS), noise=noise))
    expected = SECONDS * (1 + spread**2) * load / (2 * (1 - load))
    assert mean_wait(found) == pytest.approx(expected, rel=0.03)


def test_exponential_service_makes_exponential_latencies() -> None:
    load = 0.6
    found = play(load / SECONDS, N, ONE, exponential(SECONDS, 1.0))
    mean = SECONDS / (1 - load)
    assert found.samples.mean == pytest.approx(mean, rel=0.03)
    for share in (0.5, 0.1, 0.01):
        level = float(np.quantile(found.samples.latency, 1 - share))
        assert level == pytest.approx(-mean * math.log(share), rel=0.06)


@pytest.mark.parametrize("instances", [2, 4, 9])
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_the_wait_for_several_instances_is_that_of_erlang(instances: int, load: float) -> None:
    scheduling = replace(ONE, instances=instances)
    found = play(instances * load / SECONDS, N, scheduling, exponential(SECONDS, 0.0))
    expected = erlang_c(instances, load) * SECONDS / (instances * (1 - load))
    assert mean_wait(found) == pytest.approx(expected, rel=0.06)


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that wait in M/M/c."""
    offered = servers * load
    busy = offered**servers / math.factorial(servers) / (1 - load)
    return busy / (busy + sum(offered**k / math.factorial(k) for k in range(servers)))


@pytest.mark.parametrize("instances", [2, 4])
def test_instances_that_share_all_of_a_device_are_one(instances: int) -> None:
    """First come, first served, so that latencies are those of M/D/1."""
    load = 0.8
    found = play(load / SECONDS, N, replace(ONE, instances=instances), constant(SECONDS))
    expected = SECONDS * (1 + load / (2 * (1 - load)))
    assert found.samples.mean == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("arrivals_in_service", [0.5, 3.0, 40.0])
def test_greedy_batches_hold_what_came_during_the_one_before(arrivals_in_service: float) -> None:
    """Or one request, where nothing came: the mean is m + exp(-m)."""
    m = arrivals_in_service
    greedy = Scheduling(True, 200, (200,))
    found = play(m / SECONDS, N, greedy, constant(SECONDS, 200))
    mean = m + math.exp(-m)
    assert np.mean(found.sizes) == pytest.approx(mean, rel=0.01)
    between = np.diff(found.ends)
    assert between.min() >= SECONDS * (1 - 1e-6)
    assert between.mean() == pytest.approx(SECONDS * mean / m, rel=0.01)
    assert mean_wait(found) == pytest.approx(SECONDS * m / 2 / mean, rel=0.01)


@pytest.mark.parametrize("delay", [0.0, 0.002])
@pytest.mark.parametrize("release", [0.0, 0.0005])
@pytest.mark.parametrize("instances", [1, 3])
def test_more_load_than_can_be_is_served_at_saturation(
    instances: int, release: float, delay: float
) -> None:
    batcher = Scheduling(True, 16, (16,), delay=delay, instances=instances)
    service = ServiceTimes(
        0.004 + 0.0005 * np.arange(17.0), 0.6, noise=np.array([-5e-4, 5e-4]), release=release
    )
    expected = saturation(batcher, service)
    assert throughput(batcher, service) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("exclusive", [0.0, 0.25, 0.4, 0.75, 1.0])
@pytest.mark.parametrize("instances", [1, 2, 3, 5])
def test_the_throughput_of_a_shared_device_is_bounded_by_instances_and_device(
    instances: int, exclusive: float
) -> None:
    scheduling = replace(ONE, instances=instances)
    expected = min(instances / SECONDS, 1 / max(exclusive * SECONDS, 1e-9))
    found = throughput(scheduling, constant(SECONDS, exclusive=exclusive))
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("instances", "devices"), [(2, 2), (4, 2), (6, 3), (8, 4)])
def test_devices_serve_side_by_side(instances: int, devices: int) -> None:
    scheduling = replace(ONE, instances=instances, devices=devices)
    found = throughput(scheduling, constant(SECONDS, exclusive=0.8))
    assert found == pytest.approx(min(instances, devices / 0.8) / SECONDS, rel=0.02)


@pytest.mark.parametrize("end", ["accept", "reply"])
def test_the_front_end_passes_requests_one_by_one(end: str) -> None:
    """As a second queue M/D/1 does, of which constant service before it changes nothing."""
    service = replace(constant(0.0), **{end: SECONDS})
    load = 0.7
    assert saturation(ONE, service) == pytest.approx(1 / SECONDS)
    found = play(load / SECONDS, N, ONE, service)
    assert found.samples.mean == pytest.approx(SECONDS * (1 + load / (2 * (1 - load))), rel=0.03)


def test_arrivals_that_are_evenly_spaced_never_wait() -> None:
    found = play(0.99 / SECONDS, 10_000, ONE, constant(SECONDS), Arrivals.CONSTANT)
    assert found.samples.latency == pytest.approx(SECONDS)
