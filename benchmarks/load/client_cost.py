"""CPU that a client spends on a request, in a closed loop on a server that hardly computes."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.load.bench import Row, server, summary, use_perf_analyzer
from tuner.deployments.triton import RunningTriton
from tuner.load import perf_analyzer
from tuner.load.generator import LoadGenerator

SECONDS, SHORT, CONCURRENCY = 2.0, 0.5, 8
Cost = tuple[int, float]  # requests, CPU seconds


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    version = use_perf_analyzer()
    with ExitStack() as stack:
        targets = stack.enter_context(server("emulated_gpu", cheap=True))
        generator = stack.enter_context(LoadGenerator())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders: dict[str, Callable[[], Cost]] = {}
        for protocol, running in targets.items():
            contenders[f"tuner, {protocol}"] = partial(_tuner, generator, running)
            contenders[f"perf_analyzer, {protocol}"] = partial(_program, running, folder)
            contenders[f"tritonclient.{protocol}.aio"] = partial(_plain, running)
        costs: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                requests, cpu = contender()
                costs[name].append(1e6 * cpu / requests)
    rows: dict[str, Row] = {
        name: {
            "cpu_us": summary(found),
            "per_core": summary([1e6 / each for each in found], 0),
        }
        for name, found in costs.items()
    }
    for name, row in rows.items():
        other = rows[f"perf_analyzer, {'grpc' if 'grpc' in name else 'http'}"]
        row["against"] = round(row["per_core"]["median"] / other["per_core"]["median"], 2)
    return rows, [
        f"perf_analyzer {version}, --async --max-threads 1, without a profile export; the "
        f"difference of runs of {3 * SECONDS:g} and {3 * SHORT:g} s, so that its start is not "
        "counted",
        f"{CONCURRENCY} requests at a time, {rounds} rounds, contenders in turn",
    ]


def _tuner(generator: LoadGenerator, running: RunningTriton) -> Cost:
    generator.aim(running.target)
    generator.closed_loop(CONCURRENCY, 0.3, 5.0)
    result = generator.closed_loop(CONCURRENCY, SECONDS, 5.0)
    return len(result.samples), result.cpu


def _plain(running: RunningTriton) -> Cost:
    target = running.target
    words = [target.protocol, target.address, str(CONCURRENCY), str(SECONDS)]
    command = [sys.executable, "-m", "benchmarks.load.plain", *words]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return int(found["requests"]), float(found["cpu"])


def _program(running: RunningTriton, folder: Path) -> Cost:
    inputs = folder / "inputs.json"
    inputs.write_text(json.dumps(perf_analyzer.input_data(running.target)), encoding="utf-8")
    (many, long), (few, short) = (_once(running, inputs, s) for s in (SECONDS, SHORT))
    return many - few, long - short


def _once(running: RunningTriton, inputs: Path, window: float) -> Cost:
    """Requests as the server counts them: its warm-up costs CPU, too, and is not in its report."""
    target, before = running.target, running.statistics()
    command = [
        *(os.environ[perf_analyzer.VARIABLE], "-m", "emulated_gpu", "-u", target.address),
        *("-i", target.protocol, "--input-data", str(inputs), "--async", "--max-threads", "1"),
        *("--concurrency-range", str(CONCURRENCY), "--measurement-interval", f"{1e3 * window:.0f}"),
        *("--max-trials", "3", "--stability-percentage", "1000000"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"perf_analyzer ended with {process.returncode}")
    times = running.times_since(before)
    assert times is not None
    return times.requests, usage.ru_utime + usage.ru_stime
