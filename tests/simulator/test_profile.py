from dataclasses import replace

import numpy as np
import pytest

from tuner.goals.sla import Sla
from tuner.records.results import ServerTimes, Window
from tuner.simulator.predict import predict_capacity
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, Simulation, simulate
from tuner.stats.estimators import PERCENTILES

LARGEST = 32
TRUTH = ServiceTimes(
    seconds=np.concatenate([[0.0], 0.004 + 0.0003 * np.arange(1, LARGEST + 1)]),
    exclusive=0.6,
    noise=np.linspace(-4e-4, 4e-4, 41),
    release=2e-5,
    reply=2e-5,
    network=4e-4,
)
GREEDY = Scheduling(True, LARGEST, (LARGEST,))


def window(found: Simulation, scheduling: Scheduling, concurrency: int) -> Window:
    """What a server would have counted of a run in which nothing was refused."""
    begun = np.array(
        [found.started[np.argmax(found.execution == n)] for n in range(len(found.ends))]
    )
    took = found.ends - begun
    assert found.samples.mean is not None
    return Window(
        settings={},
        instances=scheduling.instances,
        devices=scheduling.devices,
        concurrency=concurrency,
        items=1.0,
        throughput=len(found.started) / float(found.ends.max() - found.samples.intended[0]),
        mean=found.samples.mean,
        latency={n: float(np.quantile(found.samples.latency, q)) for n, q in PERCENTILES.items()},
        server=ServerTimes(
            requests=len(found.started),
            executions=len(found.ends),
            queue=found.queue,
            compute_input=0.0,
            compute_infer=float(took[found.execution].mean()),
            compute_output=0.0,
            batches=found.batches,
            batch_seconds={b: float(took[found.sizes == b].mean()) for b in found.batches},
        ),
    )


def unloaded(scheduling: Scheduling, service: ServiceTimes = TRUTH, count: int = 400) -> Window:
    """One request after the other."""
    return window(simulate(0.05 * np.arange(count), scheduling, service, seed=1), scheduling, 1)


def loaded(scheduling: Scheduling, service: ServiceTimes = TRUTH, count: int = 4000) -> Window:
    """More requests than can be served at any moment."""
    found = simulate(np.arange(count) * 1e-5, scheduling, service, seed=2)
    return window(found, scheduling, 4 * scheduling.max_batch * scheduling.instances)


def windows(service: ServiceTimes = TRUTH) -> list[Window]:
    largest = [replace(GREEDY, max_batch=b, preferred=(b,)) for b in (1, 2, 4, 8, 16, 32)]
    several = [replace(each, instances=n) for each in largest[::2] for n in (2, 4)]
    return [unloaded(GREEDY, service), *(loaded(each, service) for each in largest + several)]


def fitted(seen: list[Window]) -> ModelProfile:
    profile = ModelProfile.fit(seen)
    assert profile is not None
    return profile


@pytest.fixture(scope="module")
def profile() -> ModelProfile:
    return fitted(windows())


def test_service_times_are_recovered(profile: ModelProfile) -> None:
    np.testing.assert_allclose(profile.curve.table(LARGEST), TRUTH.seconds, rtol=0.05)


@pytest.mark.parametrize("exclusive", [0.0, 0.4, 0.6, 1.0])
def test_it_is_recovered_how_many_instances_are_as_good_as_alone(exclusive: float) -> None:
    found = fitted(windows(replace(TRUTH, exclusive=exclusive)))
    for instances in (1, 2, 4):
        most = min(instances, 1 / max(exclusive, 1e-9))
        assert found.effective(instances) == pytest.approx(most, rel=0.1)


def test_overheads_are_recovered(profile: ModelProfile) -> None:
    assert profile.release == pytest.approx(TRUTH.release, rel=0.3)
    assert profile.reply == pytest.approx(TRUTH.reply, rel=0.1)
    assert profile.network == pytest.approx(TRUTH.network, rel=0.1)


def test_the_scatter_of_executions_is_recovered(profile: ModelProfile) -> None:
    assert np.mean(profile.noise) == pytest.approx(0, abs=1e-9)
    assert np.std(profile.noise) == pytest.approx(np.std(TRUTH.noise), rel=0.2)
    assert max(profile.noise) == pytest.approx(max(TRUTH.noise), rel=0.2)


def test_constant_executions_have_no_noise() -> None:
    still = replace(TRUTH, noise=np.zeros(1))
    assert np.ptp(fitted([unloaded(GREEDY, still)]).noise) == pytest.approx(0, abs=1e-7)


def test_stalls_of_the_machine_are_no_habit_of_the_model() -> None:
    rare = np.concatenate([np.linspace(-4e-4, 4e-4, 499), [0.03]])
    found = fitted([unloaded(GREEDY, replace(TRUTH, noise=rare), 4000)])
    assert max(found.noise) < 0.002


