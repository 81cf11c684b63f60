"""Triton's Model Analyzer on the workloads of this project: ``python -m benchmarks.peers``.

It gets the same server, the same perf_analyzer, the same bounds of the space and the same promise;
what it found is measured as all else is: open loop, Poisson arrivals, by tuner's own harness, three
times, beside what tuner found in the same run. Model Analyzer is installed into ``build`` where
there is none.
"""

import argparse
import contextlib
import csv
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median

import yaml

from benchmarks.ground_truth import Harness
from benchmarks.load import program
from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.search import METHODS, search
from benchmarks.workloads import Workload, named
from tuner.goals.sla import Sla
from tuner.load.generator import LoadGenerator
from tuner.model.config import own_settings, parse_config
from tuner.model.space import Candidate
from tuner.model.weights import complete_model
from tuner.records.results import best
from tuner.servers import embedded

MODES = ("quick", "optuna", "brute")
_WHEEL = "triton-model-analyzer==1.58.0"
_LARGEST, _INSTANCES = 64, 4
_ROUNDS = 3
_MOST_SECONDS = 1200
_CONFIG, _BUDGET = "Model Config Path", "Satisfies Constraints"
_THROUGHPUT = "Throughput (infer/sec)"


def install() -> Path:
    """Model Analyzer's program, in an environment of its own."""
    folder = ROOT / "build" / "model_analyzer"
    found = folder / "bin" / "model-analyzer"
    if not found.is_file():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", _WHEEL]
        subprocess.run(pip, check=True)
    return found


def analyze(workload: Workload, mode: str, folder: Path) -> tuple[Candidate | None, int]:
    """What Model Analyzer recommends, and after how many measurements; None where it did not come
    to an end: its quick search may go round among configurations that it has measured already.
    """
    model = complete_model(workload.model(folder / "models"))
    with tempfile.TemporaryDirectory() as name:
        settings = {
            "model_repository": str(model.parent),
            "output_model_repository_path": str(folder / "variants"),
            "override_output_model_repository": True,
            "export_path": str(folder / "export"),
            "checkpoint_directory": str(folder / "checkpoints"),
            "triton_launch_mode": "local",
            "triton_server_path": str(server_program(Path(name))),
            "perf_analyzer_path": str(program.prepare()),
            "perf_analyzer_cpu_util": 400,
            "gpus": [],
            "skip_detailed_reports": True,
            "run_config_search_mode": mode,
            "run_config_search_max_model_batch_size": _LARGEST,
            "run_config_search_max_instance_count": _INSTANCES,
            "profile_models": {
                model.name: {
                    "cpu_only": True,
                    "objectives": ["perf_throughput"],
                    "constraints": {"perf_latency_p99": {"max": _milliseconds(workload.sla)}},
                }
            },
        }
        file = folder / "analyzer.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [str(install()), "profile", "--config-file", str(file)]
        with (folder / "analyzer.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
            try:
                process.wait(_MOST_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    told = (folder / "analyzer.log").read_text(encoding="utf-8")
    found = _read(folder) if process.returncode == 0 else None
    return found, told.count("] Profiling ")


def _read(folder: Path) -> Candidate:
    table = folder / "export" / "results" / "metrics-model-inference.csv"
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row[_BUDGET].lower() in ("yes", "true")] or rows
    chosen = max(kept, key=lambda row: float(row[_THROUGHPUT]))
    variant = folder / "variants" / Path(chosen[_CONFIG]).name
    model = variant if variant.is_dir() else folder / "models" / chosen["Model"]
    # Variants may bear the name of the model and not of their folder, which read_config refuses.
    config = parse_config((model / "config.pbtxt").read_text(encoding="utf-8"), str(model))
    harness_space = Harness.space_of(config)
    return Candidate.of(own_settings(harness_space, config))


def _milliseconds(sla: str) -> float:
    return 1e3 * Sla.parse(sla).primary.limit


def server_program(folder: Path) -> Path:
    """A program that starts the embedded server as one on the PATH would."""
    binary = embedded.assemble(folder)
    changes = " ".join(f"{k}={shlex.quote(v)}" for k, v in binary.environment.items())
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    start = " ".join(map(shlex.quote, (str(binary.path), *binary.args)))
    program_file = folder / "tritonserver"
    text = f'#!/bin/sh\nexport PATH={shlex.quote(path)} {changes}\nexec {start} "$@"\n'
    program_file.write_text(text, encoding="utf-8")
    program_file.chmod(0o755)
    return program_file


def tune(workload: Workload, folder: Path) -> tuple[Candidate | None, int]:
    """What tuner finds and confirms, and after how many measured candidates."""
    folder.mkdir()
    evaluations = search(workload, "simulation", 0, folder).evaluations()
    found = best(evaluations)
    if found is None:
        raise RuntimeError("tuner found nothing")
    return found.candidate, sum(e.phase == "search" for e in evaluations)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("workload", nargs="?", default="gpu")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["quick"])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/peers.json")
    parser.add_argument("--keep-awake", action="store_true", help="let no core go to sleep")
    given = parser.parse_args()
    workload, began = named(given.workload), time.monotonic()
    install()
    found: dict[str, tuple[Candidate | None, int, float]] = {}
    with (
        awake() if given.keep_awake else contextlib.nullcontext() as about,
        tempfile.TemporaryDirectory() as name,
    ):
        folder = Path(name)
        for mode in ("tuner", *given.modes):
            start = time.monotonic()
            place = folder / mode
            if mode == "tuner":
                candidate, measured = tune(workload, place)
            else:
                place.mkdir()
                candidate, measured = analyze(workload, mode, place)
            found[mode] = (candidate, measured, time.monotonic() - start)
            print(mode, candidate, measured, round(found[mode][2]), file=sys.stderr)
        winners = {c for c, _, _ in found.values() if c is not None}
        rates = _measure(workload, winners, folder)
    rows: dict[str, Row] = {
        (mode if mode == "tuner" else f"Model Analyzer, {mode}"): {
            "winner": "did not end" if candidate is None else str(candidate),
            "capacity": None if candidate is None else round(median(rates[candidate]), 1),
            "rounds": [] if candidate is None else [round(rate, 1) for rate in rates[candidate]],
            "measured": measured,
            "seconds": round(seconds, 1),
            "times_tuner": round(seconds / found["tuner"][2], 2),
        }
        for mode, (candidate, measured, seconds) in found.items()
    }
    words = (
        f"{workload.name!r} --modes {' '.join(given.modes)}" + " --keep-awake" * given.keep_awake
    )
    notes = [
        f"{workload.sla}, max_batch_size to {_LARGEST}, instances to {_INSTANCES}; tuner's time "
        f"includes the confirmation ({' '.join(METHODS['simulation'])})",
        *filter(None, [about]),
    ]
    write(given.out, "peers", f"python -m benchmarks.peers {words}", began, rows, notes)
    for label, row in rows.items():
        print(label, row)


def _measure(
    workload: Workload, candidates: set[Candidate], folder: Path
) -> dict[Candidate, list[float]]:
    rates: dict[Candidate, list[float]] = {c: [] for c in candidates}
    with LoadGenerator() as generator, Harness(workload, folder / "again", generator) as harness:
        for turn in range(_ROUNDS):
            for number, candidate in enumerate(candidates):
                rates[candidate].append(harness.capacity(candidate, 100 * turn + number, 0.0))
    return rates


if __name__ == "__main__":
    main()
