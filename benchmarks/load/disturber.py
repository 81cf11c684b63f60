"""Takes a core for 100 ms every two seconds, as a neighbour on a shared machine does.

``with disturber(): ...`` disturbs whatever is measured meanwhile. The process has the ordinary
priority and no core of its own. It ends with its parent, or after ``most_seconds``, whoever forgets
it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_BUSY = """
import os, sys, time
parent, busy, period, most = int(sys.argv[1]), *map(float, sys.argv[2:])
begin = time.monotonic()
turn = begin
while os.getppid() == parent and turn < begin + most:
    while time.monotonic() < turn + busy:
        pass
    turn += period
    time.sleep(max(0.0, turn - time.monotonic()))
"""


@dataclass(frozen=True)
class DisturberSettings:
    busy_seconds: float = 0.1
    """Of each period: longer than what p99 of a fast model allows, so that it shows."""
    period_seconds: float = 2.0
    """A probe of a search has one or two of them, a verification a dozen."""
    most_seconds: float = 1800.0
    """Far longer than any search."""


SETTINGS = DisturberSettings()


@contextmanager
def disturber(settings: DisturberSettings = SETTINGS) -> Iterator[str]:
    """Within it the machine is disturbed; yields what to say of it."""
    times = (settings.busy_seconds, settings.period_seconds, settings.most_seconds)
    command = [sys.executable, "-S", "-E", "-c", _BUSY, str(os.getpid()), *map(str, times)]
    process = subprocess.Popen(command)
    try:
        yield (
            f"a process took a core for {1e3 * settings.busy_seconds:g} ms every "
            f"{settings.period_seconds:g} s"
        )
    finally:
        process.kill()
        process.wait()
