"""Networks of batchers, against single ones, closed forms and a plain simulator."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated import batch_times
from tests.simulator.network_reference import PlainNetwork
from tests.simulator.test_closed_forms import constant, exponential
from tests.simulator.test_properties import JUST, Case, cases, limited, relaxed
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.simulator.network import (
    Network,
    Node,
    NodePlayed,
    Played,
    Visit,
    saturation_of,
    simulate_network,
)
from tuner.simulator.predict import (
    highest_kept,
    is_kept,
    load_at,
    play,
    predict_capacity,
    saturation,
)
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, simulate
from tuner.stats.samples import Floats, Ints

ONE = Scheduling(False, 1, (1,))
SECONDS = 0.004
ALL = np.ones(1)
EVEN = np.array([0.5, 0.5])

_KINDS = 1  # the stream of random numbers that draws applications, beside that of arrivals


def play_network(
    rate: float,
    requests: int,
    network: Network,
    shares: Floats,
    arrivals: Arrivals = Arrivals.POISSON,
    mix: BatchMix | None = None,
    seed: int = 0,
) -> Played:
    """About so many requests at ``rate`` requests/s, sent as ``tuner.simulator.predict.play`` does
    it; each is of an application at random, of which ``shares`` (shape (applications,)) add up
    to 1.
    """
    times, items = load_at(rate, requests, arrivals, mix, seed)
    rng = np.random.default_rng((seed, _KINDS))
    kinds = rng.choice(network.applications, len(times), p=shares)
    return simulate_network(times, network, kinds, items, seed)


def node(seconds: float, device: int = 0, exclusive: float = 1.0) -> Node:
    return Node(ONE, constant(seconds, exclusive=exclusive), device)


def chain(*nodes: Node) -> Network:
    """A pipeline."""
    return Network(nodes, tuple(Visit(n, (n - 1,) if n else ()) for n in range(len(nodes))))


def side_by_side(*nodes: Node, limit: int = 0) -> Network:
    """An application for each node."""
    visits = tuple(Visit(number, application=number) for number in range(len(nodes)))
    return Network(nodes, visits, limit)


def poisson(rate: float, count: int, seed: int = 0) -> Floats:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


@dataclass(frozen=True)
class NetworkCase:
    times: Floats
    network: Network
    kinds: Ints
    items: Ints
    seed: int

    def play(self) -> Played:
        return simulate_network(self.times, self.network, self.kinds, self.items, self.seed)


@st.composite
def networks(draw: st.DrawFn) -> NetworkCase:
    """Any applications on any nodes, few of which refuse nothing."""
    parts = draw(st.lists(st.one_of(cases(), limited()), min_size=1, max_size=4))
    nodes = tuple(Node(p.scheduling, p.service, draw(st.integers(0, 1))) for p in parts)
    visits: list[Visit] = []
    applications = draw(st.integers(1, 2))
    for number in range(draw(st.integers(applications, 6))):
        application = number if number < applications else draw(st.integers(0, applications - 1))
        earlier = [n for n, visit in enumerate(visits) if visit.application == application]
        after = draw(st.sets(st.sampled_from(earlier), max_size=2)) if earlier else set()
        visits.append(Visit(draw(st.integers(0, len(nodes) - 1)), tuple(after), application))
    network = Network(nodes, tuple(visits), limit=draw(st.sampled_from([0, 0, 1, 2, 3])))
    load = parts[0]
    rng = np.random.default_rng(load.seed)
    smallest = min(part.scheduling.max_batch for part in parts)
    items = np.minimum(load.items, smallest) if draw(st.booleans()) else load.items
    kinds = rng.integers(0, applications, len(load.times))
    return NetworkCase(load.times, network, kinds, items, load.seed)


def without_front(network: Network) -> Network:
    nodes = [
        replace(each, service=replace(each.service, accept=0.0, network=0.0))
        for each in network.nodes
    ]
    return replace(network, nodes=tuple(nodes))


def freed(case: NetworkCase, number: int, played: NodePlayed) -> Floats:
    """When the instance of each execution is idle again."""
    ends = np.where(np.isnan(played.ends), np.inf, played.ends)
    return ends + case.network.nodes[number].service.release * played.sizes


@given(st.one_of(cases(), limited()))
@relaxed
def test_one_node_alone_is_a_single_model(case: Case) -> None:
    single = case.play()
    network = Network((Node(case.scheduling, case.service),), (Visit(0),))
    found = simulate_network(case.times, network, items=case.items, seed=case.seed)
    np.testing.assert_array_equal(found.samples.done, single.samples.done)
    np.testing.assert_array_equal(found.samples.ok, single.samples.ok)
    own = found.nodes[0]
    np.testing.assert_array_equal(own.request, np.arange(len(case.times)))
    np.testing.assert_array_equal(own.execution, single.execution)
    np.testing.assert_array_equal(own.started, single.started)
    np.testing.assert_array_equal(own.sizes, single.sizes)
    np.testing.assert_array_equal(own.ends, single.ends)
    assert own.queue == single.queue
    assert own.batches == single.batches


@given(networks())
@settings(deadline=None, max_examples=200)
def test_both_simulators_agree_to_the_last_bit(case: NetworkCase) -> None:
    case = replace(case, network=without_front(case.network))
    played, plain = case.play(), PlainNetwork(case.network, case.seed)
    plain.play(case.times.tolist(), case.kinds.tolist(), case.items.tolist())
    np.testing.assert_array_equal(played.samples.done, [each.done for each in plain.requests])
    np.testing.assert_array_equal(played.samples.ok, [each.ok for each in plain.requests])
    for own, other in zip(played.nodes, plain.nodes, strict=True):
        np.testing.assert_array_equal(own.request, [each.number for each, _ in other.stands_for])
        np.testing.assert_array_equal(own.visit, [visit for _, visit in other.stands_for])
        np.testing.assert_array_equal(own.entered, [each.entered for each in other.requests])
        np.testing.assert_array_equal(own.started, [each.started for each in other.requests])
        np.testing.assert_array_equal(own.done, [each.done for each in other.requests])
        np.testing.assert_array_equal(own.execution, [each.execution for each in other.requests])
        np.testing.assert_array_equal(own.sizes, other.sizes)
        for execution, end in enumerate(own.ends):
            assert other.ends.get(execution, np.nan) == pytest.approx(end, abs=0, nan_ok=True)


@given(networks())
@relaxed
def test_each_request_is_answered_once(case: NetworkCase) -> None:
    """After all its visits, each of which took place once, or as soon as one was refused."""
    found = case.play()
    assert np.isfinite(found.samples.done).all()
    assert (found.samples.done >= case.times).all()
    took = [np.column_stack([own.request, own.visit]) for own in found.nodes]
    done = np.concatenate([own.done for own in found.nodes])
    rows = np.concatenate(took)
    assert len(np.unique(rows, axis=0)) == len(rows)
    away = case.network.fronts("network")[case.kinds] / 2
    for number, visit in enumerate(case.network.visits):
        own = rows[rows[:, 1] == number, 0]
        assert set(case.kinds[own]) <= {visit.application}
        all_ok = np.flatnonzero(found.samples.ok & (case.kinds == visit.application))
        assert set(all_ok) <= set(own)
    last = np.full(len(case.times), -np.inf)
    np.fmax.at(last, rows[:, 0], done)
    ok = found.samples.ok
    np.testing.assert_array_equal(found.samples.done[ok], (last + away)[ok])


@given(networks())
@relaxed
def test_a_visit_begins_when_the_last_that_it_awaits_is_done(case: NetworkCase) -> None:
    found = case.play()
    done: dict[tuple[int, int], float] = {}
    entered: dict[tuple[int, int], float] = {}
    for own in found.nodes:
        assert (np.diff(own.entered) >= 0).all()
        places = list(zip(own.request.tolist(), own.visit.tolist(), strict=True))
        done |= dict(zip(places, own.done.tolist(), strict=True))
        entered |= dict(zip(places, own.entered.tolist(), strict=True))
    for (request, visit), begin in entered.items():
        after = case.network.visits[visit].after
        if after:
            assert begin == max(done[request, other] for other in after)


@given(networks())
@relaxed
def test_no_more_executions_are_open_than_instances_and_limit_allow(case: NetworkCase) -> None:
    found = case.play()
    begun = [own.starts for own in found.nodes]
    ends = [freed(case, number, own) for number, own in enumerate(found.nodes)]
    for own, starts, until in zip(case.network.nodes, begun, ends, strict=True):
        open_at = (starts <= starts[:, None]) & (until > starts[:, None] + JUST)
        assert open_at.sum(axis=1).max(initial=0) <= own.scheduling.instances
    if case.network.limit:
        starts, until = np.concatenate(begun), np.concatenate(ends)
        open_at = (starts <= starts[:, None]) & (until > starts[:, None] + JUST)
        assert open_at.sum(axis=1).max(initial=0) <= case.network.limit


@given(networks())
@relaxed
def test_a_device_serves_one_execution_at_a_time(case: NetworkCase) -> None:
    """Of all nodes that share it."""
    nodes = [
        replace(
            each,
            scheduling=replace(each.scheduling, devices=1),
            service=replace(each.service, noise=np.zeros(1)),
        )
        for each in case.network.nodes
    ]
    found = replace(case, network=replace(case.network, nodes=tuple(nodes))).play()
    for device in {each.device for each in nodes}:
        spans = []
        for each, own in zip(nodes, found.nodes, strict=True):
            if each.device == device:
                ended = np.isfinite(own.ends)
                needed = each.service.exclusive * each.service.seconds[own.sizes[ended]]
                spans.append(np.column_stack([own.ends[ended] - needed, own.ends[ended]]))
        rows = np.concatenate(spans)
        rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
        assert (rows[1:, 0] >= rows[:-1, 1] - JUST).all()


@given(st.lists(st.one_of(cases(), limited()), min_size=2, max_size=3), st.integers(0, 99))
@relaxed
def test_nodes_that_share_nothing_are_single_models(parts: list[Case], seed: int) -> None:
    quiet = [replace(part.service, noise=np.zeros(1), accept=0.0) for part in parts]
    nodes = [Node(p.scheduling, quiet[n], device=n) for n, p in enumerate(parts)]
    times, items = parts[0].times, parts[0].items
    kinds = np.random.default_rng(seed).integers(0, len(parts), len(times))
    found = simulate_network(times, side_by_side(*nodes), kinds, items)
    for number, each in enumerate(nodes):
        own = kinds == number
        alone = simulate(times[own], each.scheduling, each.service, items[own])
        np.testing.assert_array_equal(found.samples.done[own], alone.samples.done)
        np.testing.assert_array_equal(found.samples.ok[own], alone.samples.ok)
        np.testing.assert_array_equal(found.nodes[number].sizes, alone.sizes)


def test_a_request_goes_through_a_pipeline_in_order() -> None:
    network = chain(node(0.003, 0), node(0.005, 1), node(0.002, 2))
    found = simulate_network(np.array([0.0, 0.001]), network)
    entered = [(own.entered * 1e3).round(9).tolist() for own in found.nodes]
    assert entered == [[0, 1], [3, 6], [8, 13]]
    assert found.samples.done * 1e3 == pytest.approx([10, 15])


def test_the_front_end_is_passed_once_and_replies_leave_every_node() -> None:
    service = replace(constant(SECONDS), accept=0.0005, reply=0.0001, network=0.002)
    network = chain(*(Node(ONE, service, n) for n in range(3)))
    found = simulate_network(np.zeros(2), network)
    first = 0.002 + 0.0005 + 3 * (SECONDS + 0.0001)
    assert found.samples.done == pytest.approx([first, first + SECONDS])
    assert found.nodes[0].entered == pytest.approx([0.0015, 0.002])


def test_applications_pass_the_front_end_one_after_the_other() -> None:
    slow, fast = replace(constant(0.0), accept=0.003), replace(constant(0.0), accept=0.001)
    network = side_by_side(Node(ONE, slow), Node(ONE, fast))
    found = simulate_network(np.zeros(4), network, np.array([0, 1, 0, 1]))
    assert found.samples.done * 1e3 == pytest.approx([3, 4, 7, 8])


def test_requests_of_a_faster_network_overtake_others() -> None:
    far, near = replace(constant(0.0), network=0.010), replace(constant(0.0), network=0.001)
    network = side_by_side(Node(ONE, far), Node(ONE, near))
    found = simulate_network(np.array([0.0, 0.001]), network, np.array([0, 1]))
    assert found.samples.done * 1e3 == pytest.approx([10, 2])
    assert [own.request.tolist() for own in found.nodes] == [[0], [1]]


def test_a_join_waits_for_the_slower_branch() -> None:
    """Each branch is a single model, and the join comes when both are done."""
    branches = Node(ONE, constant(0.003), 0), Node(ONE, constant(0.004), 1)
    times = poisson(200, 20_000)
    fork = Network((*branches, node(0.0, 2)), (Visit(0), Visit(1), Visit(2, (0, 1))))
    found = simulate_network(times, fork)
    alone = [simulate(times, ONE, each.service).samples.done for each in branches]
    np.testing.assert_array_equal(found.nodes[2].entered, np.maximum(*alone))


def test_a_diamond_visits_the_join_once() -> None:
    nodes = node(0.001, 0), node(0.002, 1), node(0.005, 2), node(0.001, 3)
    visits = Visit(0), Visit(1, (0,)), Visit(2, (0,)), Visit(3, (1, 2))
    found = simulate_network(np.array([0.0]), Network(nodes, visits))
    assert [len(own.entered) for own in found.nodes] == [1, 1, 1, 1]
    assert found.samples.done == pytest.approx([0.007])


def test_a_model_may_be_visited_twice() -> None:
    times = poisson(100, 2000)
    twice = Network((node(SECONDS),), (Visit(0), Visit(0, (0,))))
    found = simulate_network(times, twice)
    own = found.nodes[0]
    assert len(own.entered) == len(own.sizes) == 2 * len(times)
    assert np.bincount(own.visit).tolist() == [len(times)] * 2
    assert (found.samples.latency >= 2 * SECONDS - JUST).all()
    assert saturation_of(twice, ALL) == pytest.approx(1 / (2 * SECONDS))


def test_a_request_that_the_second_step_refuses_has_failed() -> None:
    """Of five at once one is executed there, one waits, and the rest find the queue full."""
    short = Scheduling(True, 1, (1,), queue_size=1)
    network = chain(node(0.0, 0), Node(short, constant(0.010), 1), node(0.0, 2))
    found = simulate_network(np.array([0.0, 0.001, 0.002, 0.003, 0.020]), network)
    assert found.samples.ok.tolist() == [True, True, False, False, True]
    assert found.samples.done * 1e3 == pytest.approx([10, 20, 2, 3, 30])
    assert found.nodes[2].request.tolist() == [0, 1, 4]


def test_what_a_failed_request_has_queued_elsewhere_is_executed_in_vain() -> None:
    tight = Scheduling(True, 1, (1,))
    network = Network(
        (Node(ONE, constant(0.010, 4), 0), Node(tight, constant(0.001), 1), node(0.0, 2)),
        (Visit(0), Visit(1), Visit(2, (0, 1))),
    )
    wide = replace(network.nodes[0], scheduling=Scheduling(False, 4, (4,)))
    network = replace(network, nodes=(wide, *network.nodes[1:]))
    found = simulate_network(np.array([0.0, 0.001]), network, items=np.array([4, 1]))
    assert found.samples.ok.tolist() == [False, True]
    assert found.samples.done * 1e3 == pytest.approx([0, 20])
    assert found.nodes[0].sizes.tolist() == [4, 1]
    assert found.nodes[2].request.tolist() == [1]


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_tandem_of_constant_services_waits_at_the_first_alone(load: float) -> None:
    network = chain(node(SECONDS, 0), node(SECONDS, 1))
    found = play_network(load / SECONDS, 200_000, network, ALL)
    assert found.nodes[1].queue == pytest.approx(0.0, abs=JUST)
    wait = SECONDS * load / (2 * (1 - load))
    assert found.samples.mean == pytest.approx(wait + 2 * SECONDS, rel=0.03)
    assert found.nodes[0].utilization == pytest.approx(load, rel=0.02)


@pytest.mark.parametrize("loads", [(0.5, 0.7), (0.7, 0.4, 0.6)])
def test_a_tandem_of_exponential_services_is_one_of_m_m_1(loads: tuple[float, ...]) -> None:
    """By Burke's theorem each sees Poisson arrivals."""
    rate = 100.0
    nodes = [Node(ONE, exponential(load / rate, 1.0), n) for n, load in enumerate(loads)]
    found = play_network(rate, 400_000, chain(*nodes), ALL)
    expected = sum(load / rate / (1 - load) for load in loads)
    assert found.samples.mean == pytest.approx(expected, rel=0.04)
    for own, load in zip(found.nodes, loads, strict=True):
        assert own.queue == pytest.approx(load**2 / rate / (1 - load), rel=0.06)
        assert own.utilization == pytest.approx(load, rel=0.02)


