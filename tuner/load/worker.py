"""One load process: an open loop over its share of a schedule, or a closed loop.

It is spawned by the generator and talks to it through a pipe: a command in, a Report out. Times go
straight into a Board.
"""

import asyncio
import contextlib
import os
import resource
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import uvloop

from tuner.cores import run_on
from tuner.load.board import FAILED, OK, Board
from tuner.load.clients import Client, make_client
from tuner.load.target import Target
from tuner.load.timer import Timer


@dataclass(frozen=True)
class WorkerSettings:
    """How a load process runs."""

    priority: int = -10
    """Nice value: sends are on time where the server shares the cores."""
    messages: int = 4
    """Different texts of failed requests that a report holds: the first ones tell the cause."""
    sends_at_once: int = 32
    """Due requests that are sent before replies are read, so that their connections are free."""


SETTINGS = WorkerSettings()


@dataclass(frozen=True)
class OpenLoop:
    """Send row i of the board at its intended time; wait up to ``drain`` seconds for the last.

    Requests that could not be sent until ``drain`` seconds after the last was due are not sent.
    """

    board: Path
    rows: int
    drain: float


@dataclass(frozen=True)
class ClosedLoop:
    """A closed loop at ``concurrency`` from ``start`` to ``end`` (monotonic clock)."""

    board: Path
    rows: int
    concurrency: int
    start: float
    end: float
    drain: float


@dataclass(frozen=True)
class StopRun:
    """Send nothing more; the run in progress ends once what is outstanding is answered."""


Command = Target | OpenLoop | ClosedLoop | StopRun


@dataclass(frozen=True)
class Report:
    """The end of a run: seconds of CPU that this process spent on it.

    ``error`` is the process's own, ``messages`` are what the server said of the first
    failed requests.
    """

    cpu: float
    error: str | None = None
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """Commands are heard from now on: a process takes seconds to start where cores are busy."""


