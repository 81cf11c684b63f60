"""One command of tuner under test: started in a session of its own, watched, and ended in time."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROLES = {
    "server": re.compile(r"^\S*/tritonserver "),
    "stub": re.compile(r"triton_python_backend_stub"),
    "worker": re.compile(r"--multiprocessing-fork"),
    "meter": re.compile(r"hiccup_process\.py"),
    "gateway": re.compile(r"serve gateway"),
}
"""What a process below tuner is for, by its command line."""
_POLL = 0.01
"""Seconds between looks: a launch takes fifty times as long."""


class Missed(Exception):
    """The command ended before the moment that was waited for."""


@dataclass(frozen=True)
class Ended:
    """``code`` is None where the command went on for longer than it may, and was killed."""

    code: int | None
    said: str
    at: float


class Session:
    """A command that runs. What it says goes to the file ``said``."""

    def __init__(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], said: Path
    ) -> None:
        self._said = said
        # A shell in the background, or nohup, would have it ignore them.
        command = ("env", "--default-signal=INT,TERM,HUP", *words)
        with said.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        return self._said.read_text(encoding="utf-8", errors="replace")

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def await_line(self, pattern: str, seconds: float = 120.0) -> None:
        """Until it says so; Missed where it ends before."""
        deadline = time.monotonic() + seconds
        while re.search(pattern, self.said) is None:
            self._go_on(deadline, f"it never said {pattern!r}")

    def sleep(self, seconds: float) -> None:
        """Missed where it ends meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.is_over:
                raise Missed(self.said)
            time.sleep(_POLL)

    def find(self, role: str) -> list[psutil.Process]:
        """Its processes of that role. A gateway's own workers are none of tuner's."""
        own = children(self.pid)
        below = own if role == "worker" else {pid for each in own for pid in (each, *_all(each))}
        found = [pid for pid in sorted(below) if ROLES[role].search(words_of(pid))]
        with contextlib.suppress(psutil.NoSuchProcess):
            return [psutil.Process(pid) for pid in found]
        return []

    def await_process(self, role: str, seconds: float = 60.0) -> psutil.Process:
        """One of that role, once there is one; Missed where the command ends before."""
        deadline = time.monotonic() + seconds
        while not (found := self.find(role)):
            self._go_on(deadline, f"it never had a {role}")
        return found[0]

    def send(self, number: signal.Signals, to_group: bool = False) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if to_group else os.kill)(self.pid, number)

    def finish(self, seconds: float) -> Ended:
        """Wait for the end; what goes on for longer is killed."""
        try:
            code: int | None = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            self.kill()
        return Ended(code, self.said, time.monotonic())

    def kill(self) -> None:
        """It and its group; the servers end with it."""
        self.send(signal.SIGKILL, to_group=True)
        self._process.wait()

    def _go_on(self, deadline: float, otherwise: str) -> None:
        if self.is_over:
            raise Missed(self.said)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise}:\n{self.said}")
        time.sleep(_POLL)


def children(pid: int) -> set[int]:
    """Processes that it started itself. The kernel's own list of them is read in no time."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it ends meanwhile
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            found |= set(map(int, file.read_text(encoding="ascii").split()))
    return found


def _all(pid: int) -> set[int]:
    own = children(pid)
    return own.union(*map(_all, own))


def words_of(pid: int) -> str:
    """Its command line; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
