"""Keeps a virtual machine's processors from going to sleep while something is measured.

One that sleeps has to be woken by its host, which takes milliseconds where the host is busy, and
looks as if client or server were late. A process of the lowest class (SCHED_IDLE) on each core runs
whenever nothing else wants to, and gives way at once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = int(sys.argv[2])
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def awake() -> Iterator[str]:
    """Within it no core sleeps; yields what to say of it."""
    command = [sys.executable, "-S", "-E", "-c", _SPIN]
    spinners = [
        subprocess.Popen([*command, str(core), str(os.getpid())])
        for core in os.sched_getaffinity(0)
    ]
    try:
        yield "an idle process per core kept the hypervisor from putting the cores to sleep"
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
