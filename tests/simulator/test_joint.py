"""What windows tell of several models: each one's service times, and what they share."""

from collections.abc import Mapping

import numpy as np
import pytest

from tests.simulated import batch_times
from tuner.records.results import ServerTimes, Window
from tuner.simulator.joint import JointProfile
from tuner.simulator.network import Network, Node, Played, Visit, simulate_network
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes
from tuner.stats.estimators import PERCENTILES

MODELS = ("fast", "slow")
MIX = (Visit(0, (), 0), Visit(1, (), 1))
CHAIN = (Visit(0), Visit(1, (0,)))
TIMES = {"fast": (0.003, 0.001), "slow": (0.015, 0.003)}
EXCLUSIVE = 0.7
LARGEST = 16


def service(model: str, exclusive: float = EXCLUSIVE) -> ServiceTimes:
    return ServiceTimes(batch_times(*TIMES[model]), exclusive)


def greedy(instances: int) -> Scheduling:
    return Scheduling(True, LARGEST, (LARGEST,), instances=instances)


def times(played: Played, node: int) -> ServerTimes:
    """As a server counts them."""
    here = played.nodes[node]
    took = here.ends - here.starts
    known = ~np.isnan(took)
    sizes = here.sizes[known]
    seconds = {int(b): float(took[known][sizes == b].mean()) for b in np.unique(sizes)}
    whole = float(np.average(took[known], weights=sizes))
    batches = {int(b): int(np.sum(sizes == b)) for b in np.unique(sizes)}
    return ServerTimes(
        requests=int(sizes.sum()),
        executions=len(sizes),
        queue=here.queue,
        compute_input=0.0,
        compute_infer=whole,
        compute_output=0.0,
        batches=batches,
        batch_seconds=seconds,
    )


def window(
    played: Played, node: int, instances: int, concurrency: int, together: int | None
) -> Window:
    server = times(played, node)
    span = float(np.nanmax(played.samples.done))
    return Window(
        settings={"max_batch_size": LARGEST, "instance_group.count": instances},
        instances=instances,
        concurrency=concurrency,
        items=1.0,
        throughput=server.requests / span,
        mean=server.queue + server.compute,
        latency=dict.fromkeys(PERCENTILES, server.compute),
        server=server,
        model=MODELS[node],
        together=together,
    )


def windows(
    visits: tuple[Visit, ...],
    shares: bool,
    exclusive: tuple[float, float] = (EXCLUSIVE, EXCLUSIVE),
    most: int = 3,
) -> list[Window]:
    """Each model by itself, then all together, in closed loops on servers of 1, 2 and 3 instances
    (``most``); the models' exclusive parts queue for one device, or each model has its own.
    """
    found = []
    for number, model in enumerate(MODELS):
        for instances, concurrency in ((1, 1), (1, 8), (1, 40), (2, 64), (3, 96))[: 2 + most]:
            own = service(model, exclusive[number])
            alone = Network((Node(greedy(instances), own),), (Visit(0),))
            played = simulate_network(np.zeros(1500), alone, outstanding=concurrency)
            shown = window(played, 0, instances, concurrency, None)
            found.append(shown.model_copy(update={"model": MODELS[number]}))
    for instances in range(1, most + 1):
        nodes = tuple(
            Node(greedy(instances), service(model, exclusive[number]), 0 if shares else number)
            for number, model in enumerate(MODELS)
        )
        applications = len({visit.application for visit in visits})
        kinds = np.random.default_rng(1).integers(0, applications, 3000)
        played = simulate_network(np.zeros(3000), Network(nodes, visits), kinds, outstanding=8)
        found += [window(played, node, instances, 8, instances) for node in (0, 1)]
    return found


def shares_of(visits: tuple[Visit, ...]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    count = len({visit.application for visit in visits})
    return np.full(count, 1 / count)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("visits", [MIX, CHAIN])
def test_whether_models_share_a_device_is_learned(visits: tuple[Visit, ...], shares: bool) -> None:
    profile = JointProfile.fit(windows(visits, shares), MODELS, visits, shares_of(visits))
    assert profile is not None
    assert (profile.exclusive is not None) is shares
    stretch: Mapping[str, float] = profile.stretch or {}
    assert all(0.85 < stretch[model] < 1.15 for model in MODELS)
    for model in MODELS:
        if profile.exclusive is not None:
            assert profile.exclusive[model] == pytest.approx(EXCLUSIVE, abs=0.05)
        known = profile.profiles[model].curve.at(np.array([1.0, 8.0]))
        assert known == pytest.approx(batch_times(*TIMES[model])[[1, 8]], rel=0.05)


def test_a_share_is_learned_that_a_models_own_instances_do_not_show() -> None:
    """Two of them keep half of the device busy, as they would with any smaller share."""
    found = windows(MIX, True, exclusive=(0.7, 0.25), most=2)
    profile = JointProfile.fit(found, MODELS, MIX, shares_of(MIX))
    assert profile is not None
    assert profile.exclusive == pytest.approx({"fast": 0.7, "slow": 0.25}, abs=0.06)


def test_what_is_learned_does_not_need_a_space_that_varies_batches() -> None:
    stated = windows(MIX, shares=True)
    unstated = [
        each.model_copy(update={"settings": {"instance_group.count": each.instances}})
        for each in stated
    ]
    first, second = (JointProfile.fit(w, MODELS, MIX, shares_of(MIX)) for w in (stated, unstated))
    assert first is not None
    assert second is not None
    assert second.exclusive == pytest.approx(first.exclusive, abs=0.03)
    assert second.stretch == pytest.approx(first.stretch, rel=0.02)


def test_models_that_share_nothing_among_their_own_share_nothing_with_others() -> None:
    found = windows(MIX, shares=True)
    free = [w for w in found if w.instances == 1 and w.together is None]
    profile = JointProfile.fit(free, MODELS, MIX, shares_of(MIX))
    assert profile is not None
    assert profile.exclusive is None  # nothing tells of it


def test_a_model_without_windows_tells_nothing() -> None:
    found = [w for w in windows(MIX, shares=True) if w.model == "fast"]
    assert JointProfile.fit(found, MODELS, MIX, shares_of(MIX)) is None
