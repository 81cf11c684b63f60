import json
from typing import Any

import pytest

from tuner.records.results import GpuReading
from tuner.servers.readings import gpu_reading, server_times

PARTS = ("queue", "compute_input", "compute_infer", "compute_output")
METRICS = """\
# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="m",version="1"} 7
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25
nv_gpu_utilization{gpu_uuid="GPU-2"} 0.75
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1000000000.000000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-2"} 3000000000.000000
nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 24000000000.000000
nv_gpu_power_usage{gpu_uuid="GPU-1"} 60.5
"""


def snapshot(requests: int, executions: int, each: float, batches: dict[int, int]) -> Any:
    """Statistics as Triton gives them, in which every part took ``each`` seconds per request.

    int64 is text in the JSON that comes of protobuf.
    """
    part = {"count": str(requests), "ns": str(round(requests * each * 1e9))}
    return {
        "name": "m",
        "inference_count": str(requests),
        "execution_count": str(executions),
        "inference_stats": {"success": part, "fail": {}, **{name: part for name in PARTS}},
        "batch_stats": [
            {
                "batch_size": str(size),
                "compute_input": {"count": str(n), "ns": str(n * 1000)},
                "compute_infer": {"count": str(n), "ns": str(round(n * size * each * 1e9))},
            }
            for size, n in batches.items()
        ],
    }


def test_the_difference_of_two_snapshots_is_per_request() -> None:
    before = snapshot(100, 40, 0.001, {1: 10, 4: 30})
    after = snapshot(300, 90, 0.002, {1: 10, 4: 60, 8: 20})
    times = server_times(before, after)
    assert times is not None
    assert (times.requests, times.executions) == (200, 50)
    mean = pytest.approx((300 * 0.002 - 100 * 0.001) / 200)
    assert [getattr(times, name) for name in PARTS] == [mean] * 4
    assert times.batches == {4: 30, 8: 20}


def test_the_seconds_of_a_batch_are_those_of_its_executions() -> None:
    before, after = snapshot(1, 1, 0.001, {4: 30}), snapshot(9, 9, 0.001, {4: 80, 8: 20})
    times = server_times(before, after)
    assert times is not None
    assert times.batch_seconds == {4: pytest.approx(0.004001), 8: pytest.approx(0.008001)}


def test_the_first_requests_of_a_model_count_from_nothing() -> None:
    times = server_times({}, snapshot(10, 5, 0.003, {2: 5}))
    assert times is not None
    assert times.requests == 10
    assert times.queue == pytest.approx(0.003)
    assert times.batches == {2: 5}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {}, id="no statistics"),
        pytest.param(snapshot(9, 9, 0.1, {1: 9}), snapshot(9, 9, 0.1, {1: 9}), id="nothing done"),
        pytest.param(snapshot(9, 9, 0.1, {1: 9}), snapshot(3, 3, 0.1, {1: 3}), id="reset"),
        pytest.param(snapshot(9, 9, 0.1, {1: 9}), snapshot(12, 4, 0.1, {8: 4}), id="fewer runs"),
        pytest.param(
            snapshot(0, 0, 0.1, {}), snapshot(5, 0, 0.1, {}), id="answered without execution"
        ),
    ],
)
def test_where_there_is_nothing_to_say_it_is_none(before: Any, after: Any) -> None:
    assert server_times(before, after) is None


def test_a_reset_that_more_requests_followed_is_none() -> None:
    before = snapshot(10, 10, 0.100, {1: 10})
    after = snapshot(20, 20, 0.001, {1: 20})
    assert server_times(before, after) is None


def test_gpu_metrics_are_means_over_the_gpus() -> None:
    assert gpu_reading(METRICS) == GpuReading(utilisation=0.5, memory=2_000_000_000, power=60.5)


