"""Searches beside each other, held against the ground truth: ``python -m benchmarks.search``.

Each method searches each workload with several seeds, through the command line, as a user would:
tuner's own strategy, Optuna's TPE and random search, all with the same measurements. The capacity
of what each found is looked up in the ground truth (``benchmarks.ground_truth``), so that nobody's
luck counts, and measured again beside the best where it falls behind. TPE and random search are
also replayed over the ground truth (``benchmarks.replay``), with many seeds, since twenty
measurements of each take minutes.

With ``--space default``, tuner's searches of the default space with default options, in four steps
over one ``--keep FOLDER``: searches, searches with ``--disturb``, ``--remeasure`` (also on another
day), and ``--limits``. Each step leaves out what is there already, so that it may be interrupted,
and writes a row for all that is there by then (see ``benchmarks.default_space``).
"""

import argparse
import contextlib
import itertools
import json
import math
import shlex
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import default_space, runs
from benchmarks.default_space import Step
from benchmarks.ground_truth import Harness, read_truth, truth_file
from benchmarks.judging import GOOD, requests_to_good
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
from tuner.optimizer.simulators import OneModel
from tuner.optimizer.simulators import Workload as Aim
from tuner.records.results import ProbeRecord
from tuner.records.results import best as winner_of
from tuner.records.run import Run

METHODS = {
    "simulation": ("--sampler", "simulation"),
    "tpe": ("--sampler", "tpe", "--trials", "20", "--confirm", "none"),
    "random": ("--sampler", "random", "--trials", "20", "--confirm", "none"),
}
_REPLAYS = 10
_ROUNDS = 3


def search(workload: Workload, method: str, seed: int, folder: Path) -> Run:
    """One search of the space of the ground truth; its run."""
    space = folder / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    options = ("--space", str(space), "--timeout", "10m", *METHODS[method])
    return runs.search(workload, options, seed, folder)


def corrected(
    workload: Workload, run: Run, truth: dict[Candidate, float], folder: Path
) -> dict[Candidate, float]:
    """The truth; where what was found is not as good there, with the ratio of it to the best, both
    measured three times by turns.

    A truth of few measurements has its own errors, the larger the more the machine was held up.
    """
    final, top = winner_of(run.evaluations()), max(truth, key=lambda each: truth[each])
    if final is None or truth.get(final.candidate, 0.0) >= GOOD * truth[top]:
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
        "requests": runs.requests_of(run),
        "requests_to_good": requests_to_good(run, lambda each: truth.get(each, 0.0), GOOD * best),
    }


def _stolen(probes: list[ProbeRecord]) -> float:
    """The mean share of the busy time that the hypervisor gave to others; 0.0 where unknown."""
    shares = [p.host.stolen for p in probes if p.host is not None and p.host.stolen is not None]
    return sum(shares) / len(shares) if shares else 0.0


def steps(workload: Workload, run: Run, truth: dict[Candidate, float]) -> dict[str, Row]:
    """Every candidate: what the simulation expected before anything was measured, the truth, and
    what the search measured of it.
    """
    with tempfile.TemporaryDirectory() as name:
        config = read_config(workload.model(Path(name)))
    aim = Aim(
        Sla.parse(workload.sla), Arrivals.parse(workload.load), BatchMix.parse(workload.batch)
    )
    simulator = OneModel(aim, lambda c: render(config, c), 0)
    space = SimulatedSpace(Harness.space_of(config), simulator, 0)
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
    good = GOOD * max(truth.values())
    return {
        f"{workload.name}, {method}, replayed": summarise(
            [replay(space, own, truth, method, seed, good) for seed in range(seeds)]
        )
        for method in ("tpe", "random")
    }