@pytest.mark.parametrize("exclusive", [0.4, 1.0])
def test_a_shared_device_bounds_the_throughput(exclusive: float) -> None:
    many = replace(ONE, instances=4)
    nodes = [Node(many, constant(s, exclusive=exclusive), 7) for s in (0.002, 0.006)]
    network = side_by_side(*nodes)
    most = saturation_of(network, EVEN)
    assert most == pytest.approx(1 / (exclusive * 0.004))
    found = play_network(1.5 * most, 50_000, network, EVEN)
    assert found.samples.throughput == pytest.approx(most, rel=0.02)
    apart = [replace(each, device=n) for n, each in enumerate(nodes)]
    assert saturation_of(side_by_side(*apart), EVEN) > 1.3 * most


def test_a_group_of_devices_is_as_large_as_any_node_says() -> None:
    nodes = [Node(replace(ONE, instances=n, devices=n), constant(SECONDS)) for n in (2, 4)]
    network = side_by_side(*nodes)
    assert network.devices == {0: 4}
    found = simulate_network(np.zeros(6), network, np.array([0, 0, 1, 1, 1, 1]))
    assert sorted(found.samples.done / SECONDS) == pytest.approx([1, 1, 1, 1, 2, 2])


def test_a_limit_of_one_makes_executions_serial() -> None:
    network = side_by_side(*(node(SECONDS, n) for n in range(3)), limit=1)
    found = simulate_network(np.zeros(30), network, np.arange(30) % 3)
    ends = np.sort(np.concatenate([own.ends for own in found.nodes]))
    assert ends / SECONDS == pytest.approx(np.arange(1, 31))
    assert saturation_of(network, np.full(3, 1 / 3)) == pytest.approx(1 / SECONDS)


