"""Reads a server's use of CPU and memory while a probe runs."""

import time
from typing import Any, Protocol

import psutil

from tuner.records.results import HostReading
from tuner.servers.base import ResourceUsage
from tuner.servers.periodic import PeriodicReader
from tuner.servers.settings import WATCH


class UsageSource(Protocol):
    """A server, or several that serve together."""

    def usage(self) -> ResourceUsage | None: ...


class HostWatch:
    """Looks at the server's processes at both ends of the context, and in between for the peak.

    At most twice a second, and less often where a look takes so long that looking would take more
    than a hundredth of the time. A server that ends on the way, or cannot be seen, costs readings
    and nothing else.
    """

    def __init__(self, server: UsageSource) -> None:
        self._server = server
        self._first: ResourceUsage | None = None
        self._last: ResourceUsage | None = None
        self._began = self._ended = 0.0
        self._before: Any = None
        self._after: Any = None
        self._peak: int | None = None
        self._reader = PeriodicReader("tuner-host", self._read, WATCH.host_period, WATCH.host_share)

    def reading(self, client_cpu: float) -> HostReading | None:
        """Cores and peak memory of the server over the context, with the load processes' cores of
        their ``client_cpu`` seconds.

        None before the context is left, and where it lasted no time.
        """
        seconds = self._ended - self._began
        if seconds <= 0:
            return None
        spent = self._last.cpu - self._first.cpu if self._first and self._last else None
        return HostReading(
            cpu=spent / seconds if spent is not None and spent >= 0 else None,
            memory=self._peak,
            client_cores=client_cpu / seconds,
            stolen=stolen(self._before, self._after),
        )

    def _read(self) -> ResourceUsage | None:
        usage = self._server.usage()
        if usage is not None and usage.memory is not None:
            self._peak = max(self._peak or 0, usage.memory)
        return usage

    def __enter__(self) -> "HostWatch":
        self._first = self._read()
        self._began = time.monotonic()
        self._before = psutil.cpu_times()
        if self._first is not None:
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.stop()
        self._ended = time.monotonic()
        self._after = psutil.cpu_times()
        self._last = self._read() if self._first is not None else None


def stolen(before: Any, after: Any) -> float | None:
    """The share of busy time between two of psutil's ``cpu_times`` in which processors wanted to
    run and the hypervisor ran others; None if the system does not tell.
    """
    if not hasattr(after, "steal"):
        return None
    busy = sum(after) - sum(before) - (after.idle - before.idle) - (after.iowait - before.iowait)
    busy -= after.guest - before.guest + after.guest_nice - before.guest_nice  # also in user, nice
    return min(1.0, max(0.0, (after.steal - before.steal) / busy)) if busy > 0 else 0.0
