"""Model Analyzer and tuner on several models: ``python -m benchmarks.peers_together [NAME ...]``.

Model Analyzer in quick mode and ``tuner search`` tune the two-model mix and the two-step ensemble,
one after the other, on the same embedded server, with the same SLAs and the same upper bounds of
the space. The winner of each, and the configuration as it was, is measured three times,
interleaved, in an open loop by tuner's own harness.

``--independent`` measures the winners of the result file once more, where one model is asked: with
perf_analyzer as the client, whose clock and whose sockets are its own.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import program
from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.peers import (
    LOG,
    PATH,
    bounds,
    install,
    profile,
    promise,
    read_table,
    read_variant,
)
from benchmarks.pipelines import MIXES, PIPELINES, SPACE, EmulatedPipeline, Mix
from benchmarks.together import Together, search, together
from tuner.load.perf_analyzer import VARIABLE, PerfAnalyzer
from tuner.model.config import own_settings
from tuner.model.space import Candidate
from tuner.model.space_file import parse_space
from tuner.records.results import best

RESULTS = ROOT / "benchmarks/results/peers_together.json"
WORKLOADS: tuple[Mix | EmulatedPipeline, ...] = (MIXES[0], PIPELINES[0])
_LARGEST, _INSTANCES = 16, 3
"""As in ``SPACE``."""
_ROUNDS = 3
_LAST_LINES = 5
_READ = parse_space(SPACE, "benchmarks/pipelines.py")


def analyze(workload: Mix | EmulatedPipeline, folder: Path) -> tuple[Candidate | None, float]:
    """What Model Analyzer recommends, and the seconds it took; None where it did not come to an
    end. Its log is in ``folder``.
    """
    repository = folder / "models"
    repository.mkdir(parents=True)
    workload.repository(repository)
    settings = {**bounds("quick", _LARGEST, _INSTANCES), **_models(workload)}
    began = time.monotonic()
    ended = profile(folder, repository, settings)
    seconds = time.monotonic() - began
    return _read(folder) if ended else None, seconds


def _models(workload: Mix | EmulatedPipeline) -> dict[str, Any]:
    """What Model Analyzer is to tune."""
    if isinstance(workload, EmulatedPipeline):
        return {
            "cpu_only_composing_models": [step.name for step in workload.steps],
            "profile_models": {workload.name: promise(workload.sla)},
        }
    pairs = zip(workload.models, workload.slas, strict=True)
    return {
        "run_config_profile_models_concurrently_enable": True,
        "profile_models": {model.name: promise(sla) for model, sla in pairs},
    }


def _read(folder: Path) -> Candidate:
    """Of the recommended configuration, the settings of each model that has some."""
    parts = {}
    for variant in variants_of(read_table(folder)[0][PATH]):
        model = variant.rpartition("_config_")[0]
        config = read_variant(folder, variant, model)
        parts[model] = Candidate.of(own_settings(_READ, config))
    return Candidate.together(parts)


def variants_of(text: str) -> list[str]:
    """Of models side by side: ``fast_config_2,slow_config_1``; of an ensemble, those of its steps:
    ``both_config_3: one_config_2, other_config_1``.
    """
    return [name.strip() for name in text.rpartition(":")[2].split(",")]


def compare(workload: Mix | EmulatedPipeline) -> Row:
    """Both searches, and the capacities of what they found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        analyzed, analyzer_seconds = analyze(workload, folder / "analyzer")
        said = (folder / "analyzer" / LOG).read_text(encoding="utf-8").splitlines()
        print("Model Analyzer", round(analyzer_seconds), analyzed, *said[-1:], file=sys.stderr)
        run, tuner_seconds = search(workload, folder / "tuner", SPACE)
        winner = best(run.evaluations())
        tuned = None if winner is None else winner.candidate
        print("tuner", round(tuner_seconds), tuned, file=sys.stderr)
    rates = _measure(workload, {"analyzer": analyzed, "tuner": tuned})
    medians = {who: median(each) if each else None for who, each in rates.items()}
    ours, theirs = medians["tuner"], medians["analyzer"]
    return {
        "analyzer_seconds": round(analyzer_seconds, 1),
        "tuner_seconds": round(tuner_seconds, 1),
        "times_tuner": round(analyzer_seconds / tuner_seconds, 2),
        **{f"{who}_capacity": _rounded(rate) for who, rate in medians.items()},
        "ratio": round(ours / theirs, 3) if ours and theirs else None,
        "analyzer_settings": None if analyzed is None else dict(analyzed.settings),
        "tuner_settings": None if tuned is None else dict(tuned.settings),
        "rounds": {who: [round(rate, 1) for rate in each] for who, each in rates.items()},
        "analyzer_said": [] if analyzed else said[-_LAST_LINES:],
    }


