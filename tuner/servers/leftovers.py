"""Cleans up after killed tuner processes: servers, load processes and shared memory."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from tuner.scratch import OWNER_VARIABLE, has_died, left_behind

SHARED_MEMORY = Path("/dev/shm")
SERVERS = "shm"
"""The purpose in the names of what servers share with their backends."""
_PURPOSES = (SERVERS, "inputs", "outputs")


def remove_leftovers() -> None:
    """End what a tuner that has died had started, and remove its shared memory.

    The kernel ends a server when its tuner dies, and load processes see that it is gone. What was
    stopped just then, or was started by a server, may go on.
    """
    for pid in _orphans():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    for purpose in _PURPOSES:
        for file in left_behind(SHARED_MEMORY, purpose):
            with contextlib.suppress(OSError):
                file.unlink()


def _orphans() -> Iterator[int]:
    """Processes of this user that belong to a tuner which has died."""
    mark = f"{OWNER_VARIABLE}=".encode()
    own = {psutil.Process().pid, *(each.pid for each in psutil.Process().parents())}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's, or gone
            continue
        owners = (each.removeprefix(mark) for each in variables if each.startswith(mark))
        if int(folder.name) in own:
            continue
        if any(has_died(owner.decode("ascii", "replace")) for owner in owners):
            yield int(folder.name)
