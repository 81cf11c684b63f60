"""Load from separate processes: shard one schedule, merge the samples."""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from tuner.cores import Cores
from tuner.errors import LoadFailed, LoadProcessDied
from tuner.load import worker
from tuner.load.board import Board
from tuner.load.hiccups import HiccupMeter
from tuner.load.target import Target
from tuner.load.worker import ClosedLoop, Command, OpenLoop, Ready, Report, StopRun
from tuner.scratch import OWNER_VARIABLE, owner, scratch_folder
from tuner.stats.samples import Floats, Samples
from tuner.stats.stalls import Stall

Watch = Callable[[Samples], bool]


@dataclass(frozen=True)
class GeneratorSettings:
    """How long the parent waits for the load processes; seconds, except for the last."""

    lead: float = 0.05
    """From the command to the first send, so that every process has it in time."""
    watch_interval: float = 0.1
    """Between looks at the samples of a run: small beside any probe, large beside the look."""
    report_grace: float = 10.0
    """Beyond the end of a run until a process without a report counts as hung."""
    interrupt_grace: float = 6.0
    """For the reports of a run that was interrupted: one drain of 5 s, and a little."""
    start_timeout: float = 120.0
    """Until a process that imports its modules on busy cores counts as failed."""
    pause: float = 1.0
    """Of a wait of ``watch_interval``, from which this process itself stood still."""
    end_timeout: float = 2.0
    """For a process to end by itself before it is killed."""
    closed_rows_per_second: int = 50_000
    """Rows reserved for a closed loop, per process: twice and more what one core can send."""


SETTINGS = GeneratorSettings()


@dataclass(frozen=True)
class LoadResult:
    """``samples`` count from the start of the run; ``cpu`` is the seconds that the client spent.

    ``messages`` are a few different texts that the server sent for the first failed requests.
    """

    samples: Samples
    cpu: float
    stopped: bool
    messages: tuple[str, ...] = ()


class LoadEngine(Protocol):
    """The interface of load generators."""

    meter: HiccupMeter | None

    def aim(self, target: Target) -> None: ...

    def stalls(self) -> tuple[Stall, ...]:
        """Of the machine since the run began that is in progress, or was the last; ``start`` counts
        as the times of its samples do. None known without a meter.
        """

    def open_loop(
        self, times: Floats, drain: float, horizon: float = 0.0, watch: Watch | None = None
    ) -> LoadResult: ...

    def closed_loop(
        self,
        concurrency: int,
        seconds: float,
        drain: float,
        horizon: float = 0.0,
        watch: Watch | None = None,
    ) -> LoadResult: ...


