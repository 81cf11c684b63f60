"""How well capacity repeats: the same configuration measured again and again, each time afresh;
and the same of simulated queues, which no other tenant of the machine disturbs.
"""

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.load.bench import ROOT, Row, summary
from benchmarks.queues import QueueServer, batches
from tuner.commands.audience import Silent
from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.measurement.capacity import find_capacity
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions
from tuner.measurement.settings import EFFORTS
from tuner.model.config import read_config
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate
from tuner.records.run import Run
from tuner.servers.local import LocalLauncher

SLA = "p99<40ms"
CONFIGURATIONS = {
    "as found (batches to 8, 1 instance)": (8, 1),
    "batches to 32, 2 instances": (32, 2),
}
SIMULATED = {"simulated, batches to 8": 8, "simulated, batches to 64": 64}
SIMULATIONS = 40


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    found: dict[str, list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as name, LoadGenerator() as generator:
        model = Path(
            shutil.copytree(ROOT / "model_repository/emulated_gpu", Path(name) / "emulated_gpu")
        )
        run = Run.create(Path(name) / "run")
        with LocalLauncher() as launcher:
            deployment = TritonDeployment(
                launcher, model, read_config(model), Transport.HTTP, Inputs()
            )
            for seed in range(rounds):
                for label, (batch, count) in CONFIGURATIONS.items():
                    evaluator = Evaluator(
                        TritonCandidates(deployment),
                        generator,
                        Conditions(Sla.parse(SLA), Arrivals.POISSON),
                        run,
                        seed,
                        Silent(),
                    )
                    candidate = Candidate.of({MAX_BATCH_SIZE: batch, INSTANCE_COUNT: count})
                    done = evaluator.search(Subject(0, candidate), 0.0)
                    if done.capacity and done.low and done.high:
                        sent = sum(p.n for p in done.probes)
                        alone = done.probes[0].latency["p50"] or math.nan
                        found.setdefault(label, []).append(
                            (done.capacity, done.low, done.high, sent, done.seconds, alone)
                        )
    found |= {label: _simulate(most) for label, most in SIMULATED.items()}
    return {label: _row(each) for label, each in found.items()}, [
        f"emulated_gpu at {SLA}, {rounds} capacities of each configuration by turns, each on a "
        "fresh server with fresh arrivals. Seconds include launch and warm-up. The interval is "
        "the one of 95 % that each measurement states, relative to its capacity",
        "the p50 of one request at a time, measured just before, shows what the machine itself "
        "varied by meanwhile",
        f"the simulated rows are {SIMULATIONS} capacities of a queue with a batcher, found in the "
        "same way, on no machine",
    ]


def _simulate(most: int) -> list[tuple[float, ...]]:
    found = []
    base, per_item = 0.004, 0.00035
    queue = batches(base, per_item, most)
    start = 0.7 * most / (base + per_item * most)
    for seed in range(SIMULATIONS):
        probe = QueueServer(queue, Sla.parse(SLA), seed=seed)
        done = find_capacity(probe, start, EFFORTS.search)
        assert done.rate is not None
        assert done.low is not None
        assert done.high is not None
        found.append((done.rate, done.low, done.high, 3.0 * sum(probe.probed)))
    return found


def _row(found: list[tuple[float, ...]]) -> Row:
    rates = np.array([each[0] for each in found])
    row: Row = {
        "capacity": summary(rates.tolist(), 0),
        "cv": round(100 * float(rates.std(ddof=1) / rates.mean()), 2),
        "interval": summary([100 * (high - low) / rate for rate, low, high, *_ in found]),
        "sent": round(float(np.mean([each[3] for each in found]))),
    }
    if len(found[0]) > 4:
        row["seconds"] = summary([each[4] for each in found])
        row["alone_ms"] = summary([1e3 * each[5] for each in found], 2)
    return row
