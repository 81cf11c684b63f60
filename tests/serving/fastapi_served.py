"""``tuner serve`` in a process of its own, on a copy of the sample model."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """``url`` answers; ``process`` is the supervisor."""

    url: str
    process: "subprocess.Popen[str]"
    model: Path

    def workers(self) -> set[int]:
        """Which workers say that they are ready, over connections of their own."""
        found = set()
        for _ in range(12):
            reply = httpx.get(f"{self.url}/healthz", trust_env=False)
            if reply.status_code == 200:
                found.add(int(reply.json()["worker"]))
        return found


@contextmanager
def served(model: Path, *words: str, ready: bool = True) -> Iterator[Served]:
    command = [sys.executable, "-m", "tuner", "serve", "fastapi", str(model), "--port", "0", *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
            assert found, line
            made = Served(found[1], process, model)
            if ready:
                wait_for(lambda: bool(made.workers()))
            yield made
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: object, seconds: float = SECONDS) -> None:
    """Until the condition holds; nothing that cannot be reached yet counts against it."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("it never came to that")
