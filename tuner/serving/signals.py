"""Signals as a queue: they interrupt nothing, and wait until somebody asks for them."""

import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class SignalQueue:
    """The signals that ``queued_signals`` collects, in the order in which they came.

    Python writes the number of each into a pipe. Blocked signals would not do: another thread that
    does not block them would take them.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._waiting: list[signal.Signals] = []

    def wait(self, wanted: Collection[signal.Signals], seconds: float) -> signal.Signals | None:
        """The next one of those ``wanted``; None if none comes in time. Others are dropped."""
        deadline = time.monotonic() + seconds
        while True:
            while self._waiting:
                if (received := self._waiting.pop(0)) in wanted:
                    return received
            left = deadline - time.monotonic()
            self._read(max(0.0, left))
            if not self._waiting and left <= 0:
                return None

    def has(self, wanted: Collection[signal.Signals]) -> bool:
        """Whether one of those ``wanted`` has come; it stays in the queue."""
        self._read(0.0)
        return any(each in wanted for each in self._waiting)

    def _read(self, seconds: float) -> None:
        if select.select([self._pipe], [], [], seconds)[0]:
            self._waiting += map(signal.Signals, os.read(self._pipe, 1024))


@contextmanager
def queued_signals(signals: Collection[signal.Signals]) -> Iterator[SignalQueue]:
    """Collect these signals of the process; for the main thread."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {each: signal.signal(each, lambda *_: None) for each in signals}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield SignalQueue(reading)
    finally:
        signal.set_wakeup_fd(wakeup)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(reading)
        os.close(writing)


@contextmanager
def blocked_signals(signals: Collection[signal.Signals]) -> Iterator[None]:
    """A process that is started meanwhile has these signals blocked until it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
