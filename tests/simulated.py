"""A model that is simulated: what its servers would show while they are kept busy."""

import numpy as np

from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE
from tuner.records.results import ServerTimes, Window
from tuner.simulator.simulate import ServiceTimes
from tuner.stats.estimators import PERCENTILES
from tuner.stats.samples import Floats


def batch_times(base: float, per_item: float, largest: int = 64) -> Floats:
    """Seconds by batch size, shape (largest + 1,)."""
    table = base + per_item * np.arange(largest + 1)
    table[0] = 0.0
    return table


def windows(service: ServiceTimes, sizes: tuple[int, ...], counts: tuple[int, ...]) -> list[Window]:
    """One request at a time, full batches of each size on one instance, and of the largest on more.

    With all instances busy each waits for the device: an execution takes as long as all take turns.
    """
    largest = sizes[-1]
    seen = [_window(service, 1, 1, largest, waiting=False)]
    seen += [_window(service, size, 1, largest) for size in sizes]
    return seen + [_window(service, largest, count, largest) for count in counts]


def _window(
    service: ServiceTimes, size: int, count: int, largest: int, waiting: bool = True
) -> Window:
    alone = float(service.seconds[size])
    execution = max(alone, count * service.exclusive * alone)
    cycle = execution + service.release * size
    queue = execution if waiting else 0.0
    mean = queue + execution + service.network + service.reply * (size + 1) / 2
    executions = 100
    return Window(
        settings={MAX_BATCH_SIZE: largest, INSTANCE_COUNT: count},
        instances=count,
        concurrency=2 * size * count if waiting else 1,
        items=1.0,
        throughput=count * size / cycle,
        mean=mean,
        latency=dict.fromkeys(PERCENTILES, mean),
        server=ServerTimes(
            requests=executions * size,
            executions=executions,
            queue=queue,
            compute_input=0.0,
            compute_infer=execution,
            compute_output=0.0,
            batches={size: executions},
            batch_seconds={size: execution},
        ),
    )