def test_a_metric_that_is_missing_is_unknown() -> None:
    text = 'nv_gpu_utilization{gpu_uuid="GPU-1"} 1\n'
    assert gpu_reading(text) == GpuReading(utilisation=1.0, memory=None, power=None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# HELP nv_gpu_utilization GPU utilization rate\n# TYPE nv_gpu_utilization gauge\n",
        'nv_inference_count{model="nv_gpu_utilization"} 7\n',
        'nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 24\n',
    ],
)
def test_without_a_gpu_there_is_no_reading(text: str) -> None:
    assert gpu_reading(text) is None


@pytest.mark.parametrize("nothing", ["nan", "NaN"])
def test_a_metric_that_is_not_a_number_is_unknown(nothing: str) -> None:
    text = f'nv_gpu_utilization{{gpu="1"}} 0.5\nnv_gpu_memory_used_bytes{{gpu="1"}} {nothing}\n'
    assert gpu_reading(text) == GpuReading(utilisation=0.5, memory=None, power=None)


def changed(snapshot: Any, *place: str, to: Any) -> Any:
    """A copy with another value at that place; ``...`` takes the key away."""
    copy = json.loads(json.dumps(snapshot))
    owner = copy
    for key in place[:-1]:
        owner = owner[key]
    if to is ...:
        del owner[place[-1]]
    else:
        owner[place[-1]] = to
    return copy


GARBAGE = [None, "many", "", "-5", "nan", "1e9", float("nan"), float("inf"), 1.5, -5, True, [], {}]
PLACES = [
    ("execution_count",),
    ("inference_stats",),
    ("inference_stats", "queue"),
    ("inference_stats", "queue", "count"),
    ("inference_stats", "compute_infer", "ns"),
]


@pytest.mark.parametrize("place", PLACES, ids=".".join)
@pytest.mark.parametrize("garbage", [*GARBAGE, ...], ids=repr)
def test_statistics_that_are_no_numbers_are_none(place: tuple[str, ...], garbage: Any) -> None:
    before, after = snapshot(10, 5, 0.001, {2: 5}), snapshot(30, 15, 0.001, {2: 15})
    assert server_times(before, after) is not None
    assert server_times(before, changed(after, *place, to=garbage)) is None


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_garbage_in_place_of_a_whole_snapshot_is_none(garbage: Any) -> None:
    assert server_times({}, garbage) is None
    if garbage != {}:
        assert server_times(garbage, snapshot(30, 15, 0.001, {2: 15})) is None


@pytest.mark.parametrize(
    "batches",
    [
        "none",
        [None],
        [{"batch_size": "x", "compute_infer": {"count": 3}}],
        [{"batch_size": 2, "compute_infer": {"count": -3}}],
        [{"batch_size": 2, "compute_infer": "3"}],
        [{"batch_size": 2, "compute_infer": {"count": 4}}],
        [{"batch_size": 4, "compute_infer": {"count": 15}}],
    ],
    ids=str,
)
def test_batches_that_are_garbage_or_went_back_are_none(batches: Any) -> None:
    before, after = snapshot(10, 5, 0.001, {2: 5}), snapshot(30, 15, 0.001, {2: 15})
    assert server_times(before, changed(after, "batch_stats", to=batches)) is None


def test_the_mean_batch_is_items_per_execution() -> None:
    times = server_times({}, snapshot(10, 5, 0.003, {1: 3, 4: 1, 8: 1}))
    assert times is not None
    assert times.mean_batch == pytest.approx((3 + 4 + 8) / 5)
    without = server_times({}, changed(snapshot(10, 5, 0.003, {}), "batch_stats", to=...))
    assert without is not None
    assert without.mean_batch is None


@pytest.mark.parametrize("text", ["-1", "+Inf", "-Inf", "lots", "0x10", "1.5"])
def test_a_gauge_that_cannot_be_is_unknown(text: str) -> None:
    reading = gpu_reading(f'nv_gpu_utilization{{gpu="1"}} {text}\nnv_gpu_power_usage{{gpu="1"}} 9')
    assert reading == GpuReading(utilisation=None, memory=None, power=9.0)
    assert gpu_reading(f'nv_gpu_utilization{{gpu="1"}} {text}\n') is None
