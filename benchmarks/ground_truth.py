"""Every candidate of a small space, measured: ``python -m benchmarks.ground_truth [WORKLOAD ...]``.

What a search should have found is known then. Each candidate is measured once; those within a tenth
of the best are measured twice more, by turns, since the best of many single measurements flatters.
One result file a workload, under ``benchmarks/results/truth``.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from benchmarks.load.repeatability import Silent
from benchmarks.workloads import SPACE, WORKLOADS, Workload, named
from tuner.arrivals import Arrivals
from tuner.batches import BatchMix
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.draft import Subject
from tuner.evaluate import Evaluator
from tuner.load.generator import LoadGenerator
from tuner.load.target import Protocol
from tuner.model_config import fit_space, read_config
from tuner.results import Run
from tuner.servers.local import LocalLauncher
from tuner.sla import Sla
from tuner.space import Candidate, parse_space

RESULTS = ROOT / "benchmarks/results/truth"
_NEAR = 0.9
_AGAIN = 2


class Harness:
    """Measures candidates of one workload, always in the same way."""

    def __init__(self, workload: Workload, folder: Path, generator: LoadGenerator) -> None:
        self.model = workload.model(folder / "models")
        config = read_config(self.model)
        self.space = fit_space(parse_space(SPACE, "benchmarks/workloads.py"), config)
        self._workload = workload
        self._generator = generator
        self._run = Run.create(folder / "run", {})
        self._launcher = LocalLauncher()
        self._deployment = TritonDeployment(
            self._launcher,
            self.model,
            config,
            Protocol.HTTP,
            Inputs(batches=BatchMix.parse(workload.batch)),
        )

    def capacity(self, candidate: Candidate, seed: int) -> float:
        """Requests/s; 0.0 where it fails or meets the promise at no rate."""
        evaluator = Evaluator(
            self._deployment,
            self._generator,
            Sla.parse(self._workload.sla),
            Arrivals.parse(self._workload.load),
            self._run,
            seed,
            Silent(),
            relaunch="always",
        )
        return evaluator.search(Subject(seed, candidate), 0.0).capacity or 0.0

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
        for number, candidate in enumerate(harness.space.candidates() or {}):
            found[candidate] = [harness.capacity(candidate, number)]
            print(workload.name, candidate, round(found[candidate][0]), file=sys.stderr)
        best = max(each[0] for each in found.values())
        near = [c for c, each in found.items() if each[0] >= _NEAR * best]
        for turn in range(1, _AGAIN + 1):
            for number, candidate in enumerate(near):
                found[candidate].append(harness.capacity(candidate, 1000 * turn + number))
        return {
            str(candidate): {
                "capacity": round(median(each), 1),
                "rounds": [round(rate, 1) for rate in each],
                "settings": dict(candidate.settings),
            }
            for candidate, each in found.items()
        }


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
        file = RESULTS / f"{workload.name.replace(' ', '_')}.json"
        write(file, "ground truth", command, began, rows, notes)
        print(file, file=sys.stderr)


if __name__ == "__main__":
    main()
