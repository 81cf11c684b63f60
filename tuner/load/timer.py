"""A one-shot timer for an event loop, finer than the millisecond that event loops offer."""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_TIMER_ABSTIME = 1


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Timer:
    """Calls ``callback`` once the monotonic clock reaches the time it was armed for.

    On Linux a timerfd, exact to some tens of microseconds; elsewhere the loop's own timers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self._fd >= 0:
            loop.add_reader(self._fd, self._expired)

    def arm(self, when: float) -> None:
        """Fire at ``when``, seconds of ``time.monotonic``; a time gone by fires at once."""
        if self._fd < 0:
            self._handle = self._loop.call_later(max(0.0, when - time.monotonic()), self._callback)
            return
        nanoseconds = max(1, int(when * 1e9))
        spec = _Itimerspec(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was armed anew between expiry and this call
            return
        self._callback()
