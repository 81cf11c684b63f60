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
    """``http`` is a client of it, with a connection of its own for each request; ``process`` is the
    supervisor.
    """

    http: httpx.Client
    process: "subprocess.Popen[str]"

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def is_ready(self) -> bool:
        return self.http.get("/healthz").status_code == 200

    def workers(self) -> set[int]:
        """Those that say that they are ready."""
        replies = [self.http.get("/healthz") for _ in range(12)]
        return {int(reply.json()["worker"]) for reply in replies if reply.status_code == 200}

    def all_workers(self, number: int) -> set[int]:
        """Once so many have answered together: twelve requests may all go to one of them."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            found = self.workers()
            if len(found) == number:
                return found
        raise AssertionError(f"there never were {number} workers")

    def wait_for_line(self, text: str) -> str:
        """The first line of its log from here on that holds the text."""
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if text in line)


@contextmanager
def started(*words: str) -> "Iterator[subprocess.Popen[str]]":
    """``tuner serve WORDS`` in a session of its own, with its log as stdout."""
    with subprocess.Popen(
        [sys.executable, "-m", "tuner", "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        yield process


@contextmanager
def served(
    kind: str, *words: str, ready: bool = True, end: signal.Signals | None = signal.SIGKILL
) -> Iterator[Served]:
    """``tuner serve KIND WORDS``, ended by the signal ``end``, after which nothing may be left.

    SIGKILL is quickest; SIGTERM and SIGINT let the service end by itself, with status 0. With None
    the test itself ends it.
    """
    with started(kind, *words, "--port", "0") as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+) \(.+\)\n", line)
            assert found, line
            with client_of(found[1]) as http:
                made = Served(http, process)
                if ready:
                    wait_for(made.is_ready)
                yield made
            if end is not None:
                assert_ends(process, end)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def client_of(url: str) -> httpx.Client:
    transport = httpx.HTTPTransport(retries=1, verify=False)  # certificates take 40 ms to load
    headers = {"Connection": "close"}  # no race for a connection that is closed
    return httpx.Client(base_url=url, headers=headers, transport=transport, trust_env=False)


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
