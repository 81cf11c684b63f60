"""A thread that takes readings while something is measured."""

import threading
import time
from collections.abc import Callable

from tuner.servers.settings import WATCH


class PeriodicReader:
    """Calls ``read`` every ``period`` seconds between ``start`` and ``stop``; less often where the
    calls would take more than this ``share`` of the time.

    A call that hangs costs the readings after it, and holds up ``stop`` for a second at most.
    """

    def __init__(self, name: str, read: Callable[[], object], period: float, share: float) -> None:
        self._read = read
        self._period = period
        self._share = share
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(WATCH.patience)

    def _run(self) -> None:
        pause = self._period
        while not self._stopped.wait(pause):
            began = time.monotonic()
            self._read()
            pause = max(self._period, (time.monotonic() - began) / self._share)