def measure(
    chosen: list[Workload], methods: list[str], seeds: int, folder: Path, disturbed: bool, out: Path
) -> tuple[dict[str, Row], list[str]]:
    """Searches of the space of the ground truth, with what each came to, and notes."""
    began = time.monotonic()
    found: dict[str, list[Row]] = {}
    for seed, workload, method in itertools.product(range(seeds), chosen, methods):
        label = f"{workload.name}, {method}"
        name = f"{workload.name.replace(' ', '_')}-{method}" + "-disturbed" * disturbed
        place = folder / f"{name}-{seed}"
        run, seconds = runs.keep(place, partial(search, workload, method, seed), disturbed)
        truth = corrected(workload, run, read_truth(workload), place)
        row = judge(run, truth, seconds)
        print(label, seed, row, file=sys.stderr)
        found.setdefault(label, []).append(row)
        if method == "simulation" and seed == 0 and workload is chosen[0]:
            drawn = steps(workload, run, truth)
            write(out.with_name("steps.json"), "steps", label, began, drawn, [])
    rows: dict[str, Row] = {}
    for workload in chosen:
        own = {
            label: summarise(found[label]) for label in (f"{workload.name}, {m}" for m in methods)
        }
        replayed = replays(workload, read_truth(workload))
        for row in own.values():
            row["tpe_takes"] = _times(replayed[f"{workload.name}, tpe, replayed"], row)
        rows |= own | replayed
    return rows, [
        f"medians of {seeds} seeds; quality is the truth's capacity of what was found over "
        f"the best there is; where that is below {GOOD:.0%}, both are measured again, "
        f"{_ROUNDS} times by turns, and their ratio counts. tpe and random measure 20 candidates "
        "and confirm nothing, simulation ends by itself and confirms",
        f"replayed: {_REPLAYS} seeds over the ground truth; measuring a candidate takes "
        f"{SECONDS:g} s of load at its capacity, {SECONDS_IF_BEATEN:g} s at the best one's where "
        f"it cannot win, and scatters by {SCATTER:.0%}",
    ]


def _times(one: Row, other: Row) -> float | None:
    """How many times as many requests the first took until it was good."""
    first, second = one["requests_to_good"], other["requests_to_good"]
    return round(first / second, 2) if first and second else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="by name; all if none")
    parser.add_argument(
        "--space",
        choices=("truth", "default"),
        default="truth",
        help="that of the ground truth, or the default one with default options",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--methods",
        nargs="*",
        choices=list(METHODS),
        default=["simulation"],
        help="not replayed, of the truth's space",
    )
    parser.add_argument(
        "--disturb", action="store_true", help="while searching, take a core now and then"
    )
    phase = parser.add_mutually_exclusive_group()
    phase.add_argument(
        "--remeasure",
        nargs="?",
        choices=("quiet", "disturbed"),
        const="quiet",
        help="search nothing: measure the winners of the default space again that are kept",
    )
    phase.add_argument(
        "--limits", action="store_true", help="search with time limits, in the default space"
    )
    phase.add_argument(
        "--report", action="store_true", help="measure nothing: write what is kept (default space)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of --remeasure; more add to them")
    parser.add_argument("--out", type=Path, help="default: search.json or search_default.json")
    parser.add_argument(
        "--keep",
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="keep the runs there; those there are not rerun",
    )
    parser.add_argument(
        "--keep-awake", action="store_true", help="on a virtual machine: let no core go to sleep"
    )
    return parser


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    of_default = given.space == "default"
    if (given.remeasure or given.limits or given.report) and not (of_default and given.keep):
        parser.error("--remeasure, --limits and --report go with --space default --keep FOLDER")
    chosen = [named(name) for name in given.workloads] or [
        w for w in WORKLOADS if of_default or truth_file(w).is_file()
    ]
    name = "search_default.json" if of_default else "search.json"
    out = given.out or ROOT / "benchmarks/results" / name
    began = time.monotonic()
    with (
        awake() if given.keep_awake else contextlib.nullcontext() as about,
        tempfile.TemporaryDirectory() as scratch,
    ):
        folder = (given.keep or Path(scratch)).resolve()
        if of_default:
            step = Step(given.disturb, given.remeasure, given.rounds, given.limits, given.report)
            rows, notes = default_space.measure(chosen, given.seeds, folder, step)
        else:
            rows, notes = measure(chosen, given.methods, given.seeds, folder, given.disturb, out)
    words = shlex.join(sys.argv[1:])
    notes += filter(None, [about])
    write(out, out.stem, f"python -m benchmarks.search {words}", began, rows, notes)
    for label, row in rows.items():
        print(label, row)


if __name__ == "__main__":
    main()
