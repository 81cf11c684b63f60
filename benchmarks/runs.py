"""Searches through the command line, as a user runs them, kept in folders."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load.bench import ROOT
from benchmarks.load.disturber import disturber
from benchmarks.workloads import Workload
from tuner.records.run import Run

_SECONDS = "seconds"


def search(
    workload: Workload,
    options: tuple[str, ...],
    seed: int,
    folder: Path,
    codes: tuple[int, ...] = (0, 1),
) -> Run:
    """One search of the workload's model, which is copied into the folder; its run.

    The local launcher is what a machine without Triton's image takes by itself. RuntimeError where
    the command ends with none of the exit ``codes``. It runs in the folder, where no ``tuner.yaml``
    of this project changes what is the default.
    """
    model = workload.model(folder)
    command = [
        *(sys.executable, "-m", "tuner", "search", str(model), "--sla", workload.sla),
        *("--load", workload.load, "--batch", workload.batch, "--seed", str(seed)),
        *("--launcher", "local", "--output", str(folder / "reports"), "--run", "run"),
        *("--json", "--quiet", *options),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr or done.stdout}")
    return Run.open(folder / "reports" / "run")


def keep(
    place: Path, search_in: Callable[[Path], object], disturbed: bool = False
) -> tuple[Run, float]:
    """A search in a folder, unless it is there already; its run, and the seconds that it took."""
    known = kept(place)
    if known is not None:
        return known
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with disturber() if disturbed else contextlib.nullcontext():
        began = time.monotonic()
        search_in(place)
        seconds = time.monotonic() - began
    (place / _SECONDS).write_text(str(seconds), encoding="utf-8")
    return Run.open(place / "reports" / "run"), seconds


def kept(place: Path) -> tuple[Run, float] | None:
    """What ``keep`` left; None where there is none, or it did not come to an end."""
    took = place / _SECONDS
    if not took.is_file():
        return None
    return Run.open(place / "reports" / "run"), float(took.read_text(encoding="utf-8"))


def requests_of(run: Run) -> int:
    """All requests that the run sent, of probes and of calibration."""
    probes = sum(probe.n for each in run.evaluations() for probe in each.probes)
    return probes + sum(window.server.requests for window in run.windows())
