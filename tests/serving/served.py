"""``tuner serve`` in processes of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil

SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """``url`` answers; ``process`` is the supervisor."""

    url: str
    process: "subprocess.Popen[str]"

    def workers(self) -> set[int]:
        """Which workers say that they are ready, over connections of their own."""
        found = set()
        for _ in range(12):
            reply = httpx.get(f"{self.url}/healthz", trust_env=False)
            if reply.status_code == 200:
                found.add(int(reply.json()["worker"]))
        return found

    def post(self, path: str, body: object, **options: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, trust_env=False, **options)  # type: ignore[arg-type]

    def wait_for_line(self, text: str) -> str:
        """The first line of its log from here on that holds the text."""
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if text in line)


@contextmanager
def served(
    kind: str, *words: str, ready: bool = True, end: signal.Signals = signal.SIGTERM
) -> Iterator[Served]:
    """``tuner serve KIND WORDS``, ended by the signal ``end``, after which nothing may be left."""
    command = [sys.executable, "-m", "tuner", "serve", kind, *words, "--port", "0"]
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
            made = Served(found[1], process)
            if ready:
                wait_for(lambda: bool(made.workers()))
            yield made
            assert_ends(process, end)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def assert_ends(process: "subprocess.Popen[str]", end: signal.Signals) -> None:
    below = psutil.Process(process.pid).children(recursive=True)
    assert below
    process.send_signal(end)
    code = process.wait(20)
    assert code == (-signal.SIGKILL if end is signal.SIGKILL else 0)
    wait_for(lambda: not any(child.is_running() for child in below), 20)
    assert process.stdout is not None
    assert "Traceback" not in process.stdout.read()


def wait_for(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Until the condition holds; nothing that cannot be reached yet counts against it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("it never came to that")
