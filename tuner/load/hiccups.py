"""A hiccup meter, like jHiccup: it tells the machine's own stalls from those of a server."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import StorageError
from tuner.load import hiccup_process
from tuner.load.hiccup_process import HEAD, ROWS, SETTINGS, SLOT_BYTES
from tuner.scratch import owned_environment, scratch_folder
from tuner.stats.stalls import Stall

_END_SECONDS = 1.0
"""For the process to end by itself before it is killed."""


class HiccupMeter:
    """Watches each of the ``cores`` (by default those that this process may use) while its context
    is open, from a process of its own. If that cannot run, it sees nothing.
    """

    def __init__(self, cores: Iterable[int] | None = None) -> None:
        self._cores = sorted(os.sched_getaffinity(0) if cores is None else cores)
        shm = Path("/dev/shm")
        self._folder = scratch_folder("hiccups", shm if shm.is_dir() else None)
        path = Path(self._folder.name) / "board"
        slots = len(self._cores) + 1
        try:
            path.write_bytes(bytes(slots * SLOT_BYTES))
        except OSError as error:
            self._folder.cleanup()
            raise StorageError(f"cannot write to {path.parent.parent}: {error.strerror}") from error
        self._slots: Any = np.memmap(
            path, dtype=np.float64, mode="r", shape=(slots, HEAD + 2 * ROWS)
        )
        script = Path(hiccup_process.__file__)
        command = [sys.executable, "-I", "-S", str(script), str(path), *map(str, self._cores)]
        self.began = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                command,
                env=owned_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return

    @property
    def watches(self) -> bool:
        """Whether at least one core is being watched."""
        return bool((self._slots[:-1, 1] > 0).any())

    def follow(self, pids: tuple[int, ...]) -> None:
        """From now on, these are the server's processes, besides all of tuner's; where none can be
        seen, no process is called foreign.
        """
        known = (os.getpid(), *pids) if pids else ()
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(b" ".join(b"%d" % pid for pid in known) + b"\n")
            self._process.stdin.flush()
        except OSError:
            return

    def stalls(self, since: float, until: float = float("inf")) -> tuple[Stall, ...]:
        """Those between two moments of the monotonic clock, by their start, also one that still
        goes on; ``start`` counts from ``since``, and may lie before it.
        """
        found = [
            Stall(float(start - since), float(seconds), core)
            for number, core in enumerate([*self._cores, None])
            for start, seconds in (*self._rows(number, since), *self._ongoing(number, core))
            if start < until
        ]
        return tuple(sorted(found, key=lambda stall: stall.start))

    def _rows(self, number: int, since: float) -> list[tuple[float, float]]:
        """Start and seconds of those that were not over by then."""
        slot = self._slots[number]
        count = min(int(slot[0]), ROWS)
        rows = np.array(slot[HEAD : HEAD + 2 * count]).reshape(-1, 2)
        return [(start, seconds) for start, seconds in rows[rows.sum(axis=1) > since].tolist()]

    def _ongoing(self, number: int, core: int | None) -> Iterator[tuple[float, float]]:
        _, beat, period, _ = self._slots[number][:HEAD]
        late = time.monotonic() - beat - period
        if core is not None and beat > 0 and late > SETTINGS.late and self._is_alive():
            yield float(beat + period), float(late)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it was killed, and told something since
                process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process = None
        self._folder.cleanup()

    def __enter__(self) -> "HiccupMeter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
