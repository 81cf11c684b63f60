"""Runs tuner's own commands, as a user would, and reads the figures out of the run's records."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.gpu.models import Workbench
from benchmarks.kit.run import STUB_ENVIRONMENT
from tuner.commands.options import parse_changes
from tuner.cores import parse_cores
from tuner.model.parameter import Value
from tuner.records.results import Evaluation, ProbeRecord
from tuner.records.run import Run

STARTUP = 240.0
PIN_VARIABLE = "GPU_PIN"
PIN = os.environ.get(PIN_VARIABLE, "auto")
_APART = parse_cores(PIN)
WORKERS = max(1, len(_APART.load) - 1) if _APART else 1
"""Load processes: a core each, besides that of tuner itself."""


class CommandFailed(Exception):
    """tuner ended without a usable result."""


class CutShort(KeyboardInterrupt):
    """The stage's time is over; ``run`` holds what tuner had measured until then."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


@dataclass(frozen=True)
class Setting:
    """A configuration in words that ``--set`` takes; empty: the model as found."""

    fields: Mapping[str, str] = field(default_factory=dict)

    def changes(self) -> dict[str, Value]:
        """What of the model's own configuration changes."""
        return parse_changes([f"{path}={value}" for path, value in self.fields.items()])


def search(
    bench: Workbench,
    model: str,
    promise: str,
    space: str,
    seconds: float | None,
    more: tuple[str, ...],
) -> Run:
    """``tuner search`` for so many seconds; None: as long as it takes if nobody says."""
    limit = [] if seconds is None else ["--timeout", f"{seconds:g}s"]
    words = ["--space", space, *limit, *more]
    return _tuner(bench, "search", model, promise, words)


def compare(bench: Workbench, model: str, promise: str, names: str, seconds: float) -> Run:
    """``tuner compare`` over the deployments of these names; its search takes so many seconds. A
    dry run searches and proves nothing.
    """
    words = ["--deployments", names, "--no-swaps"]
    if bench.dry:
        words += ["--no-search", "--confirm", "none", "--rounds", "1"]
    else:
        words += ["--search-timeout", f"{seconds:g}s", "--space", "pytorch_gpu"]
    return _tuner(bench, "compare", model, promise, words)


def _tuner(bench: Workbench, command: str, model: str, promise: str, words: list[str]) -> Run:
    output = bench.folder / "runs" / uuid4().hex[:8]
    line = [
        sys.executable, "-m", "tuner", command, str(bench.repository / model),
        "--sla", promise, "--launcher", "local", "--workers", str(WORKERS), "--pin", PIN,
        "--startup-timeout", f"{STARTUP:g}s", "--output", str(output), *stub_options(),
        *bench.inputs(model), *words,
    ]  # fmt: skip
    last: deque[str] = deque(maxlen=10)
    with subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            for text in process.stderr:
                print("   ", text, end="", flush=True)
                last.append(text)
        except KeyboardInterrupt:  # tuner was told, too: it ends with what it has
            process.wait()
            for records in output.glob("*/evaluations.jsonl"):
                raise CutShort(Run(records.parent)) from None
            raise
    folders = sorted(output.glob("*/evaluations.jsonl"))
    if process.returncode not in (0, 1) or not folders:
        raise CommandFailed(f"exit code {process.returncode}: {''.join(last).strip()}")
    return Run(folders[-1].parent)


def stub_environment() -> dict[str, str]:
    """What the server's Python stub needs, where the kit's interpreter is used."""
    found: dict[str, str] = json.loads(os.environ.get(STUB_ENVIRONMENT, "{}"))
    return found


def stub_options() -> list[str]:
    return [
        word for name, value in stub_environment().items() for word in ("--env", f"{name}={value}")
    ]


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """What a table needs of an evaluation; rates in requests/s, times in milliseconds."""
    found: dict[str, Any] = {
        "configuration": evaluation.label,
        "outcome": evaluation.state.value,
        "capacity": _round(evaluation.capacity),
        "low": _round(evaluation.low),
        "high": _round(evaluation.high),
        "client_limited": evaluation.client_limited,
        "launch_seconds": _round(evaluation.launch_seconds),
    }
    if evaluation.failure is not None:
        found["failure"] = evaluation.failure[:400]
        found["cause"] = evaluation.cause
    alone, there = evaluation.unloaded(), evaluation.at_capacity()
    if alone is not None:
        found["p50_alone_ms"] = _ms(alone.latency.get("p50"))
    if there is not None:
        found |= _of_probe(there)
    return found


def _of_probe(probe: ProbeRecord) -> dict[str, Any]:
    found: dict[str, Any] = {
        "requests": probe.n,
        "p50_ms": _ms(probe.latency.get("p50")),
        "p99_ms": _ms(probe.latency.get("p99")),
    }
    if probe.server is not None:
        server = probe.server
        parts = ("queue", "compute_input", "compute_infer", "compute_output")
        found["mean_batch"] = _round(server.requests / server.executions)
        found["server_ms"] = {part: _ms(getattr(server, part)) for part in parts}
    if probe.client_cpu is not None and probe.n:
        found["client_cpu_us_per_request"] = round(1e6 * probe.client_cpu / probe.n, 1)
    if probe.gpu is not None:
        found["gpu"] = probe.gpu.model_dump(mode="json")
    return found


def keep_report(run: Run, file: Path) -> None:
    if run.report.is_file():
        shutil.copy2(run.report, file)


@contextlib.contextmanager
def mps(folder: Path) -> Iterator[dict[str, str]]:
    """NVIDIA's Multi-Process Service for as long as the context is open: the server's environment.

    It changes no setting of the card. Raises CommandFailed where there is none, or it won't start.
    """
    program = shutil.which("nvidia-cuda-mps-control")
    if program is None:
        raise CommandFailed("there is no nvidia-cuda-mps-control here")
    pipes, logs = folder / "mps", folder / "mps-logs"
    pipes.mkdir(exist_ok=True)
    logs.mkdir(exist_ok=True)
    names = {"CUDA_MPS_PIPE_DIRECTORY": str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(logs)}
    environment = {**os.environ, **names}
    with subprocess.Popen(
        [program, "-f"], env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as daemon:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(1.0)
            if daemon.poll() is not None:
                raise CommandFailed(f"nvidia-cuda-mps-control ended with {daemon.returncode}")
            yield names
        finally:
            if daemon.poll() is None:
                _quit_mps(program, environment, daemon)


def _quit_mps(program: str, environment: dict[str, str], daemon: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run([program], input=b"quit\n", env=environment, timeout=4)
        daemon.wait(4)
    if daemon.poll() is None:
        os.killpg(daemon.pid, signal.SIGKILL)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 3)
