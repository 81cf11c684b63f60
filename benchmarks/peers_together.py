"""Model Analyzer and tuner on several models: ``python -m benchmarks.peers_together``.

Model Analyzer in quick mode and ``tuner search`` tune the two-model mix and the two-step ensemble,
one after the other, on the same embedded server, with the same bounds of the space and the same
SLAs. What each found, and the configuration as it was, is measured three times by turns, in an open
loop by tuner's own harness.
"""

import argparse
import csv
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.load import program
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.peers import install, server_program
from benchmarks.pipelines import MIXES, PIPELINES, EmulatedPipeline, Mix
from benchmarks.together import together
from tuner.goals.sla import Sla
from tuner.model.config import own_settings, parse_config
from tuner.model.space import MAX_BATCH_SIZE, Candidate
from tuner.model.space_file import parse_space
from tuner.records.results import best as winner_of
from tuner.records.run import Run

RESULTS = ROOT / "benchmarks/results/peers_together.json"
WORKLOADS: tuple[Mix | EmulatedPipeline, ...] = (MIXES[0], PIPELINES[0])
_LARGEST, _INSTANCES, _ROUNDS, _MOST_SECONDS = 16, 3, 3, 1200
SPACE = (
    f"max_batch_size: [1, 2, 4, 8, {_LARGEST}]\n"
    f"  instance_group.count: {{range: [1, {_INSTANCES}]}}\n"
    "  dynamic_batching.max_queue_delay_microseconds: [0, 2000]"
)
_CONFIG, _BUDGET = "Model Config Path", "Satisfies Constraints"
_THROUGHPUT = "Throughput (infer/sec)"
_READ = parse_space(f"name: read\nparameters:\n  {SPACE}\n", "benchmarks/peers_together.py")


def settings(workload: Mix | EmulatedPipeline, folder: Path, server: Path) -> dict[str, Any]:
    """Model Analyzer's configuration."""
    common: dict[str, Any] = {
        "model_repository": str(folder / "models"),
        "output_model_repository_path": str(folder / "variants"),
        "override_output_model_repository": True,
        "export_path": str(folder / "export"),
        "checkpoint_directory": str(folder / "checkpoints"),
        "triton_launch_mode": "local",
        "triton_server_path": str(server),
        "perf_analyzer_path": str(program.prepare()),
        "perf_analyzer_cpu_util": 400,
        "gpus": [],
        "skip_detailed_reports": True,
        "run_config_search_mode": "quick",
        "run_config_search_max_model_batch_size": _LARGEST,
        "run_config_search_max_instance_count": _INSTANCES,
    }
    if isinstance(workload, EmulatedPipeline):
        return {
            **common,
            "cpu_only_composing_models": [step.name for step in workload.steps],
            "profile_models": {workload.name: _model(workload.sla)},
        }
    pairs = zip(workload.models, workload.slas, strict=True)
    return {
        **common,
        "run_config_profile_models_concurrently_enable": True,
        "profile_models": {model.name: _model(sla) for model, sla in pairs},
    }


def _model(sla: str) -> dict[str, Any]:
    limit = 1e3 * Sla.parse(sla).primary.limit
    return {
        "cpu_only": True,
        "objectives": ["perf_throughput"],
        "constraints": {"perf_latency_p99": {"max": limit}},
    }


def analyze(workload: Mix | EmulatedPipeline, folder: Path) -> tuple[Candidate | None, str]:
    """What Model Analyzer recommends, and the last lines of its log."""
    (folder / "models").mkdir(parents=True)
    workload.repository(folder / "models")
    with tempfile.TemporaryDirectory() as name:
        file = folder / "analyzer.yaml"
        server = server_program(Path(name))
        file.write_text(yaml.safe_dump(settings(workload, folder, server)), encoding="utf-8")
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
    told = (folder / "analyzer.log").read_text(encoding="utf-8").splitlines()
    found = _read(workload, folder) if process.returncode == 0 else None
    return found, "\n".join(told[-5:])


