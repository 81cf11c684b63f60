"""The process above the workers: it starts, watches, replaces and ends them."""

import logging
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.server import Server
from uvicorn.supervisors.multiprocess import Process

from tuner.serving.constants import WORKERS
from tuner.serving.draining import DrainingServer
from tuner.serving.listener import refuse_new_connections
from tuner.serving.metrics import forget_worker, requests_in_flight
from tuner.serving.settings import REPLACEMENT
from tuner.serving.signals import SignalQueue, blocked_signals, queued_signals

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
_SIGNALS = _ENDING | {signal.SIGHUP}
_logger = logging.getLogger("tuner.services")


class Worker(Process):
    """A process that serves. It ends on SIGTERM alone: a terminal sends SIGINT to all processes,
    and the supervisor decides when workers end.
    """

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._asked: float | None = None
        self.replace_at: float | None = None
        """When another is to take the place of this one, which has ended; monotonic clock."""
        self.is_serving = False
        self.is_replacement = False

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = DrainingServer(self.config)
        return self._server

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Runs in the worker, which is started with all these signals blocked."""
        for each in _SIGNALS - {signal.SIGTERM}:
            signal.signal(each, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the server has its own
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        super().target(sockets)

    def start(self) -> None:
        super().start()
        # Else the pipe of a worker that has ended would stay open, and never say so.
        self.child_conn.close()

    def answers(self, within: float) -> bool:
        """Whether it runs and answers in time; asks, and takes the answer in a later call."""
        if not self.process.is_alive():
            return False
        now = time.monotonic()
        try:
            if self._asked is None:
                self.parent_conn.send(b"ping")
                self._asked = now
            elif self.parent_conn.poll():
                self.is_serving = bool(self.parent_conn.recv())
                self._asked = None
        except (OSError, EOFError):  # it ends right now
            return True
        return self._asked is None or now - self._asked < within

    def end(self) -> None:
        if self.pid is not None and self.process.is_alive():
            os.kill(self.pid, signal.SIGTERM)


class Supervisor:
    """``run`` serves until SIGINT or SIGTERM. ``marker`` is the file whose existence says that the
    service is draining; from then on workers go on for ``drain_delay`` seconds.
    """

    def __init__(
        self, config: Config, listener: socket.socket, marker: Path, drain_delay: float
    ) -> None:
        self._config = config
        self._listener = listener
        self._marker = marker
        self._drain_delay = drain_delay
        self._workers: list[Worker] = []
        self._signals: SignalQueue

    def run(self) -> int:
        """The exit code: 0, that of a worker that cannot start, or 128 and a second signal."""
        with queued_signals(_SIGNALS) as self._signals:
            try:
                return self._supervise()
            finally:
                for worker in self._workers:
                    worker.process.kill()
                    worker.process.join()

    def _supervise(self) -> int:
        for _ in range(self._config.workers):
            self._workers.append(self._start())
        os.environ[REPLACEMENT] = "1"  # later workers load their model before they listen
        while True:
            received = self._signals.wait(_SIGNALS, WORKERS.watch)
            if received is None:
                if not self._keep_alive():
                    return STARTUP_FAILURE
            elif received == signal.SIGHUP:
                self._reload()
            else:
                return self._stop(received)

    def _start(self) -> Worker:
        worker = Worker(self._config, [self._listener])
        with blocked_signals(_SIGNALS):
            worker.start()
        return worker

    def _keep_alive(self) -> bool:
        """Replace workers that have ended or hang. False if one of the first cannot start at all;
        a later one is tried again and again as long as others are there.
        """
        for place, worker in enumerate(self._workers):
            if worker.answers(self._config.timeout_worker_healthcheck):
                continue
            if worker.replace_at is None and not self._bury(worker):
                return False
            if time.monotonic() >= (worker.replace_at or 0.0):
                self._workers[place] = self._start()
                self._workers[place].is_replacement = True
        return True

    def _bury(self, worker: Worker) -> bool:
        """Say what became of it, and when another takes its place; False if none does."""
        hangs = worker.process.is_alive()
        self._kill(worker)
        worker.replace_at = time.monotonic()
        if worker.exitcode == STARTUP_FAILURE:  # it has said why
            worker.replace_at += WORKERS.restart
            return worker.is_replacement and any(e.process.is_alive() for e in self._workers)
        problem = "does not answer" if hangs else f"ended with code {worker.exitcode}"
        _logger.warning("worker %s %s; another takes its place", worker.pid, problem)
        return True

    def _reload(self) -> None:
        """Replace each worker; the old one ends after the new one has begun to serve."""
        for place, old in enumerate(self._workers):
            new = self._start()
            if not self._wait_until_serving(new):
                self._kill(new)
                return
            old.end()
            self._workers[place] = new
            old.process.join(self._longest_end())
            self._kill(old)

    def _wait_until_serving(self, worker: Worker) -> bool:
        """False if it cannot start, if it takes too long, or if the service is to stop."""
        within = self._config.timeout_worker_healthcheck
        deadline = time.monotonic() + within
        while worker.answers(within) and not self._signals.has(_ENDING):
            if worker.is_serving:
                return True
            if time.monotonic() > deadline:
                _logger.error("the new worker was not ready within %g s; the old one stays", within)
                return False
            time.sleep(WORKERS.poll)
        return False

    def _stop(self, received: signal.Signals) -> int:
        with suppress(OSError):  # the disk may be full
            self._marker.touch()
        with suppress(OSError):  # nobody may listen any more
            print(
                f"stopping on {received.name} with {requests_in_flight()} requests in flight; "
                "a second signal ends at once",
                flush=True,
            )
        second = self._signals.wait(_ENDING, self._drain_delay)
        if second is None:
            refuse_new_connections(self._listener)
            second = self._signals.wait(_ENDING, WORKERS.handshake)
        self._listener.close()  # from now on the workers' own copies are all there is
        for worker in self._workers:
            worker.end()
        deadline = time.monotonic() + self._longest_end()
        while second is None and any(worker.process.is_alive() for worker in self._workers):
            second = self._signals.wait(_ENDING, WORKERS.poll)
            if time.monotonic() > deadline:
                _logger.error("workers do not end; they are killed")
                break
        return 0 if second is None else 128 + second

    def _longest_end(self) -> float:
        graceful = self._config.timeout_graceful_shutdown
        assert graceful is not None
        return graceful + WORKERS.end

    def _kill(self, worker: Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.parent_conn.close()
        if worker.pid is not None:
            forget_worker(worker.pid)
