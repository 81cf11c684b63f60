"""Searches beside each other, held against the ground truth: ``python -m benchmarks.search``.

Each method searches each workload with several seeds, through the command line, as a user would:
tuner's own strategy, Optuna's TPE and random search, all with the same measurements. The capacity
of what each found is looked up in the ground truth (``benchmarks.ground_truth``), so that nobody's
luck counts, and measured again beside the best where it falls behind. TPE and random search are
also replayed over the ground truth (``benchmarks.replay``), with many seeds, since twenty
measurements of each take minutes.
"""

import argparse
import contextlib
import itertools
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ground_truth import RESULTS, Harness
from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.replay import SCATTER, SECONDS, SECONDS_IF_BEATEN, replay
from benchmarks.workloads import SPACE, WORKLOADS, Workload, named
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.load.generator import LoadGenerator
from tuner.model.config import own_settings, read_config, render
from tuner.model.space import Candidate
from tuner.optimizer.forecast import Forecast
from tuner.optimizer.prior import SimulatedSpace
from tuner.optimizer.prior import Workload as Aim
from tuner.records.results import Evaluation, ProbeRecord
from tuner.records.results import best as winner_of
from tuner.records.run import Run

METHODS = {
    "simulation": ("--sampler", "simulation"),
    "tpe": ("--sampler", "tpe", "--trials", "20", "--confirm", "none"),
    "random": ("--sampler", "random", "--trials", "20", "--confirm", "none"),
}
_GOOD = 0.98
_REPLAYS = 10
_ROUNDS = 3


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


def kept(workload: Workload, method: str, seed: int, place: Path) -> tuple[Run, float]:
    """A search in a folder, unless it is there already; its run, and seconds it took."""
    took = place / "seconds"
    if not took.is_file():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        began = time.monotonic()
        search(workload, method, seed, place)
        took.write_text(str(time.monotonic() - began))
    return Run.open(place / "reports" / "run"), float(took.read_text())


def corrected(
    workload: Workload, run: Run, truth: dict[Candidate, float], folder: Path
) -> dict[Candidate, float]:
    """The truth; where what was found is not as good there, with the ratio of it to the best, both
    measured three times by turns.

    A truth of few measurements has its own errors, the larger the more the machine was held up.
    """
    final, top = winner_of(run.evaluations()), max(truth, key=lambda each: truth[each])
    if final is None or truth.get(final.candidate, 0.0) >= _GOOD * truth[top]:
        return truth
    known = folder / "beside.json"
    if not known.is_file():
        rates: dict[str, list[float]] = {"found": [], "best": []}
        with (
            tempfile.TemporaryDirectory() as name,
            LoadGenerator() as generator,
            Harness(workload, Path(name), generator) as harness,
        ):
            for turn, (label, candidate) in itertools.product(
                range(_ROUNDS), (("found", final.candidate), ("best", top))
            ):
                rates[label].append(harness.capacity(candidate, turn, 0.0))
        known.write_text(json.dumps(rates), encoding="utf-8")
    rates = json.loads(known.read_text(encoding="utf-8"))
    ratio = median(rates["found"]) / median(rates["best"])
    return {**truth, final.candidate: min(1.0, ratio) * truth[top]}


def judge(run: Run, truth: dict[Candidate, float], seconds: float) -> Row:
    """What a search found and took; capacities are the truth's."""
    evaluations = run.evaluations()
    best = max(truth.values())
    found = [e for e in evaluations if e.phase == "search"]
    probes = [p for e in evaluations for p in e.probes]
    final = winner_of(evaluations)
    quality = truth.get(final.candidate, 0.0) / best if final else 0.0
    return {
        "quality": round(quality, 4),
        "seconds": round(seconds, 1),
        "proof": round(sum(p.seconds for p in probes if p.purpose == "proof"), 1),
        "stolen": round(_stolen(probes), 4),
        "launches": sum(1 for _ in run.logs.glob("*.log")),
        "measured": sum(e.capacity is not None for e in found),
        "trials": len(found),
        "requests": _requests(run, evaluations),
        "requests_to_good": _requests_to_good(run, found, truth, _GOOD * best),
    }


def _stolen(probes: list[ProbeRecord]) -> float:
    """The mean share of the busy time that the hypervisor gave to others; 0.0 where unknown."""
    shares = [p.host.stolen for p in probes if p.host is not None and p.host.stolen is not None]
    return sum(shares) / len(shares) if shares else 0.0


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


def steps(workload: Workload, run: Run, truth: dict[Candidate, float]) -> dict[str, Row]:
    """Every candidate: what the simulation expected before anything was measured, the truth, and
    what the search measured of it.
    """
    with tempfile.TemporaryDirectory() as name:
        config = read_config(workload.model(Path(name)))
    aim = Aim(
        Sla.parse(workload.sla), Arrivals.parse(workload.load), BatchMix.parse(workload.batch)
    )
    space = SimulatedSpace(Harness.space_of(config), aim, lambda c: render(config, c), 0)
    forecast = Forecast(space.simulate(run.windows()))
    rows: dict[str, Row] = {
        str(candidate): {
            "simulated": round(forecast.expected(candidate), 1),
            "truth": truth.get(candidate),
        }
        for candidate in forecast.candidates
    }
    for each in run.evaluations():
        if each.phase == "search" and each.label in rows:
            measured = [each.trial, each.state.value, each.estimate, each.low, each.high]
            rows[each.label]["measured"] = measured
    return rows