def _read(workload: Mix | EmulatedPipeline, folder: Path) -> Candidate:
    table = folder / "export" / "results" / "metrics-model-inference.csv"
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row[_BUDGET].lower() in ("yes", "true")] or rows
    chosen = max(kept, key=lambda row: _total(row[_THROUGHPUT]))
    print("Model Analyzer chose", chosen[_CONFIG], file=sys.stderr)
    names = [part.strip() for part in re.split(r"[,+]", chosen[_CONFIG])]
    if isinstance(workload, EmulatedPipeline):
        names = _composing(folder / "variants" / Path(names[0]).name, folder)
    tuned = workload.steps if isinstance(workload, EmulatedPipeline) else workload.models
    parts = {}
    for model in tuned:
        variant = next((n for n in names if n.startswith(f"{model.name}_config")), model.name)
        place = folder / "variants" / Path(variant).name
        place = place if place.is_dir() else folder / "models" / model.name
        config = parse_config((place / "config.pbtxt").read_text(encoding="utf-8"), str(place))
        parts[model.name] = Candidate.of(own_settings(_READ, config))
    return Candidate.together(parts)


def _composing(ensemble: Path, folder: Path) -> list[str]:
    """The variants that an ensemble's variant calls."""
    place = ensemble if ensemble.is_dir() else folder / "models"
    file = place / "config.pbtxt"
    if not file.is_file():
        return []
    config = parse_config(file.read_text(encoding="utf-8"), str(file))
    return [step.model_name for step in config.ensemble_scheduling.step]


def _total(text: str) -> float:
    """Of several models, the throughputs are listed."""
    return sum(map(float, re.findall(r"[0-9.]+", text)))


def tune(workload: Mix | EmulatedPipeline, folder: Path) -> Candidate | None:
    """What ``tuner search`` finds, with default options."""
    from benchmarks.together import options_of

    options = options_of(workload, folder / "models", SPACE)
    words = [sys.executable, "-m", "tuner", "search", options.pop("model")]
    words += itertools.chain.from_iterable((f"--{k}", str(v)) for k, v in options.items())
    words += ["--output", str(folder / "reports"), "--run", "found"]
    subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = winner_of(Run.open(folder / "reports" / "found").evaluations())
    return None if found is None else found.candidate


def compare(workload: Mix | EmulatedPipeline) -> Row:
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        analyzed, told = analyze(workload, Path(name) / "analyzer")
        analyzer_seconds = time.monotonic() - began
        print("Model Analyzer", round(analyzer_seconds), analyzed, told, file=sys.stderr)
        began = time.monotonic()
        tuned = tune(workload, Path(name) / "tuner")
        tuner_seconds = time.monotonic() - began
        print("tuner", round(tuner_seconds), tuned, file=sys.stderr)
    with together(workload, SPACE) as harness:
        own = Candidate.of(harness.own)
        wanted = {"analyzer": analyzed, "tuner": tuned, "baseline": own}
        rates: dict[str, list[float]] = {who: [] for who in wanted}
        for turn, (who, candidate) in itertools.product(range(_ROUNDS), wanted.items()):
            if candidate is not None:
                rates[who].append(harness.capacity(candidate, turn, 0.0))
    capacities = {f"{who}_capacity": median(each) if each else None for who, each in rates.items()}
    return {
        "analyzer_seconds": round(analyzer_seconds, 1),
        "tuner_seconds": round(tuner_seconds, 1),
        **{key: None if rate is None else round(rate, 1) for key, rate in capacities.items()},
        "analyzer_winner": str(analyzed),
        "tuner_winner": str(tuned),
        "rounds": {who: [round(rate, 1) for rate in each] for who, each in rates.items()},
        "analyzer_said": told,
    }


def main() -> None:
    name = "python -m benchmarks.peers_together"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("workloads", nargs="*", help="by name; both if none is given")
    given = parser.parse_args()
    began = time.monotonic()
    install()
    chosen = [w for w in WORKLOADS if not given.workloads or w.name in given.workloads]
    rows = {workload.name: compare(workload) for workload in chosen}
    notes = [f"quick mode; {MAX_BATCH_SIZE} to {_LARGEST}, instances to {_INSTANCES}"]
    write(RESULTS, "peers together", name, began, rows, notes)


if __name__ == "__main__":
    main()
