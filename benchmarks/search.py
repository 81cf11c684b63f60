"""Searches beside each other, held against the ground truth: ``python -m benchmarks.search``.

Each method searches each workload with several seeds, through the command line, as a user would:
tuner's own strategy, Optuna's TPE and random search, all with the same measurements. The capacity
of what each found is looked up in the ground truth (``benchmarks.ground_truth``), so that nobody's
luck counts.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ground_truth import RESULTS
from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.workloads import SPACE, WORKLOADS, Workload, named
from tuner.results import Evaluation, Run
from tuner.space import Candidate

METHODS = {
    "simulation": ("--sampler", "simulation"),
    "tpe": ("--sampler", "tpe", "--trials", "20", "--confirm", "none"),
    "random": ("--sampler", "random", "--trials", "20", "--confirm", "none"),
}
_GOOD = 0.98


def search(workload: Workload, method: str, seed: int, folder: Path) -> Run:
    """One search through the command line; its run."""
    model = workload.model(folder)
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    command = [
        *(sys.executable, "-m", "tuner", "search", str(model), "--sla", workload.sla),
        *("--load", workload.load, "--batch", workload.batch, "--seed", str(seed)),
        *("--space", str(folder / "space.yaml"), "--launcher", "local", "--timeout", "10m"),
        *("--output", str(folder / "reports"), "--run", "run", "--json", "--quiet"),
        *METHODS[method],
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return Run.open(folder / "reports" / "run")


def judge(run: Run, truth: dict[Candidate, float], seconds: float) -> Row:
    """What a search found and took; capacities are the truth's."""
    evaluations = run.evaluations()
    best = max(truth.values())
    found = [e for e in evaluations if e.phase == "search"]
    final = _final(evaluations)
    quality = truth.get(final.candidate, 0.0) / best if final else 0.0
    return {
        "quality": round(quality, 4),
        "seconds": round(seconds, 1),
        "launches": sum(1 for _ in run.logs.glob("*.log")),
        "measured": sum(e.capacity is not None for e in found),
        "trials": len(found),
        "requests": _requests(run, evaluations),
        "requests_to_good": _requests_to_good(run, found, truth, _GOOD * best),
    }


def _final(evaluations: list[Evaluation]) -> Evaluation | None:
    confirmed = [e for e in evaluations if e.phase == "confirm"]
    known = [e for e in confirmed or evaluations if e.capacity is not None]
    return max(known, key=lambda e: e.capacity or 0.0, default=None)


def _requests(run: Run, evaluations: list[Evaluation]) -> int:
    probes = sum(p.n for e in evaluations for p in e.probes)
    return probes + sum(window.server.requests for window in run.windows())


def _requests_to_good(
    run: Run, found: list[Evaluation], truth: dict[Candidate, float], good: float
) -> int | None:
    """Requests sent until the best that was measured so far was good; None if it never was."""
    sent = sum(window.server.requests for window in run.windows())
    best, best_is_good = 0.0, False
    for evaluation in found:
        sent += sum(p.n for p in evaluation.probes)
        if (evaluation.capacity or 0.0) > best:
            best = evaluation.capacity or 0.0
            best_is_good = truth.get(evaluation.candidate, 0.0) >= good
        if best_is_good:
            return sent
    return None


def read_truth(workload: Workload) -> dict[Candidate, float]:
    """Capacities by candidate, as ``benchmarks.ground_truth`` left them."""
    file = RESULTS / f"{workload.name.replace(' ', '_')}.json"
    rows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return {Candidate.of(row["settings"]): row["capacity"] for row in rows.values()}


def summarise(rows: list[Row]) -> Row:
    """Medians over seeds, and the worst quality; requests to a good one of those that had it."""
    good = [row["requests_to_good"] for row in rows if row["requests_to_good"] is not None]
    keys = ("quality", "seconds", "launches", "measured", "trials", "requests")
    return {
        **{key: median(row[key] for row in rows) for key in keys},
        "worst": min(row["quality"] for row in rows),
        "good": f"{len(good)} of {len(rows)}",
        "requests_to_good": round(median(good)) if good else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="by name; all with a ground truth if none")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/search.json")
    parser.add_argument(
        "--keep-awake", action="store_true", help="on a virtual machine: let no core go to sleep"
    )
    given = parser.parse_args()
    chosen = [named(name) for name in given.workloads] or [
        w for w in WORKLOADS if (RESULTS / f"{w.name.replace(' ', '_')}.json").is_file()
    ]
    began = time.monotonic()
    found: dict[str, list[Row]] = {}
    with awake() if given.keep_awake else contextlib.nullcontext() as about:
        for seed in range(given.seeds):
            for workload in chosen:
                truth = read_truth(workload)
                for method in given.methods:
                    with tempfile.TemporaryDirectory() as name:
                        start = time.monotonic()
                        run = search(workload, method, seed, Path(name))
                        row = judge(run, truth, time.monotonic() - start)
                    print(workload.name, method, seed, row, file=sys.stderr)
                    found.setdefault(f"{workload.name}, {method}", []).append(row)
    rows = {label: summarise(each) for label, each in found.items()}
    words = " ".join([*map(repr, given.workloads), f"--seeds {given.seeds}"])
    words += " --keep-awake" * given.keep_awake
    notes = [
        f"medians of {given.seeds} seeds; quality is the truth's capacity of what was found over "
        "the best there is. tpe and random measure 20 candidates and confirm nothing, simulation "
        "ends by itself and confirms",
        *filter(None, [about]),
    ]
    write(given.out, "search", f"python -m benchmarks.search {words}", began, rows, notes)
    for label, row in rows.items():
        print(label, row)


if __name__ == "__main__":
    main()