def test_the_rate_limiter_lets_the_instance_go_that_has_executed_least() -> None:
    """So a slow model has as many executions as a fast one, as long as both have requests."""
    network = side_by_side(node(0.001, 0), node(0.009, 1), limit=1)
    found = simulate_network(np.zeros(200), network, np.arange(200) % 2)
    began = np.concatenate([own.starts for own in found.nodes])
    order = np.argsort(began) // 100
    assert np.bincount(order[:100]).tolist() == [50, 50]
    more = replace(network.nodes[1], scheduling=replace(ONE, instances=3))
    found = simulate_network(
        np.zeros(200), replace(network, nodes=(network.nodes[0], more)), np.arange(200) % 2
    )
    order = np.argsort(np.concatenate([own.starts for own in found.nodes])) // 100
    assert np.bincount(order[:100]) == pytest.approx([25, 75], abs=1)


def test_what_waits_for_the_rate_limiter_is_not_merged() -> None:
    """Alone the last two payloads are merged, since both are older than the delay."""
    scheduling = Scheduling(True, 8, (2,), delay=0.001)
    times = np.arange(7) * 0.0005
    alone = Network((Node(scheduling, constant(0.010, 8)),), (Visit(0),))
    assert simulate_network(times, alone).nodes[0].sizes.tolist() == [2, 5]
    shared = replace(alone, limit=1)
    assert simulate_network(times, shared).nodes[0].sizes.tolist() == [2, 3, 2]