def _measure(
    workload: Mix | EmulatedPipeline, found: dict[str, Candidate | None]
) -> dict[str, list[float]]:
    """Capacities, interleaved; none of a tool without a winner."""
    with together(workload, SPACE) as harness:
        wanted = {**found, "baseline": Candidate.of(harness.own)}
        rates: dict[str, list[float]] = {who: [] for who in wanted}
        for turn in range(_ROUNDS):
            for number, (who, candidate) in enumerate(wanted.items()):
                if candidate is not None:
                    rates[who].append(harness.capacity(candidate, 100 * turn + number, 0.0))
    return rates


def independent(workload: EmulatedPipeline, row: Row) -> dict[str, float | None]:
    """Median capacities of both winners, with perf_analyzer as the client."""
    os.environ[VARIABLE] = str(program.prepare())
    found = {
        who: Candidate.of(row[f"{who}_settings"])
        for who in ("analyzer", "tuner")
        if row[f"{who}_settings"] is not None
    }
    rates: dict[str, list[float]] = {who: [] for who in found}
    with tempfile.TemporaryDirectory() as name, contextlib.closing(PerfAnalyzer()) as client:
        harness = Together(workload, Path(name), client, SPACE, "perf_analyzer")
        with contextlib.closing(harness):
            for turn, who in itertools.product(range(_ROUNDS), found):
                rates[who].append(harness.capacity(found[who], turn, 0.0))
    return {who: _rounded(median(each)) for who, each in rates.items()}


def _add_independent() -> None:
    """To the rows of the result file that one model was asked in."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    for workload in WORKLOADS:
        row = result["rows"].get(workload.name)
        if row is not None and isinstance(workload, EmulatedPipeline):
            row["by_perf_analyzer"] = independent(workload, row)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)


def main() -> None:
    name = "python -m benchmarks.peers_together"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    known = [workload.name for workload in WORKLOADS]
    parser.add_argument("workloads", nargs="*", metavar="NAME", help=f"of {known}; all if none")
    parser.add_argument("--keep-awake", action="store_true", help="let no core go to sleep")
    parser.add_argument("--independent", action="store_true", help="measure the winners again")
    given = parser.parse_args()
    if given.independent:
        _add_independent()
        return
    if unknown := set(given.workloads) - set(known):
        parser.error(f"no workload {min(unknown)!r}; known: {', '.join(known)}")
    chosen = [w for w in WORKLOADS if not given.workloads or w.name in given.workloads]
    began = time.monotonic()
    install()
    with awake() if given.keep_awake else contextlib.nullcontext() as about:
        rows = {workload.name: compare(workload) for workload in chosen}
    words = [repr(each) for each in given.workloads] + ["--keep-awake"] * given.keep_awake
    notes = [
        f"quick mode; max_batch_size to {_LARGEST}, instances to {_INSTANCES}; of Model Analyzer "
        "from 1 on, of tuner what benchmarks/pipelines.py lists",
        *filter(None, [about]),
    ]
    write(RESULTS, "peers together", " ".join((name, *words)), began, rows, notes)


if __name__ == "__main__":
    main()
