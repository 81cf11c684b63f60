"""Every candidate of a small space, measured: ``python -m benchmarks.ground_truth [WORKLOAD ...]``.

What a search should have found is known then. Each candidate is measured, in a random order; one
that surely holds less than nine tenths of the best so far is left at what is known of it by then.
The six best are measured twice more, by turns, since the best of many single measurements flatters,
and so is whatever takes the place of one that falls behind. One result file a workload, under
``benchmarks/results/truth``.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.workloads import SPACE, WORKLOADS, Workload, named
from tuner.commands.audience import Silent
from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.measurement.draft import Draft
from tuner.measurement.evaluate import Evaluator, seeds_of
from tuner.measurement.session import CandidateSession, Conditions, Sessions
from tuner.model.config import fit_space, read_config
from tuner.model.space import Candidate, SearchSpace
from tuner.model.space_file import parse_space
from tuner.model.weights import complete_model
from tuner.records.run import Run
from tuner.servers.local import LocalLauncher

RESULTS = ROOT / "benchmarks/results/truth"
_NEAR = 0.9
_ROUNDS, _MOST_TURNS = 3, 6
_LEADING = 6


class Harness:
    """Measures candidates of one workload, always in the same way."""

    def __init__(self, workload: Workload, folder: Path, generator: LoadGenerator) -> None:
        self.model = complete_model(workload.model(folder / "models"))
        config = read_config(self.model)
        self.space = self.space_of(config)
        self._workload = workload
        self._generator = generator
        self._run = Run.create(folder / "run")
        self._launcher = LocalLauncher()
        self._deployment = TritonDeployment(
            self._launcher,
            self.model,
            config,
            Transport.HTTP,
            Inputs(batches=BatchMix.parse(workload.batch)),
        )

    @staticmethod
    def space_of(config: Any) -> SearchSpace:
        """The space as it is for a model with that configuration."""
        return fit_space(parse_space(SPACE, "benchmarks/workloads.py"), config)

    def capacity(self, candidate: Candidate, seed: int, least: float) -> float:
        """Requests/s, roughly where surely less than ``least``; 0.0 where it fails or meets the
        promise at no rate.
        """
        evaluator = Evaluator(
            TritonCandidates(self._deployment),
            self._generator,
            Conditions(Sla.parse(self._workload.sla), Arrivals.parse(self._workload.load)),
            self._run,
            seed,
            Silent(),
            keeps_servers=False,
        )
        evaluation = evaluator.search(Subject(seed, candidate), least)
        if evaluation.failure:
            print(candidate, evaluation.failure.splitlines()[0], file=sys.stderr)
        return evaluation.estimate or 0.0

    @contextmanager
    def session(self, candidate: Candidate, seed: int) -> Iterator[CandidateSession]:
        """A fresh server of the candidate, warmed up to saturation; ``seed`` is of its arrivals."""
        sessions = Sessions(
            TritonCandidates(self._deployment),
            self._generator,
            Conditions(Sla.parse(self._workload.sla), Arrivals.parse(self._workload.load)),
            self._run,
            Silent(),
            keeps_servers=False,
        )
        subject = Subject(seed, candidate)
        draft = Draft(subject, "measure", "", seeds_of(seed, subject, "measure", 0))
        with closing(sessions), sessions.open(draft) as session:
            session.unloaded()
            session.warm_up()
            yield session

    def close(self) -> None:
        self._launcher.close()

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measure(workload: Workload) -> dict[str, Row]:
    """Capacities of every candidate: all rounds, and their median."""
    with (
        tempfile.TemporaryDirectory() as name,
        LoadGenerator() as generator,
        Harness(workload, Path(name), generator) as harness,
    ):
        found: dict[Candidate, list[float]] = {}
        best = 0.0
        every = list(harness.space.candidates() or {})
        random.Random(0).shuffle(every)
        for number, candidate in enumerate(every):
            rate = harness.capacity(candidate, number, _NEAR * best)
            found[candidate] = [rate]
            best = max(best, rate)
            print(workload.name, candidate, round(rate), file=sys.stderr)
        for turn in range(1, _MOST_TURNS):
            again = [c for c in _leading(found) if len(found[c]) < _ROUNDS]
            for number, candidate in enumerate(again):
                rate = harness.capacity(candidate, 1000 * turn + number, 0.0)
                found[candidate].append(rate)
                print(workload.name, "again", candidate, round(rate), file=sys.stderr)
        return {
            str(candidate): {
                "capacity": round(median(each), 1),
                "rounds": [round(rate, 1) for rate in each],
                "settings": dict(candidate.settings),
            }
            for candidate, each in found.items()
        }


def _leading(found: dict[Candidate, list[float]]) -> list[Candidate]:
    """The best that are near the best one."""
    by_rate = sorted(found, key=lambda c: median(found[c]), reverse=True)
    least = _NEAR * median(found[by_rate[0]])
    return [c for c in by_rate[:_LEADING] if median(found[c]) >= least]


def read_truth(workload: Workload) -> dict[Candidate, float]:
    """Capacities (requests/s) by candidate; none where they were not measured."""
    file = truth_file(workload)
    if not file.is_file():
        return {}
    rows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return {Candidate.of(row["settings"]): row["capacity"] for row in rows.values()}


def truth_file(workload: Workload) -> Path:
    return RESULTS / f"{workload.name.replace(' ', '_')}.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ground_truth", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="by name; all if none is given")
    parser.add_argument(
        "--keep-awake", action="store_true", help="on a virtual machine: let no core go to sleep"
    )
    given = parser.parse_args()
    chosen = [named(name) for name in given.workloads] or list(WORKLOADS)
    for workload in chosen:
        began = time.monotonic()
        with awake() if given.keep_awake else contextlib.nullcontext() as about:
            rows = measure(workload)
        command = f"python -m benchmarks.ground_truth {workload.name!r}"
        command += " --keep-awake" * given.keep_awake
        notes = [f"{workload.sla}, {workload.load}, {workload.batch} items", *filter(None, [about])]
        file = truth_file(workload)
        write(file, "ground truth", command, began, rows, notes)
        print(file, file=sys.stderr)


if __name__ == "__main__":
    main()
