"""A container's use of CPU and memory, from the engine's statistics."""

import math
from typing import Any

from tuner.servers.base import ResourceUsage


def usage_of(stats: Any) -> ResourceUsage | None:
    """From one answer of the engine's ``containers/ID/stats``; None if that does not tell.

    Memory is what the container's control group holds, less the page cache. Groups of version 2
    call that ``file``, those of version 1 ``cache``; both count shared memory in it, which is none,
    and which groups of version 1 do not always tell apart: then it is left out, too. The engine
    counts threads as processes.
    """
    cpu = _number(stats, "cpu_stats", "cpu_usage", "total_usage")
    held = _number(stats, "memory_stats", "usage")
    processes = _number(stats, "pids_stats", "current")
    if cpu is None or not held:  # a container that ended holds nothing
        return None
    detail = ("memory_stats", "stats")
    cache = _first(stats, detail, ("file", "total_cache", "cache"))
    shared = _first(stats, detail, ("shmem", "total_shmem")) or 0
    memory = None if cache is None else held - max(0, cache - shared)
    if memory is not None and memory < 0:
        memory = None
    return ResourceUsage(
        cpu=cpu * 1e-9,
        memory=None if memory is None else int(memory),
        processes=int(processes or 0),
    )


def _first(stats: Any, place: tuple[str, ...], names: tuple[str, ...]) -> float | None:
    values = (_number(stats, *place, name) for name in names)
    return next((value for value in values if value is not None), None)


def _number(stats: Any, *keys: str) -> float | None:
    """The number at that place; None if there is none, or it is none to count with."""
    for key in keys:
        stats = stats.get(key) if isinstance(stats, dict) else None
    if isinstance(stats, bool) or not isinstance(stats, int | float):
        return None
    return stats if math.isfinite(stats) and stats >= 0 else None