@contextmanager
def _spawning() -> Iterator[None]:
    """How a process is spawned: it does not import the module that was started, since a script that
    searches at its top level would search again in each of them; it does not hear Ctrl-C, which is
    its parent's to handle; and it names its owner.
    """
    main, inherited = sys.modules["__main__"], os.environ.get(OWNER_VARIABLE)
    resource_tracker.ensure_running()  # whose own start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ[OWNER_VARIABLE] = owner()
        yield
    finally:
        os.environ.pop(OWNER_VARIABLE, None)
        if inherited is not None:
            os.environ[OWNER_VARIABLE] = inherited
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LoadGenerator:
    """A few load processes, spawned once and used for one run after another.

    With ``cores`` each runs on one of its own. ``prepared`` is called before the first run, and
    returns once nothing computes beside it. The ``meter``, which is not closed with it, tells the
    machine's stalls.
    """

    def __init__(
        self,
        workers: int = 1,
        cores: Cores | None = None,
        prepared: Callable[[], None] = lambda: None,
        meter: HiccupMeter | None = None,
    ) -> None:
        self.meter = meter
        self._began = math.inf
        self._models: tuple[str, ...] = ()
        self._kinds = np.zeros(1, np.int64)
        shm = Path("/dev/shm")
        self._folder = scratch_folder("load", shm if shm.is_dir() else None)
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=worker.main,
                args=(theirs, cores.of_worker(number) if cores else frozenset()),
                name=f"tuner-load-{number}",
                daemon=True,
            )
            with _spawning():
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._starting = list(range(workers))
        self._prepared = prepared

    @property
    def workers(self) -> int:
        return len(self._pipes)

    def stalls(self) -> tuple[Stall, ...]:
        return () if self.meter is None else self.meter.stalls(self._began)

    def aim(self, target: Target) -> None:
        """Where the following runs go.

        Each process gets the part of the pool that its share of a schedule comes to, so that all
        of them together send the requests of the pool in turn, as one process would.
        """
        self._models = target.models
        self._kinds = np.array(target.kinds or (0,), np.int64)
        count = len(target.requests)
        rounds = count // math.gcd(count, self.workers)
        self._send(
            [
                target.part(tuple((number + turn * self.workers) % count for turn in range(rounds)))
                for number in range(self.workers)
            ]
        )

    def open_loop(
        self, times: Floats, drain: float, horizon: float = 0.0, watch: Watch | None = None
    ) -> LoadResult:
        """Send at these times (seconds from the start, ascending), whatever the server does.

        ``watch`` is asked ten times a second, with the requests planned more than ``horizon``
        seconds ago; the run ends early when it says True.
        """
        self._await_start()
        boards = []
        start = time.monotonic() + SETTINGS.lead
        for number in range(self.workers):
            share = times[number :: self.workers]
            board = self._board(number, len(share))
            board.intended[: len(share)] = share + start
            boards.append(board)
        commands: list[Command] = [OpenLoop(b.path, b.rows, drain) for b in boards]
        end = start + (float(times[-1]) if len(times) else 0.0) + 2 * drain
        return self._run(commands, boards, start, end, horizon, watch)

    def closed_loop(
        self,
        concurrency: int,
        seconds: float,
        drain: float,
        horizon: float = 0.0,
        watch: Watch | None = None,
    ) -> LoadResult:
        """Run at a fixed concurrency, spread over the workers; ``watch`` as in ``open_loop``."""
        self._await_start()
        shares = [len(range(number, concurrency, self.workers)) for number in range(self.workers)]
        rows = int(SETTINGS.closed_rows_per_second * seconds) + concurrency
        boards = [self._board(number, rows) for number in range(self.workers)]
        start = time.monotonic() + SETTINGS.lead
        end = start + seconds
        commands: list[Command] = [
            ClosedLoop(b.path, b.rows, share, start, end, drain)
            for b, share in zip(boards, shares, strict=True)
        ]
        return self._run(commands, boards, start, end + drain, horizon, watch)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(SETTINGS.end_timeout)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._folder.cleanup()

    def __enter__(self) -> "LoadGenerator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await_start(self) -> None:
        """A run is timed, and a process that is not there yet would miss some of it."""
        self._prepared()
        deadline = time.monotonic() + SETTINGS.start_timeout
        while self._starting:
            number = self._starting[0]
            if not self._pipes[number].poll(max(0.0, deadline - time.monotonic())):
                raise LoadProcessDied(f"load process {number} does not start")
            try:
                message = self._pipes[number].recv()
            except (EOFError, OSError) as error:
                raise LoadProcessDied(self._death_notice(number)) from error
            assert isinstance(message, Ready)
            self._starting.pop(0)

    def _board(self, number: int, rows: int) -> Board:
        return Board.create(Path(self._folder.name) / f"board-{number}", max(1, rows))

    def _run(
        self,
        commands: list[Command],
        boards: list[Board],
        start: float,
        end: float,
        horizon: float,
        watch: Watch | None,
    ) -> LoadResult:
        self._began = start
        self._send(commands)
        reports: dict[int, Report] = {}
        stopped = False
        patience = _Patience(end + SETTINGS.report_grace)
        try:
            while len(reports) < self.workers:
                self._collect(reports, patience)
                if watch is None or stopped:
                    continue
                known = self._merge(boards, start, time.monotonic() - horizon)
                if watch(known):
                    stopped = True
                    self._send([StopRun()] * self.workers)
        except BaseException:
            # An interrupt may have taken a report with it: wait for the rest, but not for ever.
            patience = _Patience(time.monotonic() + SETTINGS.interrupt_grace)
            with contextlib.suppress(LoadFailed, LoadProcessDied):
                self._send([StopRun()] * self.workers)
                while len(reports) < self.workers:
                    self._collect(reports, patience)
            raise
        cpu = sum(report.cpu for report in reports.values())
        messages = dict.fromkeys(text for report in reports.values() for text in report.messages)
        return LoadResult(self._merge(boards, start, np.inf), cpu, stopped, tuple(messages))

    def _merge(self, boards: list[Board], start: float, until: float) -> Samples:
        parts = [board.samples(start, until) for board in boards]
        if self._models:
            parts = [self._with_kinds(number, part) for number, part in enumerate(parts)]
        return Samples.merge(parts)

    def _with_kinds(self, worker: int, part: Samples) -> Samples:
        """Row r of a worker's is request ``worker + r * workers`` of the run."""
        requests = worker + np.arange(len(part)) * self.workers
        kinds = self._kinds[requests % len(self._kinds)]
        return replace(part, kind=kinds, models=self._models)

    def _collect(self, reports: dict[int, Report], patience: "_Patience") -> None:
        """Wait a moment for reports; LoadProcessDied if a worker died or hangs, LoadFailed if one
        raised.
        """
        waiting = [i for i in range(self.workers) if i not in reports]
        pipes = [self._pipes[i] for i in waiting]
        began = time.monotonic()
        ready = multiprocessing.connection.wait(pipes, SETTINGS.watch_interval)
        patience.waited(time.monotonic() - began)
        for number in waiting:
            if self._pipes[number] not in ready:
                continue
            try:
                report = self._pipes[number].recv()
            except (EOFError, OSError) as error:
                raise LoadProcessDied(self._death_notice(number)) from error
            reports[number] = report
            if report.error is not None:
                raise LoadFailed(f"load process {number} failed: {report.error}")
        missing = [number for number in waiting if number not in reports]
        if missing and patience.is_over:
            raise LoadProcessDied(f"load process {missing[0]} does not respond")

    def _death_notice(self, number: int) -> str:
        process = self._processes[number]
        process.join(1.0)
        return f"load process {number} died (exit code {process.exitcode})"

    def _send(self, commands: Sequence[Command]) -> None:
        for number, (pipe, command) in enumerate(zip(self._pipes, commands, strict=True)):
            try:
                pipe.send(command)
            except OSError as error:
                raise LoadProcessDied(self._death_notice(number)) from error


class _Patience:
    """Until when reports are waited for. While this process stands still, as after Ctrl-Z or on a
    laptop that was closed, so may the load processes: that time does not count.
    """

    def __init__(self, until: float) -> None:
        self._until = until

    def waited(self, seconds: float) -> None:
        """One wait took so long, of which ``watch_interval`` was meant."""
        if seconds > SETTINGS.pause:
            self._until += seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._until