class _Run:
    """One run: the part that open and closed loops share."""

    def __init__(self, board: Board, drain: float) -> None:
        self.board = board
        self.client: Client | None = None
        self.sent = 0
        self.outstanding = 0
        self.over = asyncio.Event()
        self.messages: dict[str, None] = {}
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = None
        self.stopping = False

    def send(self, index: int, intended: float | None = None) -> None:
        assert self.client is not None
        now = time.monotonic()
        self.board.sent[index] = now
        if intended is None:
            self.board.intended[index] = now
        self.outstanding += 1
        self.client.send(index)

    def done(self, index: int, ok: bool, message: str) -> None:
        if self.over.is_set():
            return
        if message and len(self.messages) < SETTINGS.messages:
            self.messages[message] = None
        self.board.done[index] = time.monotonic()
        self.board.status[index] = OK if ok else FAILED
        self.outstanding -= 1
        self.after(index)
        if self.stopping and self.outstanding == 0:
            self.over.set()

    def after(self, index: int) -> None:
        """Called when a request is done; a closed loop sends the next."""

    def stop(self) -> None:
        """Send no more, and wait for what is outstanding, but not for ever."""
        if self.stopping:
            return
        self.stopping = True
        if self.outstanding == 0:
            self.over.set()
        else:
            self._deadline = self._loop.call_later(self._drain, self.over.set)

    def close(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


class _OpenRun(_Run):
    def __init__(self, command: OpenLoop) -> None:
        super().__init__(Board(command.board, command.rows), command.drain)
        times = self.board.intended
        self._times: list[float] = times[~np.isnan(times)].tolist()
        self._latest_send = max(self._times, default=0.0) + command.drain
        self._timer = Timer(self._loop, self._tick)

    def begin(self) -> None:
        self._tick()

    def _tick(self) -> None:
        """Send what is due; between many, replies are read, so that their connections are free."""
        times, position, count = self._times, self.sent, len(self._times)
        limit = min(count, position + SETTINGS.sends_at_once)
        while position < limit and not self.stopping and times[position] <= time.monotonic():
            self.send(position, times[position])
            position += 1
        self.sent = position
        if position == count or time.monotonic() > self._latest_send:
            self.stop()
        elif not self.stopping:
            self._timer.arm(times[position])

    def close(self) -> None:
        super().close()
        self._timer.close()


class _ClosedRun(_Run):
    def __init__(self, command: ClosedLoop) -> None:
        super().__init__(Board(command.board, command.rows), command.drain)
        self._command = command
        now = time.monotonic()
        self._start = self._loop.call_later(max(0.0, command.start - now), self._open)
        self._end = self._loop.call_later(max(0.0, command.end - now), self.stop)

    def begin(self) -> None:
        pass

    def _open(self) -> None:
        for _ in range(self._command.concurrency):
            self._next()
        if self._command.concurrency == 0:  # more workers than requests at a time
            self.stop()

    def _next(self) -> None:
        if self.stopping or self.sent >= self.board.rows or time.monotonic() >= self._command.end:
            self.stop()
            return
        index, self.sent = self.sent, self.sent + 1
        self.send(index)

    def after(self, index: int) -> None:
        self._next()

    def close(self) -> None:
        super().close()
        self._start.cancel()
        self._end.cancel()


class _Worker:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._commands: asyncio.Queue[Target | OpenLoop | ClosedLoop | None] = asyncio.Queue()
        self._target: Target | None = None
        self._client: Client | None = None
        self._run: _Run | None = None

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        while (command := await self._commands.get()) is not None:
            match command:
                case Target():
                    await self._drop_client()
                    self._target = command
                case OpenLoop():
                    await self._measure(_OpenRun(command))
                case ClosedLoop():
                    await self._measure(_ClosedRun(command))
        await self._drop_client()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand commands to the loop; in a thread, since a large one comes in pieces."""
        command: Command | None = None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            while True:
                try:
                    command = self._pipe.recv()
                except (EOFError, OSError):  # the parent is gone
                    command = None
                loop.call_soon_threadsafe(self._received, command)
                if command is None:
                    return

    def _received(self, command: Command | None) -> None:
        if self._run is not None and (command is None or isinstance(command, StopRun)):
            self._run.stop()
        if not isinstance(command, StopRun):
            self._commands.put_nowait(command)

    async def _measure(self, run: "_OpenRun | _ClosedRun") -> None:
        report = await self._report(run)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone
            self._pipe.send(report)

    async def _report(self, run: "_OpenRun | _ClosedRun") -> Report:
        self._run = run
        try:
            if self._client is None:
                assert self._target is not None
                self._client = make_client(self._target, self._done)
            run.client = self._client
            before = _cpu()
            run.begin()
            await run.over.wait()
            if run.outstanding:  # replies that may still come must not reach the next run
                await self._drop_client()
            assert self._target is not None
            messages = tuple(map(self._target.security.hide, run.messages))
            return Report(_cpu() - before, messages=messages)
        except Exception as error:  # noqa: BLE001  a worker ends here, and says why
            return Report(0.0, f"{type(error).__name__}: {error}")
        finally:
            run.close()
            self._run = None

    def _done(self, index: int, ok: bool, message: str) -> None:
        if self._run is not None:
            self._run.done(index, ok, message)

    async def _drop_client(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(pipe: Connection, cores: frozenset[int] = frozenset()) -> None:
    """Serve commands until the pipe closes; Ctrl-C is the parent's to handle."""
    run_on(cores)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # a connection each is outstanding
    with contextlib.suppress(PermissionError):  # be on time where the server shares the cores
        os.setpriority(os.PRIO_PROCESS, 0, SETTINGS.priority)
    try:
        pipe.send(Ready())
    except BrokenPipeError:  # the parent found something wrong, and left
        return
    uvloop.run(_Worker(pipe).serve())
