import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulated import batch_times, windows
from tuner.model.space import MAX_BATCH_SIZE
from tuner.records.results import Window
from tuner.simulator.footprint import Footprint, fits
from tuner.simulator.simulate import ServiceTimes

SEEN = windows(ServiceTimes(batch_times(0.004, 0.0003)), (8, 64), (2, 4))
GIB = 2**30


def holding(base: float, each: float, item: float) -> list[Window]:
    """Windows of servers that hold that many bytes."""
    found = []
    for size in (8, 64):
        for window in SEEN:
            held = base + window.instances * (each + size * item)
            settings = {**window.settings, MAX_BATCH_SIZE: size}
            found.append(window.model_copy(update={"settings": settings, "memory": int(held)}))
    return found


@given(st.floats(0, 4 * GIB), st.floats(2**20, 8 * GIB), st.floats(0, 2**26))
def test_what_a_server_instance_and_item_need_is_found(
    base: float, each: float, item: float
) -> None:
    found = Footprint.fit(holding(base, each, item), "memory")
    assert found is not None
    assert found.of(3, 1, 32) == pytest.approx(base + 3 * (each + 32 * item), rel=0.02, abs=2**20)


def test_what_does_not_fit_is_known_before_it_is_launched() -> None:
    seen = holding(GIB, 2 * GIB, 0)
    sizes = [(1, 1, 64), (2, 1, 64), (3, 1, 64), (4, 1, 64)]
    assert fits(seen, {"memory": 6 * GIB}, sizes) == [True, True, False, False]


def test_on_several_gpus_each_holds_its_own_instances_and_the_machine_all() -> None:
    """Seen on two GPUs: each instance takes 2 GiB of its GPU, and 2 GiB of the machine."""
    update = {"devices": 2}
    seen = [
        w.model_copy(
            update=update
            | {"instances": 2 * w.instances, "gpu_memory": w.memory, "memory": 2 * (w.memory or 0)}
        )
        for w in holding(GIB, 2 * GIB, 0)
    ]
    sizes = [(2, 2, 64), (4, 2, 64), (6, 2, 64), (3, 1, 64)]
    assert fits(seen, {"gpu_memory": 6 * GIB}, sizes) == [True, True, False, False]
    assert fits(seen, {"memory": 11 * GIB}, sizes) == [True, True, False, True]


def test_without_readings_everything_may_fit() -> None:
    assert fits(SEEN, {"memory": 1.0, "gpu_memory": 1.0}, [(4, 1, 64)]) == [True]


def test_one_number_of_instances_tells_nothing_of_the_next() -> None:
    alone = [w for w in holding(GIB, GIB, 0) if w.instances == 1]
    assert Footprint.fit(alone, "memory") is None


def test_only_what_is_limited_counts() -> None:
    assert fits(holding(GIB, GIB, 0), {}, [(100, 1, 64)]) == [True]