def read_truth(workload: Workload) -> dict[Candidate, float]:
    """Capacities by candidate, as ``benchmarks.ground_truth`` left them."""
    file = RESULTS / f"{workload.name.replace(' ', '_')}.json"
    rows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return {Candidate.of(row["settings"]): row["capacity"] for row in rows.values()}


def summarise(rows: list[Row]) -> Row:
    """Medians over seeds, and the worst quality. Requests until the best so far was good: where a
    search never came to a good one, more than all that it sent.
    """
    good = [row["requests_to_good"] for row in rows]
    until = sorted(math.inf if requests is None else requests for requests in good)
    middle = until[(len(until) - 1) // 2]
    keys = [key for key in rows[0] if key not in ("quality", "requests_to_good")]
    return {
        "quality": round(median(row["quality"] for row in rows), 4),
        "worst": min(row["quality"] for row in rows),
        "qualities": sorted(row["quality"] for row in rows),
        **{key: median(row[key] for row in rows) for key in keys},
        "good": sum(requests is not None for requests in good),
        "seeds": len(rows),
        "requests_to_good": middle if math.isfinite(middle) else None,
    }


def replays(
    workload: Workload, truth: dict[Candidate, float], seeds: int = _REPLAYS
) -> dict[str, Row]:
    """TPE and random search over the ground truth, by label."""
    with tempfile.TemporaryDirectory() as name:
        config = read_config(workload.model(Path(name)))
    space = Harness.space_of(config)
    own = own_settings(space, config)
    good = _GOOD * max(truth.values())
    return {
        f"{workload.name}, {method}, replayed": summarise(
            [replay(space, own, truth, method, seed, good) for seed in range(seeds)]
        )
        for method in ("tpe", "random")
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="by name; all with a ground truth if none")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--methods", nargs="*", choices=list(METHODS), default=["simulation"], help="not replayed"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/search.json")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the runs there; those there are not rerun"
    )
    parser.add_argument(
        "--keep-awake", action="store_true", help="on a virtual machine: let no core go to sleep"
    )
    given = parser.parse_args()
    chosen = [named(name) for name in given.workloads] or [
        w for w in WORKLOADS if (RESULTS / f"{w.name.replace(' ', '_')}.json").is_file()
    ]
    began = time.monotonic()
    found: dict[str, list[Row]] = {}
    with (
        awake() if given.keep_awake else contextlib.nullcontext() as about,
        tempfile.TemporaryDirectory() as name,
    ):
        folder = (given.keep or Path(name)).resolve()
        for seed, workload, method in itertools.product(range(given.seeds), chosen, given.methods):
            label = f"{workload.name}, {method}"
            place = folder / f"{workload.name.replace(' ', '_')}-{method}-{seed}"
            run, seconds = kept(workload, method, seed, place)
            truth = corrected(workload, run, read_truth(workload), place)
            row = judge(run, truth, seconds)
            print(label, seed, row, file=sys.stderr)
            found.setdefault(label, []).append(row)
            if method == "simulation" and seed == 0 and workload is chosen[0]:
                drawn = steps(workload, run, truth)
                write(given.out.with_name("steps.json"), "steps", label, began, drawn, [])
    rows: dict[str, Row] = {}
    for workload in chosen:
        for method in given.methods:
            label = f"{workload.name}, {method}"
            rows[label] = summarise(found[label])
        rows |= replays(workload, read_truth(workload))
    words = " ".join([*map(repr, given.workloads), f"--seeds {given.seeds}"])
    words += f" --methods {' '.join(given.methods)}" if given.methods != ["simulation"] else ""
    words += " --keep-awake" * given.keep_awake
    notes = [
        f"medians of {given.seeds} seeds; quality is the truth's capacity of what was found over "
        f"the best there is; where that is below {_GOOD:.0%}, both are measured again, "
        f"{_ROUNDS} times by turns, and their ratio counts. tpe and random measure 20 candidates "
        "and confirm nothing, simulation ends by itself and confirms",
        f"replayed: {_REPLAYS} seeds over the ground truth; measuring a candidate takes "
        f"{SECONDS:g} s of load at its capacity, {SECONDS_IF_BEATEN:g} s at the best one's where "
        f"it cannot win, and scatters by {SCATTER:.0%}",
        *filter(None, [about]),
    ]
    write(given.out, "search", f"python -m benchmarks.search {words}", began, rows, notes)
    for label, row in rows.items():
        print(label, row)


if __name__ == "__main__":
    main()
