"""Mixes and pipelines: every candidate measured, and searches held against that:
``python -m benchmarks.together truth|search [NAME ...]``.

As ``benchmarks.ground_truth`` and ``benchmarks.search`` do it of single models: each candidate of a
small space is measured in a random order, one that surely holds less than nine tenths of the best
so far is left at what is known of it by then, and the best are measured twice more, interleaved. A
search goes through the command line, as a user would, with default options; where what it found is
below 98 % of the best, both are measured again, three times, interleaved, and their ratio counts.
What the simulation expected before anything was measured is compared with the capacities of eight
candidates, from the worst to the best.
"""

import argparse
import contextlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.judging import GOOD
from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.pipelines import MIXES, PIPELINES, EmulatedPipeline, Mix
from tuner.commands.audience import Silent
from tuner.commands.evaluators import make_evaluator
from tuner.commands.plan import Plan
from tuner.commands.search import make_simulator, make_workload
from tuner.deployments.subjects import Subject
from tuner.experiment.resolve import resolve
from tuner.load.generator import LoadEngine, LoadGenerator
from tuner.model.space import Candidate
from tuner.optimizer.forecast import Forecast
from tuner.optimizer.prior import SimulatedSpace
from tuner.records.results import Evaluation, State
from tuner.records.results import best as winner_of
from tuner.records.run import Run
from tuner.servers.gpu import Gpus
from tuner.servers.local import LocalLauncher

TRUTH = ROOT / "benchmarks/results/truth_together"
RESULTS = ROOT / "benchmarks/results/together.json"
WORKLOADS: tuple[Mix | EmulatedPipeline, ...] = (*MIXES, *PIPELINES)
SPACES = {
    "fast and slow": "max_batch_size: [8, 16]\n  instance_group.count: [1, 2, 3]",
    "three kinds": "max_batch_size: [8, 16]\n  instance_group.count: [1, 2]",
    "encode_score": (
        "max_batch_size: [8, 16]\n  instance_group.count: [1, 3]\n"
        "  dynamic_batching.max_queue_delay_microseconds: [0, 2000]"
    ),
    "detect_embed_rank": "max_batch_size: [8, 16]\n  instance_group.count: [1, 2]",
}
"""Small enough to be measured whole; the models' own settings are added to each."""
_NEAR, _LEADING, _ROUNDS, _MOST_TURNS = 0.9, 4, 3, 5
_SPREAD = 8
"""Candidates whose simulated capacity is held against the measured one."""


def small_space(workload: Mix | EmulatedPipeline) -> str:
    """The text of a space that can be measured whole."""
    return f"name: truth\nparameters:\n  {SPACES[workload.name]}\n"


def options_of(workload: Mix | EmulatedPipeline, folder: Path, space: str) -> dict[str, Any]:
    """Of an experiment with this workload, whose repository is made in ``folder``; ``space`` is the
    text of its file.
    """
    folder.mkdir(parents=True)
    repository = workload.repository(folder)
    file = folder.with_suffix(".yaml")
    file.write_text(space, encoding="utf-8")
    common = {"launcher": "local", "space": str(file)}
    if isinstance(workload, EmulatedPipeline):
        return {**common, "model": str(repository / workload.name), "sla": workload.sla}
    names = [model.name for model in workload.models]
    slas = (f"{name}:{sla}" for name, sla in zip(names, workload.slas, strict=True))
    shares = (f"{name}={share}" for name, share in zip(names, workload.shares, strict=True))
    return {
        **common,
        "model": str(repository),
        "sla": ",".join(slas),
        "mix": ",".join(shares),
    }


