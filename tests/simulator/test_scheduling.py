import pytest

from tuner.errors import SimulationError
from tuner.model.config import parse_config
from tuner.simulator.scheduling import Scheduling


def scheduling(text: str, gpus: int = 1) -> Scheduling:
    return Scheduling.of(parse_config(f'name: "m" {text}', "config.pbtxt"), gpus)


def test_without_dynamic_batching_there_is_none() -> None:
    assert scheduling("max_batch_size: 8") == Scheduling(False, 8, (8,))


def test_a_model_without_a_batch_dimension_takes_one_request_at_a_time() -> None:
    assert scheduling("") == Scheduling(False, 1, (1,))


@pytest.mark.parametrize("largest", [0, 1])
def test_dynamic_batching_of_single_items_is_inert(largest: int) -> None:
    text = f"max_batch_size: {largest} dynamic_batching {{ max_queue_delay_microseconds: 500 }}"
    assert scheduling(text) == Scheduling(False, 1, (1,))


def test_the_largest_batch_is_preferred_where_none_is() -> None:
    assert scheduling("max_batch_size: 32 dynamic_batching {}") == Scheduling(True, 32, (32,))


def test_preferred_sizes_ascend_and_are_distinct() -> None:
    text = "max_batch_size: 32 dynamic_batching { preferred_batch_size: [16, 4, 16, 8] }"
    assert scheduling(text) == Scheduling(True, 32, (4, 8, 16))


def test_the_delay_is_in_seconds() -> None:
    found = scheduling("max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 1500 }")
    assert found.delay == pytest.approx(0.0015)


def test_the_queue_policy_limits_size_and_time() -> None:
    found = scheduling(
        "max_batch_size: 8 dynamic_batching { default_queue_policy "
        "{ max_queue_size: 40 default_timeout_microseconds: 20000 } }"
    )
    assert found.queue_size == 40
    assert found.timeout == pytest.approx(0.02)


def test_without_a_queue_policy_there_are_no_limits() -> None:
    found = scheduling("max_batch_size: 8 dynamic_batching {}")
    assert (found.queue_size, found.timeout, found.delay) == (0, 0, 0)


@pytest.mark.parametrize(
    ("groups", "gpus", "instances", "devices"),
    [
        ("", 1, 1, 1),
        ("instance_group [{ kind: KIND_GPU }]", 1, 1, 1),
        ("instance_group [{ count: 3 kind: KIND_GPU gpus: [0] }]", 2, 3, 1),
        ("instance_group [{ count: 2 kind: KIND_GPU gpus: [0, 1] }]", 2, 4, 2),
        ("instance_group [{ count: 2 kind: KIND_GPU }]", 4, 8, 4),
        ("instance_group [{ count: 2 }]", 1, 2, 1),
        ("instance_group [{ count: 5 kind: KIND_CPU }]", 2, 5, 1),
        ("instance_group [{ count: 5 kind: KIND_MODEL }]", 2, 5, 1),
        ("instance_group [{ gpus: [0] count: 2 }, { gpus: [1] count: 1 }]", 2, 3, 2),
        ("instance_group [{ gpus: [1] count: 2 }, { gpus: [1] count: 3 }]", 2, 5, 1),
        ("instance_group [{ count: 2 kind: KIND_GPU }]", 0, 2, 1),
    ],
    ids=[
        "none",
        "no count",
        "one listed",
        "two listed",
        "all that there are",
        "automatic",
        "CPU",
        "the model chooses",
        "two groups",
        "two groups on one",
        "no GPU seen",
    ],
)
def test_instances_are_counted_for_each_gpu(
    groups: str, gpus: int, instances: int, devices: int
) -> None:
    found = scheduling(groups, gpus)
    assert (found.instances, found.devices) == (instances, devices)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sequence_batching {}", "sequence_batching"),
        ("ensemble_scheduling {}", "ensemble_scheduling"),
        ("model_transaction_policy { decoupled: true }", "decoupled"),
        ("dynamic_batching { priority_levels: 2 default_priority_level: 1 }", "priority levels"),
        (
            "dynamic_batching { default_queue_policy "
            "{ timeout_action: DELAY default_timeout_microseconds: 100 } }",
            "delays timed-out requests",
        ),
    ],
    ids=["sequences", "ensemble", "decoupled", "priorities", "DELAY"],
)
def test_what_is_not_simulated_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(SimulationError, match=f"^m .*{words}"):
        scheduling(f"max_batch_size: 8 {text}")


def test_delaying_without_a_timeout_changes_nothing() -> None:
    text = "dynamic_batching { default_queue_policy { timeout_action: DELAY } }"
    assert scheduling(f"max_batch_size: 8 {text}") == Scheduling(True, 8, (8,))
