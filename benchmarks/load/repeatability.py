"""How well capacity repeats: the same configuration measured again and again, each time afresh."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.load.bench import ROOT, Row, summary
from tuner.arrivals import Arrivals
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.evaluate import Evaluator, Subject
from tuner.load.generator import LoadGenerator
from tuner.load.target import Protocol
from tuner.model_config import read_config
from tuner.results import ProbeRecord, Run
from tuner.servers.local import LocalLauncher
from tuner.sla import Sla
from tuner.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate

SLA = "p99<40ms"
CONFIGURATIONS = {
    "as found (batches to 8, 1 instance)": (8, 1),
    "batches to 32, 2 instances": (32, 2),
}


class Silent:
    """Nobody is told anything."""

    def launching(self, *_: object) -> None: ...

    def probing(self, what: str, rate: float | None) -> None: ...

    def probed(self, record: ProbeRecord) -> None: ...


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    found: dict[str, list[tuple[float, float, float, float, int]]] = {}
    with tempfile.TemporaryDirectory() as name, LoadGenerator() as generator:
        model = Path(
            shutil.copytree(ROOT / "model_repository/emulated_gpu", Path(name) / "emulated_gpu")
        )
        run = Run.create(Path(name) / "run", {})
        with LocalLauncher() as launcher:
            deployment = TritonDeployment(
                launcher, model, read_config(model), Protocol.HTTP, Inputs()
            )
            for seed in range(rounds):
                for label, (batch, count) in CONFIGURATIONS.items():
                    evaluator = Evaluator(
                        deployment,
                        generator,
                        Sla.parse(SLA),
                        Arrivals.POISSON,
                        run,
                        seed,
                        Silent(),
                    )
                    candidate = Candidate.of({MAX_BATCH_SIZE: batch, INSTANCE_COUNT: count})
                    done = evaluator.search(Subject(0, candidate), 0.0)
                    if done.capacity and done.low and done.high:
                        sent = sum(p.n for p in done.probes)
                        found.setdefault(label, []).append(
                            (done.capacity, done.low, done.high, done.seconds, sent)
                        )
    return {label: _row(each) for label, each in found.items()}, [
        f"emulated_gpu at {SLA}, {rounds} capacities of each configuration by turns, each on a "
        "fresh server with fresh arrivals. Seconds include launch and warm-up. The interval is "
        "the one of 95 % that each measurement states, relative to its capacity"
    ]


def _row(found: list[tuple[float, float, float, float, int]]) -> Row:
    rates = np.array([each[0] for each in found])
    return {
        "capacity": summary(rates.tolist(), 0),
        "cv": round(100 * float(rates.std(ddof=1) / rates.mean()), 2),
        "interval": summary([100 * (high - low) / rate for rate, low, high, _, _ in found]),
        "seconds": summary([each[3] for each in found]),
        "sent": round(float(np.mean([each[4] for each in found]))),
    }