class Together:
    """Measures candidates of one workload, always in the same way."""

    def __init__(
        self,
        workload: Mix | EmulatedPipeline,
        folder: Path,
        generator: LoadEngine,
        space: str | None = None,
        engine: str = "tuner",
    ) -> None:
        options = options_of(workload, folder / "models", space or small_space(workload))
        options["load_engine"] = engine
        self.plan = Plan.of(resolve(options))
        self.space, self.own = self.plan.space, self.plan.own
        self._generator = generator
        self._run = Run.create(folder / "run")
        self._launcher = LocalLauncher()

    def measure(
        self, candidate: Candidate, seed: int, least: float, near: float = 0.0
    ) -> Evaluation:
        """Its capacity, roughly where surely less than ``least``, and by fewer probes if it is
        thought to be ``near`` a rate.
        """
        plan = self.plan.changed(seed=seed, relaunch="always")
        evaluator = make_evaluator(
            plan, self._launcher, self._generator, Gpus("none"), self._run, Silent()
        )
        evaluation = evaluator.search(Subject(seed, candidate), least, expected=near)
        evaluator.close()
        if evaluation.failure:
            print(candidate, evaluation.failure.splitlines()[0], file=sys.stderr)
        return evaluation

    def capacity(self, candidate: Candidate, seed: int, least: float) -> float:
        """Requests/s; 0.0 where it fails or meets the SLA at no rate."""
        return self.measure(candidate, seed, least).estimate or 0.0

    def close(self) -> None:
        self._launcher.close()


@contextmanager
def together(workload: Mix | EmulatedPipeline, space: str | None = None) -> Iterator[Together]:
    with tempfile.TemporaryDirectory() as name, LoadGenerator() as generator:
        harness = Together(workload, Path(name), generator, space)
        with contextlib.closing(harness):
            yield harness


def measure_all(workload: Mix | EmulatedPipeline) -> dict[str, Row]:
    """Capacities of every candidate: all rounds, and their median."""
    with together(workload) as harness:
        found: dict[Candidate, list[float]] = {}
        exact: set[Candidate] = set()
        best = 0.0
        every = list(harness.space.candidates() or {})
        random.Random(0).shuffle(every)
        for number, candidate in enumerate(every):
            evaluation = harness.measure(candidate, number, _NEAR * best, best)
            rate = evaluation.estimate or 0.0
            found[candidate] = [rate]
            if evaluation.state is State.OK:
                exact.add(candidate)
                best = max(best, rate)
            print(workload.name, f"{number}/{len(every)}", candidate, round(rate), file=sys.stderr)
        for turn in range(1, _MOST_TURNS):
            for number, candidate in enumerate(_leading(found)):
                if len(found[candidate]) < _ROUNDS:
                    rate = harness.capacity(candidate, 1000 * turn + number, 0.0)
                    found[candidate].append(rate)
                    exact.add(candidate)
                    print(workload.name, "again", candidate, round(rate), file=sys.stderr)
        return {
            str(candidate): {
                "capacity": round(median(each), 1),
                "rounds": [round(rate, 1) for rate in each],
                "exact": candidate in exact,
                "settings": dict(candidate.settings),
            }
            for candidate, each in found.items()
        }


def _leading(found: dict[Candidate, list[float]]) -> list[Candidate]:
    by_rate = sorted(found, key=lambda c: median(found[c]), reverse=True)
    least = _NEAR * median(found[by_rate[0]])
    return [c for c in by_rate[:_LEADING] if median(found[c]) >= least]


def read_truth(workload: Mix | EmulatedPipeline) -> dict[Candidate, tuple[float, bool]]:
    """Capacities (requests/s), and whether they are more than rough."""
    rows = json.loads(truth_file(workload).read_text(encoding="utf-8"))["rows"]
    return {Candidate.of(row["settings"]): (row["capacity"], row["exact"]) for row in rows.values()}


def truth_file(workload: Mix | EmulatedPipeline) -> Path:
    return TRUTH / f"{workload.name.replace(' ', '_')}.json"


def search(
    workload: Mix | EmulatedPipeline, folder: Path, space: str, *words: str
) -> tuple[Run, float]:
    """One search through the command line; its run, and the seconds it took."""
    options = options_of(workload, folder / "models", space)
    command = [sys.executable, "-m", "tuner", "search", options.pop("model")]
    command += itertools.chain.from_iterable((f"--{k}", str(v)) for k, v in options.items())
    command += [*words, "--output", str(folder / "reports"), "--run", "found"]
    began = time.monotonic()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Run.open(folder / "reports" / "found"), time.monotonic() - began


