"""Readings from a server over a period: differences of its statistics, and its GPU metrics."""

import re
from statistics import fmean
from typing import Any

from tuner.records.results import GpuReading, ServerTimes

_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")
_DIGITS = re.compile(r"[0-9]{1,19}")
_METRIC = re.compile(r"^(nv_gpu_\w{1,99})(?:\{[^}\n]{0,999}\})?[ \t]{1,9}(\S{1,99})$", re.MULTILINE)
_LARGEST_COUNT, _LARGEST_GAUGE = 1 << 63, 1e18
"""Counters of Triton have 64 bits; no byte, watt or share comes near the other."""


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
        batches={size: number for size, (number, _) in batches.items()},
        batch_seconds={size: seconds for size, (_, seconds) in batches.items()},
    )


def cached_share(before: Any, after: Any) -> float | None:
    """The share of requests answered from the response cache between two snapshots; None if the
    model has none, or there was no request.
    """
    hits = _difference(before, after, "cache_hit", "count")
    misses = _difference(before, after, "cache_miss", "count")
    if hits is None or misses is None or min(hits, misses) < 0 or hits + misses == 0:
        return None
    return hits / (hits + misses)


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


def _batches(before: Any, after: Any) -> dict[int, tuple[int, float]] | None:
    """Executions by batch size, and their mean seconds; None if counters are no such thing."""
    earlier, later = _sizes(before), _sizes(after)
    if earlier is None or later is None or earlier.keys() - later.keys():
        return None
    batches = {}
    for size, (number, spent) in sorted(later.items()):
        first, spent_before = earlier.get(size, (0, 0))
        if number < first or spent < spent_before:
            return None
        if number > first:
            batches[size] = (number - first, (spent - spent_before) * 1e-9 / (number - first))
    return batches


def _sizes(snapshot: Any) -> dict[int, tuple[int, int]] | None:
    """Executions by batch size, and the nanoseconds that all of them took."""
    entries = snapshot.get("batch_stats") or []
    sizes = {}
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or not isinstance(entry.get("compute_infer"), dict):
            return None
        size, number = _count(entry.get("batch_size")), _count(entry["compute_infer"].get("count"))
        parts = [entry.get(name) for name in _PARTS[1:]]
        spent = [_count(part.get("ns")) or 0 for part in parts if isinstance(part, dict)]
        if size is None or number is None:
            return None
        sizes[size] = (number, sum(spent))
    return sizes


def _count(value: Any) -> int | None:
    """A counter: a whole number from 0 on, or the text of one; else None."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _LARGEST_COUNT else None


def gpu_reading(prometheus: str) -> GpuReading | None:
    """Means over the GPUs that Triton's metrics list; None without a GPU."""
    values: dict[str, list[float]] = {}
    for name, text in _METRIC.findall(prometheus):
        value = gauge(text)
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


def gauge(text: str) -> float | None:
    """A number from 0 on; else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= _LARGEST_GAUGE else None