def test_one_application_is_played_as_a_single_model() -> None:
    scheduling = Scheduling(True, 16, (16,), delay=0.001, instances=2)
    service = ServiceTimes(0.004 + 0.0005 * np.arange(17.0), 0.6, noise=np.array([-5e-4, 5e-4]))
    network, mix = Network((Node(scheduling, service),), (Visit(0),)), BatchMix.parse("1:0.7,4:0.3")
    for arrivals in (Arrivals.POISSON, Arrivals.parse("piecewise:1x2s,3x2s")):
        found = play_network(300.0, 2000, network, ALL, arrivals, mix, seed=3)
        single = play(300.0, 2000, scheduling, service, arrivals, mix, seed=3)
        np.testing.assert_array_equal(found.samples.done, single.samples.done)
    for each in (None, mix):
        assert saturation_of(network, ALL, each) == saturation(scheduling, service, each)


def test_applications_are_drawn_by_their_shares() -> None:
    network = side_by_side(node(0.001, 0), node(0.001, 1))
    found = play_network(100.0, 20_000, network, np.array([0.8, 0.2]))
    assert len(found.nodes[1].entered) / len(found.samples) == pytest.approx(0.2, rel=0.05)
    assert saturation_of(network, np.array([0.8, 0.2])) == pytest.approx(1250)


