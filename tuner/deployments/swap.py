"""Replaces the model by another version under load, and counts what happens to the requests.

It is done on a copy of the model's folder, so that nothing is written to the user's repository.
"""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil

from tuner.deployments.base import Running
from tuner.deployments.service import RunningService
from tuner.deployments.triton import RunningTriton
from tuner.errors import CandidateError, ServerFailed
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.generator import LoadEngine
from tuner.model.config import to_json
from tuner.model.weights import link_or_copy
from tuner.records.comparison import Swap
from tuner.servers.control import load_over_grpc
from tuner.servers.service import ready_worker
from tuner.stats.estimators import quantile
from tuner.stats.samples import Samples
from tuner.units import whole_number


@dataclass(frozen=True)
class SwapSettings:
    """How long requests come in around a swap; all in seconds."""

    before: float = 1.5
    """Of requests before it: what they take undisturbed."""
    after: float = 1.0
    """Of requests after it: a late fault of the new version is still seen."""
    most: float = 60.0
    """Of requests in all: what the load is scheduled for."""
    load: float = 55.0
    """Until the new version has to answer: within the scheduled load."""
    poll: float = 0.02
    """Between two looks whether the old workers are gone."""
    drain: float = 6.0
    """For replies after the last send: longer than a service takes to restart a worker."""


SWAP = SwapSettings()


def add_version(model: Path) -> None:
    """The highest version once more, as the next one."""
    numbers = [whole_number(each.name) for each in model.iterdir() if each.is_dir()]
    versions = [number for number in numbers if number is not None]
    if not versions:
        raise ServerFailed(f"{model.name} has no version that could be replaced")
    last = max(versions)
    shutil.copytree(
        model / str(last), model / str(last + 1), symlinks=True, copy_function=link_or_copy
    )


def swap_of(
    how: Literal["load", "restart"], running: Running, model: Path, config: Any | None
) -> Callable[[], None]:
    """Replaces the running model by another version; returns once all replies come from that.
    ``config`` is the ModelConfig that Triton was given; None for the model's own file.
    """
    if how == "restart":
        assert isinstance(running, RunningService)
        return lambda: _restart(running, model)
    triton = running.behind if isinstance(running, RunningService) else running
    assert isinstance(triton, RunningTriton)
    return lambda: _load(triton, model, config)


def _load(triton: RunningTriton, model: Path, config: Any | None) -> None:
    """Triton's own way: it loads the new version beside the old one, and then changes over.

    Over gRPC where it can be had: a load that is asked for over HTTP holds up, until it is done,
    every inference on the connections that the same HTTP thread of the server reads.
    """
    before = triton.control.versions(model.name)
    add_version(model)
    override = None if config is None else to_json(config)
    endpoints = triton.server.endpoints
    if endpoints.grpc is None:
        triton.control.load(model.name, override, SWAP.load)
    else:
        load_over_grpc(endpoints, model.name, override, SWAP.load)
    if triton.control.versions(model.name) == before:
        raise ServerFailed(f"Triton still serves version {before} of {model.name} after the swap")


def _restart(running: RunningService, model: Path) -> None:
    """New workers take the place of the old ones, each once its model is loaded (SIGHUP)."""
    assert running.server is not None
    address, old = running.target.address, set(_workers(running))
    add_version(model)
    os.kill(running.server.pids()[0], signal.SIGHUP)
    deadline = time.monotonic() + SWAP.load
    while time.monotonic() < deadline:
        seen = ready_worker(address, "/healthz")
        if seen is not None and seen not in old and not any(map(_lives, old)):
            return
        time.sleep(SWAP.poll)
    raise ServerFailed(f"the old workers were not replaced within {SWAP.load:g} s")


def _workers(running: RunningService) -> list[str]:
    """The processes below the supervisor that serve, as they call themselves."""
    assert running.server is not None
    found = []
    for pid in running.server.pids()[1:]:
        with contextlib.suppress(psutil.Error):
            if any("spawn_main" in word for word in psutil.Process(pid).cmdline()):
                found.append(str(pid))
    return found


def _lives(pid: str) -> bool:
    try:
        return bool(psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


class _Change:
    """The change, made in a thread of its own once the load has gone on for a while."""

    def __init__(self, change: Callable[[], None]) -> None:
        self._change = change
        self._thread = threading.Thread(target=self._run, name="tuner-swap", daemon=True)
        self.began: float | None = None
        self.ended: float | None = None
        self.failure: str | None = None

    def _run(self) -> None:
        try:
            self._change()
        except (CandidateError, OSError) as error:
            self.failure = str(error)
        self.ended = time.monotonic()

    def watch(self, samples: Samples) -> bool:
        """Asked with the requests so far; True ends the load."""
        at = float(samples.intended[-1]) if len(samples) else 0.0
        if self.began is None and at >= SWAP.before:
            self.began = time.monotonic()
            self._thread.start()
        return self.ended is not None and time.monotonic() > self.ended + SWAP.after

    def join(self) -> None:
        if self.began is not None:
            self._thread.join(SWAP.load)


def measure_swap(
    running: Running,
    generator: LoadEngine,
    rate: float,
    how: Literal["load", "restart"],
    change: Callable[[], None],
    seed: int = 0,
) -> Swap:
    """Offer ``rate`` requests/s (Poisson), make the change meanwhile, and count."""
    generator.aim(running.target)
    generator.closed_loop(2, 0.5, SWAP.drain)
    times = schedule(Arrivals.POISSON, rate, SWAP.most, np.random.default_rng(seed))
    made = _Change(change)
    began = time.monotonic()
    result = generator.open_loop(times, SWAP.drain, 0.0, made.watch)
    made.join()
    samples = result.samples
    start = (made.began or began) - began
    over = samples.done < start  # false where there was no answer
    answered = samples.latency[samples.ok & ~over]
    took = made.ended - made.began if made.ended and made.began else None
    return Swap(
        how=how,
        rate=rate,
        seconds=None if made.failure else took,
        requests=len(samples),
        lost=samples.errors,
        worst=float(answered.max()) if len(answered) else None,
        usual=quantile(samples.latency[over & samples.ok], 0.99),
        failure=made.failure,
    )
