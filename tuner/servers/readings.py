"""What a server says of a stretch of time: differences of its statistics, and its GPU metrics."""

import math
import re
from statistics import fmean
from typing import Any

from tuner.results import GpuReading, ServerTimes

_METRIC = re.compile(r"^(nv_gpu_\w+)(?:\{[^}]*\})?\s+(\S+)$", re.MULTILINE)


def server_times(before: dict[str, Any], after: dict[str, Any]) -> ServerTimes | None:
    """Means per request over the time between two statistics snapshots of one model.

    Counters start anew when a model is reloaded; then, and where nothing was executed, there is
    nothing to say and the result is None.
    """
    requests = _difference(before, after, "queue", "count")
    executions = int(after.get("execution_count", 0)) - int(before.get("execution_count", 0))
    times = ("queue", "compute_input", "compute_infer", "compute_output")
    if requests <= 0 or executions <= 0:
        return None
    if any(_difference(before, after, name, "ns") < 0 for name in times):
        return None

    def mean(name: str) -> float:
        return _difference(before, after, name, "ns") * 1e-9 / requests

    return ServerTimes(
        requests=requests,
        executions=executions,
        queue=mean("queue"),
        compute_input=mean("compute_input"),
        compute_infer=mean("compute_infer"),
        compute_output=mean("compute_output"),
        batches=_batches(before, after),
    )


def _difference(before: dict[str, Any], after: dict[str, Any], name: str, field: str) -> int:
    def read(snapshot: dict[str, Any]) -> int:
        return int(snapshot.get("inference_stats", {}).get(name, {}).get(field, 0))

    return read(after) - read(before)


def _batches(before: dict[str, Any], after: dict[str, Any]) -> dict[int, int]:
    def counts(snapshot: dict[str, Any]) -> dict[int, int]:
        return {
            int(entry["batch_size"]): int(entry["compute_infer"]["count"])
            for entry in snapshot.get("batch_stats", [])
        }

    earlier = counts(before)
    grown = {size: n - earlier.get(size, 0) for size, n in counts(after).items()}
    return {size: n for size, n in sorted(grown.items()) if n > 0}


def gpu_reading(prometheus: str) -> GpuReading | None:
    """Means over the GPUs that Triton's metrics list; None without a GPU."""
    values: dict[str, list[float]] = {}
    for name, text in _METRIC.findall(prometheus):
        value = float(text)
        if math.isfinite(value):
            values.setdefault(name, []).append(value)

    def mean(name: str) -> float | None:
        return fmean(values[name]) if values.get(name) else None

    utilisation, memory = mean("nv_gpu_utilization"), mean("nv_gpu_memory_used_bytes")
    power = mean("nv_gpu_power_usage")
    if utilisation is None and memory is None and power is None:
        return None
    return GpuReading(
        utilisation=utilisation, memory=None if memory is None else int(memory), power=power
    )
