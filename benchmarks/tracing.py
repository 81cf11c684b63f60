"""Where the time of a pipeline's request goes, by statistics and by Triton's own trace:
``python -m benchmarks.tracing``.

The sample pipeline is asked in an open loop, while Triton writes the timestamps of single requests
to a file. Queue and computation of each step, means of both, stand beside each other.
"""

import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.load.bench import ROOT, Row, write
from tuner.analysis.steps import step_uses
from tuner.deployments.repository import RepositoryDeployment
from tuner.deployments.triton import Inputs
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.load.transport import Transport
from tuner.measurement.probe import Prober
from tuner.measurement.watch import Thoroughness
from tuner.model.config import read_config
from tuner.model.repository import Repository
from tuner.servers.local import LocalLauncher

RESULTS = ROOT / "benchmarks/results/tracing.json"
_MODEL, _RATE, _SECONDS = "text_pipeline", 200.0, 20.0
_EVERY = 5
"""Requests for each one that is traced: tracing takes time itself."""
Traced = dict[str, dict[str, list[float]]]
"""Seconds by model and part."""
_PARTS = {"queue": ("QUEUE_START", "COMPUTE_START"), "compute": ("COMPUTE_START", "COMPUTE_END")}


def measure() -> dict[str, Row]:
    model = ROOT / "model_repository" / _MODEL
    repository = Repository.of_pipeline(model, read_config(model))
    assert repository is not None
    contents = {_MODEL: Inputs(file=model / "inputs.json")}
    with tempfile.TemporaryDirectory() as name, LoadGenerator() as generator:
        folder = Path(name)
        trace = folder / "trace.json"
        settings = ("mode=triton", "level=TIMESTAMPS", f"rate={_EVERY}", f"triton,file={trace}")
        settings += ("triton,log-frequency=50",)  # a file for each so many traces
        flags = tuple(f"--trace-config={setting}" for setting in settings)
        with LocalLauncher(flags) as launcher:
            deployment = RepositoryDeployment(launcher, repository, Transport.HTTP, contents)
            with deployment.start(None, folder / "log") as running:
                sla = Sla.parse("p99<1s")
                prober = Prober(running, generator, sla, folder, "0", np.random.default_rng(0))
                prober.warm_up(8)
                begins = time.time_ns()
                how = Thoroughness(_SECONDS, _SECONDS, _SECONDS, 0.95)
                record, _ = prober.open_loop(Arrivals.POISSON, _RATE, how, "capacity")
                ended = time.time_ns()
        files = sorted(folder.glob("trace.json*"))
        parts = [_traced(json.loads(f.read_text(encoding="utf-8")), begins, ended) for f in files]
        traced = _joined(parts)
    rows: dict[str, Row] = {}
    for use in step_uses(record):
        row: Row = {"traced": len(traced[use.model]["queue"])}
        for part, counted in (("queue", use.queue), ("compute", use.compute)):
            by_hand = mean(traced[use.model][part])
            row[f"{part}_ms"] = round(1e3 * counted, 3)
            row[f"{part}_traced_ms"] = round(1e3 * by_hand, 3)
        whole = (use.queue + use.compute) / sum(mean(traced[use.model][part]) for part in _PARTS)
        row["ratio"] = round(whole, 4)
        rows[use.model] = row
    return rows


def _traced(events: list[dict[str, Any]], begins: int, ended: int) -> Traced:
    """Seconds of each part, by model, of the requests that came between two times (ns)."""
    models: dict[int, str] = {}
    stamps: dict[int, dict[str, int]] = defaultdict(dict)
    for event in events:
        if "model_name" in event:
            models[event["id"]] = event["model_name"]
        for stamp in event.get("timestamps", ()):
            stamps[event["id"]][stamp["name"]] = int(stamp["ns"])
    monotonic = time.time_ns() - time.monotonic_ns()
    found: Traced = defaultdict(lambda: defaultdict(list))
    for identity, known in stamps.items():
        begin = known.get("QUEUE_START", 0)
        if not any(begins <= begin + shift <= ended for shift in (0, monotonic)):
            continue
        for part, (start, end) in _PARTS.items():
            if start in known and end in known:
                found[models[identity]][part].append((known[end] - known[start]) * 1e-9)
    return found


def _joined(parts: list[Traced]) -> Traced:
    whole: Traced = defaultdict(lambda: defaultdict(list))
    for part in parts:
        for model, times in part.items():
            for name, seconds in times.items():
                whole[model][name] += seconds
    return whole


def main() -> None:
    began = time.monotonic()
    rows = measure()
    notes = [f"{_MODEL} at {_RATE:g} requests/s for {_SECONDS:g} s; every {_EVERY}th is traced"]
    write(RESULTS, "tracing", "python -m benchmarks.tracing", began, rows, notes)
    print(json.dumps(rows, indent=2), file=sys.stderr)


if __name__ == "__main__":
    main()
