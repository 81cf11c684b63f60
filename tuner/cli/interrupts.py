"""Ctrl-C, and what ends a process as politely: SIGTERM and SIGHUP.

The first one ends what is being done, and what is known is left behind: report and winner. A second
one ends that, too. Servers are ended in any case, so that no further one disturbs it.
"""

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HEARD = 2


class _Interrupts:
    def __init__(self) -> None:
        self._left = _HEARD

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self._left:
            self._left -= 1
            raise KeyboardInterrupt

    def end(self) -> None:
        self._left = 0


def listen() -> None:
    """For this process, from now on. What it was started to ignore, as by nohup or in a shell's
    background, it goes on ignoring.
    """
    heard = _Interrupts()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, heard)


def hear_no_more() -> None:
    """All that is left is to say so, and to end. Of a process that does not ``listen``, nothing is
    changed.
    """
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if isinstance(handler, _Interrupts):
            handler.end()
