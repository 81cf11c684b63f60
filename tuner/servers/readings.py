"""What a server says of a stretch of time: differences of its statistics, and its GPU metrics."""

import math
import re
from statistics import fmean
from typing import Any

from tuner.results import GpuReading, ServerTimes

_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")
_DIGITS = re.compile(r"[0-9]{1,19}")
_METRIC = re.compile(r"^(nv_gpu_\w+)(?:\{[^}]*\})?\s+(\S+)$", re.MULTILINE)


def server_times(before: Any, after: Any) -> ServerTimes | None:
    """Means per request over the time between two statistics snapshots of one model.

    Counters start anew when a model is reloaded. Then, where nothing was executed (an ensemble
    executes nothing itself), and where a counter is missing or no number, the result is None.
    """
    requests = _difference(before, after, "queue", "count")
    first, last = _executions(before, 0), _executions(after, None)
    executions = None if first is None or last is None else last - first
    if not requests or requests < 0 or executions is None or executions <= 0:
        return None
    means = []
    for name in _PARTS:
        spent = _difference(before, after, name, "ns")
        if spent is None or spent < 0:
            return None
        means.append(spent * 1e-9 / requests)
    queue, compute_input, compute_infer, compute_output = means
    batches = _batches(before, after)
    if batches is None:
        return None
    return ServerTimes(
        requests=requests,
        executions=executions,
        queue=queue,
        compute_input=compute_input,
        compute_infer=compute_infer,
        compute_output=compute_output,
        batches=batches,
    )


def _executions(snapshot: Any, missing: int | None) -> int | None:
    value = snapshot.get("execution_count", missing) if isinstance(snapshot, dict) else None
    return _count(value)


def _difference(before: Any, after: Any, name: str, field: str) -> int | None:
    first, last = _read(before, name, field), _read(after, name, field)
    if isinstance(before, dict) and "inference_stats" not in before:
        first = 0  # nothing was asked of the model yet
    return None if first is None or last is None else last - first


def _read(snapshot: Any, *keys: str) -> int | None:
    for key in ("inference_stats", *keys):
        snapshot = snapshot.get(key) if isinstance(snapshot, dict) else None
    return _count(snapshot)


def _batches(before: Any, after: Any) -> dict[int, int] | None:
    """Executions by batch size; None where their counters went back or are none."""
    earlier, later = _sizes(before), _sizes(after)
    if earlier is None or later is None:
        return None
    grown = {size: n - earlier.get(size, 0) for size, n in later.items()}
    if any(n < 0 for n in grown.values()) or earlier.keys() - later.keys():
        return None
    return {size: n for size, n in sorted(grown.items()) if n > 0}


def _sizes(snapshot: Any) -> dict[int, int] | None:
    entries = snapshot.get("batch_stats") or []
    found = {}
    for entry in entries if isinstance(entries, list) else [None]:
        infer = entry.get("compute_infer") if isinstance(entry, dict) else None
        size = _count(entry.get("batch_size")) if isinstance(entry, dict) else None
        number = _count(infer.get("count")) if isinstance(infer, dict) else None
        if size is None or number is None:
            return None
        found[size] = number
    return found


def _count(value: Any) -> int | None:
    """A counter: a whole number from 0 on, or the text of one; else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else None


def gpu_reading(prometheus: str) -> GpuReading | None:
    """Means over the GPUs that Triton's metrics list; None without a GPU."""
    values: dict[str, list[float]] = {}
    for name, text in _METRIC.findall(prometheus):
        value = _gauge(text)
        if value is not None and not (name == "nv_gpu_utilization" and value > 1):
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


def _gauge(text: str) -> float | None:
    """A finite number from 0 on; else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
