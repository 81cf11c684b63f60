"""What holds for any load on any configuration."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, Simulation, simulate
from tuner.stats.samples import Floats

relaxed = settings(deadline=None, max_examples=60)
JUST = 1e-9  # seconds by which sums of doubles may be off


@dataclass(frozen=True)
class Case:
    times: Floats
    items: np.ndarray
    scheduling: Scheduling
    service: ServiceTimes
    seed: int

    def play(self) -> Simulation:
        return simulate(self.times, self.scheduling, self.service, self.items, self.seed)


@st.composite
def schedulings(draw: st.DrawFn) -> Scheduling:
    largest = draw(st.integers(1, 16))
    preferred = draw(st.sets(st.integers(1, largest), max_size=3)) or {largest}
    batching = draw(st.booleans()) or draw(st.booleans())
    return Scheduling(
        batching=batching,
        max_batch=largest,
        preferred=tuple(sorted(preferred)),
        delay=draw(st.sampled_from([0.0, 1e-4, 0.001, 0.01])) if batching else 0.0,
        instances=draw(st.integers(1, 4)),
        devices=draw(st.integers(1, 3)),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Requests that arrive evenly, in bursts or at random, of one size or of several."""
    scheduling = draw(schedulings())
    count, seed = draw(st.integers(1, 150)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    gap = draw(st.sampled_from([1e-5, 2e-4, 0.001, 0.004]))
    gaps = draw(
        st.sampled_from(
            [np.full(count, gap), rng.exponential(gap, count), gap * rng.poisson(0.3, count) / 0.3]
        )
    )
    size = draw(st.integers(1, scheduling.max_batch))
    items = rng.integers(1, size + 1, count) if draw(st.booleans()) else np.full(count, size)
    service = ServiceTimes(
        seconds=draw(st.sampled_from([0.0005, 0.003]))
        + draw(st.sampled_from([0.0, 2e-4])) * np.arange(scheduling.max_batch + 1),
        exclusive=draw(st.sampled_from([0.0, 0.3, 1.0])),
        noise=draw(st.sampled_from([np.zeros(1), np.array([0.0, 1e-4, 0.002])])),
        release=draw(st.sampled_from([0.0, 5e-5])),
        accept=draw(st.sampled_from([0.0, 2e-5])),
        reply=draw(st.sampled_from([0.0, 2e-5])),
        network=draw(st.sampled_from([0.0, 4e-4])),
    )
    return Case(np.cumsum(gaps), items, scheduling, service, seed % 1000)


@st.composite
def limited(draw: st.DrawFn) -> Case:
    """A case that may refuse: for its queue, its timeout or the size of a request."""
    case = draw(cases())
    scheduling = replace(
        case.scheduling,
        queue_size=draw(st.sampled_from([0, 1, 5, 20])),
        timeout=draw(st.sampled_from([0.0, 5e-4, 0.004])),
    )
    items = case.items + scheduling.max_batch * draw(st.booleans()) * (case.items % 3 == 0)
    return replace(case, scheduling=scheduling, items=items)


def starts(simulation: Simulation) -> Floats:
    """Of each execution; all its requests agree."""
    found = np.full(len(simulation.sizes), np.nan)
    ran = simulation.execution >= 0
    found[simulation.execution[ran]] = simulation.started[ran]
    np.testing.assert_array_equal(found[simulation.execution[ran]], simulation.started[ran])
    return found


@given(st.one_of(cases(), limited()))
@relaxed
def test_each_request_is_answered_or_refused_once(case: Case) -> None:
    found = case.play()
    ok, ran = found.samples.ok, found.execution >= 0
    np.testing.assert_array_equal(found.samples.intended, case.times)
    np.testing.assert_array_equal(ok, ran)
    np.testing.assert_array_equal(ok, np.isfinite(found.started))
    assert np.isfinite(found.samples.done).all()
    assert set(found.execution[ran]) == set(range(len(found.sizes)))


@given(st.one_of(cases(), limited()))
@relaxed
def test_executions_hold_the_items_of_their_requests_and_no_more_than_allowed(case: Case) -> None:
    found = case.play()
    ran = found.execution >= 0
    held = np.bincount(found.execution[ran], case.items[ran], len(found.sizes))
    np.testing.assert_array_equal(held, found.sizes)
    assert found.sizes.max(initial=0) <= case.scheduling.max_batch
    assert sum(size * count for size, count in found.batches.items()) == case.items[ran].sum()
    if not case.scheduling.batching:
        assert len(found.sizes) == ran.sum()


@given(cases())
@relaxed
def test_where_nothing_is_refused_requests_run_in_the_order_of_their_arrival(case: Case) -> None:
    found = case.play()
    assert found.samples.ok.all()
    assert set(np.diff(found.execution)) <= {0, 1}
    assert (np.diff(starts(found)) >= 0).all()


@given(limited())
@relaxed
def test_where_some_are_refused_the_rest_run_in_the_order_of_their_arrival(case: Case) -> None:
    found = case.play()
    assert set(np.diff(found.execution[found.samples.ok])) <= {0, 1}


@given(st.one_of(cases(), limited()))
@relaxed
def test_no_more_executions_are_open_than_there_are_instances(case: Case) -> None:
    found = case.play()
    begun = starts(found)
    freed = found.ends + case.service.release * found.sizes
    for start in begun:
        assert np.sum((begun <= start) & (freed > start + JUST)) <= case.scheduling.instances


@given(st.one_of(cases(), limited()))
@relaxed
def test_a_device_serves_one_execution_at_a_time(case: Case) -> None:
    service = replace(case.service, exclusive=1.0)
    one = replace(case, scheduling=replace(case.scheduling, devices=1), service=service)
    found = one.play()
    order = np.argsort(found.ends)
    least = service.seconds[found.sizes[order]]
    assert (np.diff(found.ends[order]) >= least[1:] - JUST).all()


@given(st.one_of(cases(), limited()))
@relaxed
def test_an_execution_takes_its_service_and_replies_come_after_it(case: Case) -> None:
    found, service = case.play(), case.service
    ran = found.samples.ok
    assert (found.ends - starts(found) >= service.seconds[found.sizes] - JUST).all()
    ends, done = found.ends[found.execution[ran]], found.samples.done[ran]
    assert (done >= ends + service.reply + service.network / 2 - JUST).all()
    least = service.accept + service.reply + service.network
    alone = service.seconds[found.sizes[found.execution[ran]]]
    assert (found.samples.latency[ran] >= least + alone - JUST).all()
    assert (found.started[ran] >= case.times[ran] + service.accept - JUST).all()


@given(st.one_of(cases(), limited()))
@relaxed
def test_replies_leave_one_at_a_time(case: Case) -> None:
    found = case.play()
    done = np.sort(found.samples.done[found.samples.ok])
    assert (np.diff(done) >= case.service.reply - JUST).all()


@given(limited())
@relaxed
def test_nobody_starts_after_the_timeout_and_more_than_the_queue_holds_never_wait(
    case: Case,
) -> None:
    service = replace(case.service, accept=0.0, network=0.0)
    case = replace(case, service=service)
    found, scheduling = case.play(), case.scheduling
    waited = (found.started - case.times)[found.samples.ok]
    if scheduling.batching and scheduling.timeout > 0:
        assert (waited <= scheduling.timeout + JUST).all()
    if scheduling.batching and scheduling.queue_size > 0:
        for now in case.times:
            waiting = (case.times <= now) & (found.started > now)
            assert waiting.sum() <= scheduling.queue_size


@given(st.one_of(cases(), limited()))
@relaxed
def test_the_seed_alone_decides(case: Case) -> None:
    first, again = case.play(), case.play()
    np.testing.assert_array_equal(first.samples.done, again.samples.done)
    np.testing.assert_array_equal(first.execution, again.execution)


def test_another_seed_draws_other_noise() -> None:
    service = ServiceTimes(np.full(2, 0.001), noise=np.linspace(0, 0.001, 1000))
    played = [
        simulate(np.arange(50.0), Scheduling(False, 1, (1,)), service, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert played[0].samples.mean == played[1].samples.mean
    assert played[0].samples.mean != played[2].samples.mean
