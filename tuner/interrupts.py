"""Ctrl-C, SIGTERM and SIGHUP.

The first one ends the current work, and report and winner are written. A second one ends that, too.
Servers are ended in any case, so that no further one disturbs it.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HEARD = 2
_TOGETHER = 0.3
"""Seconds in which several are one: a shell or timeout signals a process and then its group."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, and the folder of the run that it ended: report and best so far are there."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder


class _Interrupts:
    def __init__(self) -> None:
        self._left = _HEARD
        self._last = -_TOGETHER
        self.waits = 0
        self.is_waiting = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._left or now - self._last < _TOGETHER:
            return
        self._left, self._last = self._left - 1, now
        if self.waits:
            self.is_waiting = True
        else:
            raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """Complete the work in the context first: a signal that arrives meanwhile takes effect at its
    end. Of a process that does not ``listen``, nothing is changed.
    """
    heard = signal.getsignal(signal.SIGTERM)
    if not isinstance(heard, _Interrupts):
        yield
        return
    heard.waits += 1
    try:
        yield
    finally:
        heard.waits -= 1
        if heard.is_waiting and not heard.waits:
            heard.is_waiting = False
            raise KeyboardInterrupt


def listen() -> None:
    """Handle signals of this process from now on. Signals that it was started to ignore, as by
    nohup or in a shell's background, stay ignored.
    """
    heard = _Interrupts()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, heard)


def end_at_once() -> None:
    """From now on, a signal ends the process by itself: for a server that keeps nothing, and whose
    library catches whatever is raised while it answers. Of a process that does not ``listen``,
    nothing is changed.
    """
    for number in _SIGNALS:
        if isinstance(signal.getsignal(number), _Interrupts):
            signal.signal(number, signal.SIG_DFL)


def hear_no_more() -> None:
    """Ignore further signals while the process reports and ends. Of a process that does not
    ``listen``, nothing is changed.
    """
    for number in _SIGNALS:
        if isinstance(signal.getsignal(number), _Interrupts):
            signal.signal(number, signal.SIG_IGN)  # Python's own end keeps this one alone