def judge(workload: Mix | EmulatedPipeline, seed: int) -> Row:
    """What one search found and took, and how good its simulation was."""
    truth = read_truth(workload)
    top = max(truth, key=lambda each: truth[each][0])
    with tempfile.TemporaryDirectory() as name:
        run, seconds = search(workload, Path(name), small_space(workload), "--seed", str(seed))
        final = winner_of(run.evaluations())
        quality = 0.0
        if final is not None:
            quality = truth.get(final.candidate, (0.0, False))[0] / truth[top][0]
            if quality < GOOD:
                quality = _beside(workload, final.candidate, top)
        expected = spread(workload, run) if seed == 0 else {}
        trials = sum(each.phase == "search" for each in run.evaluations())
    return {
        "quality": round(quality, 4),
        "seconds": round(seconds, 1),
        "trials": trials,
        "winner": None if final is None else str(final.candidate),
        "best": str(top),
        **expected,
    }


def _beside(workload: Mix | EmulatedPipeline, found: Candidate, top: Candidate) -> float:
    rates: dict[Candidate, list[float]] = {found: [], top: []}
    with together(workload) as harness:
        for turn, candidate in itertools.product(range(_ROUNDS), (found, top)):
            rates[candidate].append(harness.capacity(candidate, turn, 0.0))
    return min(1.0, median(rates[found]) / median(rates[top]))


def spread(workload: Mix | EmulatedPipeline, run: Run) -> Row:
    """How near the simulation came before anything was measured: candidates at even distances in
    the order of their simulated capacity, measured with the effort of a search that simulates
    nothing.
    """
    plan = Plan.of(run.manifest().experiment)
    simulator = make_simulator(plan, make_workload(plan, Gpus("none")))
    forecast = Forecast(SimulatedSpace(plan.space, simulator, 0).simulate(run.windows()))
    ranked = sorted(forecast.candidates, key=forecast.expected)
    places = np.unique(np.linspace(0, len(ranked) - 1, _SPREAD).astype(int))
    pairs = []
    with together(workload) as harness:
        for number, place in enumerate(places):
            candidate = ranked[place]
            pair = forecast.expected(candidate), harness.capacity(candidate, number, 0.0)
            print(workload.name, candidate, *map(round, pair), file=sys.stderr)
            pairs.append(pair)
    simulated, measured = (np.array(each) for each in zip(*pairs, strict=True))
    known = measured > 0
    ratios = simulated[known] / measured[known]
    ranks = [np.argsort(np.argsort(each)) for each in (simulated, measured)]
    return {
        "simulated": len(pairs),
        "error": round(float(np.median(np.abs(ratios - 1))), 4),
        "rank_correlation": round(float(np.corrcoef(*ranks)[0, 1]), 4),
        "pairs": [[round(one, 1), round(other, 1)] for one, other in pairs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.together", description=__doc__)
    parser.add_argument("what", choices=("truth", "search"))
    parser.add_argument("workloads", nargs="*", help="by name; all if none is given")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    chosen = [w for w in WORKLOADS if not given.workloads or w.name in given.workloads]
    began = time.monotonic()
    with awake() as about:
        notes = [about] if about else []
        if given.what == "truth":
            for workload in chosen:
                _truth(workload)
            return
        found: dict[str, list[Row]] = {}
        for seed, workload in itertools.product(range(given.seeds), chosen):
            row = judge(workload, seed)
            print(workload.name, seed, row, file=sys.stderr)
            found.setdefault(workload.name, []).append(row)
    rows = {name: _summary(each) for name, each in found.items()}
    command = f"python -m benchmarks.together search --seeds {given.seeds}"
    write(RESULTS, "together", command, began, rows, notes)


def _truth(workload: Mix | EmulatedPipeline) -> None:
    began = time.monotonic()
    rows = measure_all(workload)
    command = f"python -m benchmarks.together truth {workload.name!r}"
    write(truth_file(workload), "ground truth", command, began, rows, [])


def _summary(rows: list[Row]) -> Row:
    """Medians over seeds, and the worst quality."""
    known = [row for row in rows if "error" in row]
    return {
        "quality": median(row["quality"] for row in rows),
        "worst": min(row["quality"] for row in rows),
        "seconds": median(row["seconds"] for row in rows),
        "trials": median(row["trials"] for row in rows),
        "error": median(row["error"] for row in known) if known else None,
        "rank_correlation": median(r["rank_correlation"] for r in known) if known else None,
        "seeds": len(rows),
        "each": rows,
    }


if __name__ == "__main__":
    main()
