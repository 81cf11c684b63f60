"""What the benchmarks of the load generator share: a server, contenders, a result file."""

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.load import program
from tuner.commands.workplace import processor
from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.load import perf_analyzer
from tuner.load.target import Transport
from tuner.model.config import read_config
from tuner.records.run import write_text
from tuner.servers.local import LocalLauncher
from tuner.version import __version__

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]
_CHEAP = (('"4000"', '"0"'), ('"350"', '"0"'), ("dynamic_batching { }", ""))


class ProgramMissing(Exception):
    """There is no perf_analyzer to compare with."""


@contextmanager
def server(model: str, cheap: bool) -> Iterator[dict[Transport, RunningTriton]]:
    """One embedded Triton with a sample model, addressed by each protocol.

    ``cheap`` makes emulated_gpu take no time, so that the client matters.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(ROOT / "model_repository" / model, Path(name) / model))
        if cheap:
            text = (folder / "config.pbtxt").read_text(encoding="utf-8")
            for old, new in _CHEAP:
                text = text.replace(old, new)
            (folder / "config.pbtxt").write_text(text, encoding="utf-8")
        with LocalLauncher() as launcher:
            config = read_config(folder)
            deployment = TritonDeployment(
                launcher, folder, config, Transport.HTTP, Inputs(), opens="model"
            )
            with deployment.start(None, Path(name) / "log") as running:
                yield {p: running.towards(p) for p in Transport}


def use_perf_analyzer() -> str:
    """Its version; the engine finds it from here on."""
    path = program.prepare()
    if path is None:
        raise ProgramMissing("no perf_analyzer; python -m benchmarks.load.program says more")
    os.environ[perf_analyzer.VARIABLE] = path
    return perf_analyzer.version(path)


def summary(values: list[float], digits: int = 1) -> dict[str, float]:
    """Median, smallest and largest of the rounds."""
    places = digits or None  # whole numbers where there are none
    return {
        "median": round(median(values), places),
        "least": round(min(values), places),
        "most": round(max(values), places),
    }


def write(
    file: Path, name: str, command: str, began: float, rows: dict[str, Row], notes: list[str]
) -> None:
    """The result of the benchmark of that name, with the command that makes it again."""
    packages = ("tritonclient", "grpcio", "numpy", "uvloop", "nvidia-pytriton")
    content = {
        "benchmark": name,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - began, 1),
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": platform.platform(),
            "python": platform.python_version(),
            "tuner": __version__,
            **{package: metadata.version(package) for package in packages},
        },
        "rows": rows,
        "notes": notes,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content, indent=1) + "\n")
