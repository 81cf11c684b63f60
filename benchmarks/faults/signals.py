"""Signals to the command: politely, often, and where it is to ignore them."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.faults.fault import INTERRUPTED, SEARCHING, Fault, Scene, Strike
from benchmarks.faults.place import Place


def _sent(number: signal.Signals, times: int = 1, to_group: bool = False) -> Strike:
    """The signal so often, from hardly any time to half a second apart."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        for turn in range(times):
            if turn:
                time.sleep(scene.rng.uniform(0.02, 0.5))
            if scene.command.is_over:
                break
            scene.command.send(number, to_group)
        yield

    return strike


@contextmanager
def _under_nohup(place: Place) -> Iterator[None]:
    place.before = ("nohup",)
    yield


_CTRL_C = ("interrupted", 1), ("interrupted-twice", 2), ("interrupted-often", 5)
_TIMES = {1: "Ctrl-C", 2: "Ctrl-C twice", 5: "Ctrl-C five times"}

SIGNALS = (
    *(
        Fault(name, does, strike, SEARCHING, (INTERRUPTED,), "interrupted", limit=30.0)
        for name, does, strike in (
            *((n, _TIMES[t], _sent(signal.SIGINT, t, to_group=True)) for n, t in _CTRL_C),
            ("terminated", "SIGTERM", _sent(signal.SIGTERM)),
            ("hung-up", "SIGHUP", _sent(signal.SIGHUP)),
        )
    ),
    Fault(
        "hung-up-under-nohup",
        "SIGHUP where nohup started it",
        _sent(signal.SIGHUP),
        SEARCHING,
        setting=_under_nohup,
    ),
)
