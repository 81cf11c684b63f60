"""The parts of a model's configuration that decide when a batch is formed."""

from dataclasses import dataclass
from typing import Any

from tuner.errors import SimulationError

_MICROSECOND = 1e-6


@dataclass(frozen=True)
class SchedulingLimits:
    """More of either makes no difference in a simulation of some ten thousand requests, and would
    take time and memory.
    """

    items: int = 1 << 16
    """Of a batch."""
    instances: int = 8192


LIMITS = SchedulingLimits()


@dataclass(frozen=True)
class Scheduling:
    """The dynamic batcher's settings, as Triton takes them: sizes in items, times in seconds.

    ``preferred`` ascends and is not empty. ``instances`` are all of them, on ``devices`` GPUs.
    ``queue_size`` 0 and ``timeout`` 0 mean no limit. Sizes and instances beyond ``LIMITS`` are cut.
    """

    batching: bool
    max_batch: int
    preferred: tuple[int, ...]
    delay: float = 0.0
    instances: int = 1
    devices: int = 1
    queue_size: int = 0
    timeout: float = 0.0

    @classmethod
    def of(cls, config: Any, gpus: int = 1) -> "Scheduling":
        """From a ModelConfig, on a server that sees so many GPUs.

        SimulationError if the model uses another scheduler than Triton's dynamic batcher, or a part
        of it that is not simulated.
        """
        for field in ("sequence_batching", "ensemble_scheduling"):
            if config.HasField(field):
                raise SimulationError(
                    f"{config.name} has {field}, which the simulator does not support"
                )
        if config.model_transaction_policy.decoupled:
            raise SimulationError(
                f"{config.name} is decoupled, which the simulator does not support"
            )
        largest = min(max(1, config.max_batch_size), LIMITS.items)
        instances, devices = (min(n, LIMITS.instances) for n in count_instances(config, gpus))
        if not config.HasField("dynamic_batching") or largest == 1:
            return cls(False, largest, (largest,), instances=instances, devices=devices)
        block = config.dynamic_batching
        if block.priority_levels:
            raise SimulationError(
                f"{config.name} has priority levels, which the simulator does not support"
            )
        policy = block.default_queue_policy
        if policy.timeout_action == policy.DELAY and policy.default_timeout_microseconds:
            raise SimulationError(
                f"{config.name} delays timed-out requests, which the simulator does not support"
            )
        return cls(
            batching=True,
            max_batch=largest,
            preferred=tuple(sorted({n for n in block.preferred_batch_size if n <= largest}))
            or (largest,),
            delay=block.max_queue_delay_microseconds * _MICROSECOND,
            instances=instances,
            devices=devices,
            queue_size=policy.max_queue_size,
            timeout=policy.default_timeout_microseconds * _MICROSECOND,
        )


def count_instances(config: Any, gpus: int) -> tuple[int, int]:
    """All instances, and the devices that they are on; a count of 0 is Triton's default of 1."""
    total, used = 0, set()
    for group in config.instance_group:
        count = max(1, group.count)
        if group.kind == group.KIND_CPU or group.kind == group.KIND_MODEL:
            total += count
        else:
            places = list(group.gpus) or list(range(max(1, gpus)))
            total += count * len(places)
            used.update(places)
    return max(1, total), max(1, len(used))