def test_the_capacity_of_one_node_is_that_of_a_single_model() -> None:
    scheduling, sla = Scheduling(True, 32, (32,)), Sla.parse("p99<40ms")
    service = ServiceTimes(0.004 + 0.0003 * np.arange(33.0))
    network = Network((Node(scheduling, service),), (Visit(0),))

    def keeps(rate: float) -> bool:
        return is_kept(play_network(rate, 5000, network, ALL).samples, sla)

    expected = predict_capacity(scheduling, service, sla, requests=5000)
    assert highest_kept(keeps, saturation_of(network, ALL), 0.005, 0.0) == expected


def test_a_pipeline_is_saturated_as_its_slowest_step() -> None:
    network = chain(node(0.002, 0), node(SECONDS, 1), node(0.003, 2))
    assert saturation_of(network, ALL) == pytest.approx(1 / SECONDS)
    found = play_network(1.5 / SECONDS, 20_000, network, ALL)
    assert found.samples.throughput == pytest.approx(1 / SECONDS, rel=0.01)


def test_no_requests_are_no_samples() -> None:
    found = simulate_network(np.empty(0), chain(node(0.001), node(0.001)))
    assert len(found.samples) == 0
    assert [own.utilization for own in found.nodes] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("visits", "reason"),
    [
        ((Visit(1),), "visit 0 is to node 1"),
        ((Visit(0), Visit(0, (1,))), "visit 1 is after 1"),
        ((Visit(0), Visit(0, (0,), application=1)), "visit 1 is after 0"),
        ((Visit(0, application=1),), "numbered from 0 on"),
        ((), "have visits"),
    ],
)
def test_a_network_that_makes_no_sense_is_refused(visits: tuple[Visit, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Network((node(0.001),), visits)


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 8 is unknown"):
        Network((Node(Scheduling(True, 8, (8,)), constant(0.001)),), (Visit(0),))
    with pytest.raises(ValueError, match="kinds must be from 0 to 0"):
        simulate_network(np.zeros(1), chain(node(0.001)), np.ones(1, np.int64))


def test_a_closed_loop_keeps_so_many_requests_outstanding() -> None:
    node = Node(
        Scheduling(True, 8, (8,), instances=2), ServiceTimes(batch_times(0.004, 0.001), 0.5)
    )
    network = Network((node, node), (Visit(0), Visit(1, (0,))))
    for outstanding in (1, 3, 16):
        played = simulate_network(np.zeros(600), network, outstanding=outstanding)
        samples = played.samples
        assert samples.ok.all()
        sent, done = np.sort(samples.sent), np.sort(samples.done)
        for moment in np.linspace(sent[outstanding], sent[-40], 50):  # none follows the last ones
            inside = np.sum(sent <= moment) - np.sum(done <= moment)
            assert inside == outstanding
        # Little's law
        rate = len(samples) / done[-1]
        assert rate * np.mean(samples.done - samples.sent) == pytest.approx(outstanding, rel=0.03)
