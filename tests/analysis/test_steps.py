"""What a pipeline's steps take of a request, and which is the bottleneck, from records."""

import pytest

from tests.records.test_results import probe
from tuner.analysis.steps import bottleneck, step_uses
from tuner.records.results import ServerTimes, StepReading


def counted(requests: int, size: int, seconds: float, queue: float = 0.001) -> ServerTimes:
    """Batches of one size, each of which took so many seconds."""
    return ServerTimes(
        requests=requests,
        executions=requests // size,
        queue=queue,
        compute_input=0.0,
        compute_infer=seconds,
        compute_output=0.0,
        batches={size: requests // size},
        batch_seconds={size: seconds},
    )


def test_the_busiest_step_is_the_bottleneck_not_the_slowest() -> None:
    record = probe(
        n=1000,
        errors=0,
        seconds=10.0,
        steps=(
            StepReading(model="slow", instances=4, server=counted(1000, 4, 0.080)),
            StepReading(model="busy", instances=1, server=counted(2000, 4, 0.016)),
        ),
    )
    slow, busy = step_uses(record)
    assert slow.utilization == pytest.approx(250 * 0.080 / (4 * 10))
    assert busy.utilization == pytest.approx(500 * 0.016 / 10)
    assert (slow.calls, busy.calls) == (1.0, 2.0)
    assert slow.seconds == pytest.approx(0.081)
    assert busy.seconds == pytest.approx(2 * 0.017)
    assert busy.mean_batch == 4
    found = bottleneck([slow, busy])
    assert found is not None
    assert found.model == "busy"


def test_a_step_that_counted_nothing_is_left_out() -> None:
    record = probe(n=100, errors=0, steps=(StepReading(model="silent", instances=1),))
    assert step_uses(record) == []
    assert bottleneck([]) is None


def test_sizes_that_are_not_told_leave_the_time_of_executions() -> None:
    times = counted(100, 1, 0.02).model_copy(update={"batches": {}, "batch_seconds": {}})
    record = probe(
        n=100, errors=0, seconds=4.0, steps=(StepReading(model="a", instances=1, server=times),)
    )
    (use,) = step_uses(record)
    assert use.utilization == pytest.approx(0.5)
    assert use.mean_batch is None
