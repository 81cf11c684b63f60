"""Reads what a server uses of its machine while a probe runs."""

import threading
import time
from typing import Any, Protocol

import psutil

from tuner.records.results import HostReading
from tuner.servers.base import Usage

_PERIOD = 0.5
_SHARE = 0.01
_PATIENCE = 1.0


class Used(Protocol):
    """A server, or several that serve together."""

    def usage(self) -> Usage | None: ...


class HostWatch:
    """Looks at the server's processes at both ends of the context, and in between for the peak.

    At most twice a second, and less often where a look takes so long that looking would take more
    than a hundredth of the time. A server that ends on the way, or cannot be seen, costs readings
    and nothing else.
    """

    def __init__(self, server: Used) -> None:
        self._server = server
        self._first: Usage | None = None
        self._last: Usage | None = None
        self._began = self._ended = 0.0
        self._before: Any = None
        self._after: Any = None
        self._peak: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="tuner-host", daemon=True)

    def reading(self, client_cpu: float) -> HostReading | None:
        """What came of it, with the ``client_cpu`` seconds that the load processes spent.

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

    def _look(self) -> Usage | None:
        usage = self._server.usage()
        if usage is not None and usage.memory is not None:
            self._peak = max(self._peak or 0, usage.memory)
        return usage

    def _sample(self) -> None:
        pause = _PERIOD
        while not self._over.wait(pause):
            began = time.monotonic()
            self._look()
            pause = max(_PERIOD, (time.monotonic() - began) / _SHARE)

    def __enter__(self) -> "HostWatch":
        self._first = self._look()
        self._began = time.monotonic()
        self._before = psutil.cpu_times()
        if self._first is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._first is not None:
            self._thread.join(_PATIENCE)
        self._ended = time.monotonic()
        self._after = psutil.cpu_times()
        self._last = self._look() if self._first is not None else None


def stolen(before: Any, after: Any) -> float | None:
    """The share of busy time between two of psutil's ``cpu_times`` in which processors wanted to
    run and the hypervisor ran others; None where the system does not tell.
    """
    if not hasattr(after, "steal"):
        return None
    busy = sum(after) - sum(before) - (after.idle - before.idle) - (after.iowait - before.iowait)
    busy -= after.guest - before.guest + after.guest_nice - before.guest_nice  # also in user, nice
    return min(1.0, max(0.0, (after.steal - before.steal) / busy)) if busy > 0 else 0.0