def held_up(seen: Window, factor: float = 2.5, seconds: float = 0.1) -> Window:
    """As if something else had had the machine for half of the time."""
    server = seen.server
    slower = {size: factor * taken for size, taken in server.batch_seconds.items()}
    return seen.model_copy(
        update={
            "throughput": seen.throughput / factor,
            "mean": factor * seen.mean + seconds,
            "latency": {name: factor * (v or 0.0) + seconds for name, v in seen.latency.items()},
            "server": server.model_copy(
                update={
                    "batch_seconds": slower,
                    "queue": factor * server.queue,
                    "compute_infer": factor * server.compute_infer,
                }
            ),
        }
    )


@pytest.mark.parametrize("place", range(10))
def test_a_window_in_which_the_machine_was_held_up_does_not_count(place: int) -> None:
    """Of each size there are two, as in a calibration; one of them is spoilt."""
    each = windows()[:10]
    seen = [*each, *each[:place], held_up(each[place]), *each[place + 1 :]]
    found = fitted(seen)
    np.testing.assert_allclose(found.curve.table(LARGEST), TRUTH.seconds, rtol=0.1)
    for instances in (2, 4):
        assert found.effective(instances) == pytest.approx(1 / TRUTH.exclusive, rel=0.1)
    sla = Sla.parse("p99<40ms")
    truth = predict_capacity(GREEDY, TRUTH, sla)
    assert predict_capacity(GREEDY, found.service(GREEDY), sla) == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(
    "scheduling",
    [
        GREEDY,
        replace(GREEDY, max_batch=4, preferred=(4,), instances=2),
        replace(GREEDY, delay=0.002),
        replace(GREEDY, max_batch=16, preferred=(4, 16), instances=4),
        Scheduling(False, 1, (1,), instances=4),
        replace(GREEDY, max_batch=8, preferred=(8,), instances=4, devices=2),
    ],
    ids=["one", "two instances", "delay", "four and preferred sizes", "no batching", "two devices"],
)
@pytest.mark.parametrize("sla", ["p99<40ms", "p99<15ms"])
def test_capacities_are_those_of_the_truth(
    profile: ModelProfile, scheduling: Scheduling, sla: str
) -> None:
    truth = predict_capacity(scheduling, TRUTH, Sla.parse(sla))
    found = predict_capacity(scheduling, profile.service(scheduling), Sla.parse(sla))
    assert truth > 0
    assert found == pytest.approx(truth, rel=0.05)


def test_a_delay_in_the_queue_is_no_noise() -> None:
    delayed = [
        unloaded(replace(GREEDY, delay=delay), replace(TRUTH, network=0.0))
        for delay in (0.002, 0.005, 0.02)
    ]
    assert fitted(delayed).noise == (0.0,)
    plain = unloaded(GREEDY)
    assert fitted([plain, *delayed]).noise == pytest.approx(fitted([plain]).noise)


def test_delays_do_not_lengthen_the_service_or_the_network() -> None:
    delayed = unloaded(replace(GREEDY, delay=0.005))
    found = fitted([delayed])
    assert found.curve.table(1)[1] == pytest.approx(TRUTH.seconds[1], rel=0.05)
    assert found.network + found.reply == pytest.approx(TRUTH.network + TRUTH.reply, rel=0.1)


def test_nothing_is_known_without_windows() -> None:
    assert ModelProfile.fit([]) is None


def test_nothing_is_known_where_no_execution_ran_alone() -> None:
    assert ModelProfile.fit([loaded(replace(GREEDY, instances=2))]) is None


def test_nothing_is_known_where_only_small_batches_ran_alone() -> None:
    """Else a full batch would seem to take as long as one request."""
    two = replace(GREEDY, instances=2)
    assert ModelProfile.fit([unloaded(two), loaded(two)]) is None


def test_two_devices_with_one_instance_each_run_alone() -> None:
    pair = replace(GREEDY, instances=2, devices=2)
    four = replace(GREEDY, instances=4, devices=2)
    single = fitted([unloaded(GREEDY), loaded(GREEDY), loaded(replace(GREEDY, instances=2))])
    double = fitted([unloaded(pair), loaded(pair), loaded(four)])
    assert double.curve.table(LARGEST) == pytest.approx(single.curve.table(LARGEST), rel=0.05)
    assert double.release == pytest.approx(single.release, abs=1e-5)
    assert double.parallel[0] == (2, pytest.approx(single.parallel[0][1], rel=0.1))


def test_instances_between_those_seen_lie_on_a_line_and_above_them_it_stays() -> None:
    seen = fitted([unloaded(GREEDY)])
    known = replace(seen, parallel=((2, 1.5), (4, 2.0)))
    assert [known.effective(n) for n in (1, 2, 3, 4, 8)] == [1.0, 1.5, 1.75, 2.0, 2.0]
    assert seen.effective(5) == 5


def test_instances_of_several_devices_share_only_their_own() -> None:
    known = replace(fitted([unloaded(GREEDY)]), parallel=((2, 1.25),))
    assert known.service(replace(GREEDY, instances=2)).exclusive == pytest.approx(0.8)
    assert known.service(replace(GREEDY, instances=4, devices=2)).exclusive == pytest.approx(0.8)
    assert known.service(replace(GREEDY, instances=2, devices=2)).exclusive == 1.0
