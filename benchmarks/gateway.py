"""What the gateway costs over asking Triton itself: ``python -m benchmarks.gateway [--rounds N]``.

The same requests go to one Triton over gRPC, and to a gateway of one worker in front of another
Triton in the same configuration; by turns, on servers that run side by side. The gateway gets
what its clients would send (text or JSON over HTTP/1.1), Triton its tensors.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from tuner.commands.audience import Silent
from tuner.deployments.base import Running
from tuner.deployments.lineup import Lineup
from tuner.deployments.payload import Payload
from tuner.deployments.service import RunningService
from tuner.deployments.subjects import DeploymentSet, Subject
from tuner.deployments.triton import FixedInputs, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.measurement.evaluate import compare_deployments
from tuner.measurement.session import Conditions, Sessions
from tuner.measurement.settings import CONFIRMATION
from tuner.model.config import read_config
from tuner.model.signature import Signature
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    QUEUE_DELAY,
    Candidate,
)
from tuner.records.run import Run
from tuner.servers.gpu import Gpus
from tuner.servers.local import LocalLauncher

SLA = "p99<30ms"
MODELS: dict[str, Candidate] = {
    "text_classifier": Candidate.of(
        {
            MAX_BATCH_SIZE: 32,
            DYNAMIC_BATCHING: True,
            QUEUE_DELAY: 0,
            INSTANCE_COUNT: 1,
            "parameters[intra_op_thread_count]": "1",
        }
    ),
    "emulated_gpu": Candidate.of({MAX_BATCH_SIZE: 8, DYNAMIC_BATCHING: True, INSTANCE_COUNT: 1}),
}
NAMES = ("triton-tuned", "hybrid")
SUBJECTS = [Subject(number, deployment=name) for number, name in enumerate(NAMES)]
_SECONDS = 3.0
_DRAIN = 5.0


def deployments(model: Path, candidate: Candidate, launcher: LocalLauncher) -> DeploymentSet:
    """Triton and the gateway in front of it, by the names of the lineup."""
    config = read_config(model)
    payload = Payload.of(model, Signature.of_config(config))
    inputs = FixedInputs(payload.pool)
    triton = TritonDeployment(launcher, model, config, Transport.GRPC, inputs, opens="model")
    lineup = Lineup(model, triton, payload, Gpus("none"), candidate)
    return DeploymentSet({e.name: e.deployment for e in lineup.entries(NAMES, {})})


def capacities(
    several: DeploymentSet, run: Run, generator: LoadGenerator, seed: int
) -> list[float]:
    """Of both, in interleaved rounds; requests/s."""
    conditions = Conditions(Sla.parse(SLA), Arrivals.POISSON, verification="none")
    sessions = Sessions(several, generator, conditions, run, Silent())
    rounds = compare_deployments(sessions, SUBJECTS, seed, CONFIRMATION.rounds)
    found = rounds.play(side_by_side=True)
    for each in found:
        if each.failure is not None:
            raise SystemExit(each.failure)
    return [each.capacity or 0.0 for each in found]


def latencies(
    several: DeploymentSet, folder: Path, generator: LoadGenerator, rate: float, rounds: int
) -> Iterator[Row]:
    """Of each round, medians of the latency alone and at the rate (s), and the gateway's CPU (s)
    per request.
    """
    with contextlib.ExitStack() as stack:
        each = {
            str(subject.deployment): stack.enter_context(
                several.start(subject, folder / f"{subject.deployment}.log")
            )
            for subject in SUBJECTS
        }
        for running in each.values():  # warm
            generator.aim(running.target)
            generator.closed_loop(8, 1.0, _DRAIN)
        for number in range(rounds):
            row: Row = {}
            for name, running in each.items():
                row[f"{name} alone"] = _alone(running, generator)
                row |= _at(running, generator, rate, number, name)
            yield row


def _alone(running: Running, generator: LoadGenerator) -> float:
    generator.aim(running.target)
    return float(np.median(generator.closed_loop(1, _SECONDS / 2, _DRAIN).samples.latency))


def _at(running: Running, generator: LoadGenerator, rate: float, seed: int, name: str) -> Row:
    times = schedule(Arrivals.POISSON, rate, _SECONDS, np.random.default_rng(seed))
    before = _cpu(running)
    samples = generator.open_loop(times, _DRAIN).samples
    row: Row = {f"{name} at half": float(np.median(samples.latency))}
    if before is not None:
        row["cpu"] = ((_cpu(running) or 0.0) - before) / len(samples)
    return row


def _cpu(running: Running) -> float | None:
    if not isinstance(running, RunningService) or running.server is None:
        return None
    usage = running.server.usage()
    return None if usage is None else usage.cpu


def measure(model: str, candidate: Candidate, rounds: int, folder: Path) -> Row:
    copied = Path(
        shutil.copytree(
            ROOT / "model_repository" / model,
            folder / "models" / model,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    )
    with LocalLauncher() as launcher, LoadGenerator() as generator:
        several = deployments(copied, candidate, launcher)
        run = Run.create(folder / "run")
        found = [capacities(several, run, generator, seed) for seed in range(rounds)]
        direct, hybrid = (median(each) for each in zip(*found, strict=True))
        rate = min(direct, hybrid) / 2
        seen = list(latencies(several, folder, generator, rate, 3 * rounds))
    return {
        "configuration": str(candidate),
        "direct_capacity": round(direct),
        "hybrid_capacity": round(hybrid),
        "share": round(median(h / d for d, h in found), 3),
        "shares": [round(h / d, 3) for d, h in found],
        "rate": round(rate),
        **_overhead(seen, "alone"),
        **_overhead(seen, "at half"),
        "gateway_cpu_us": round(1e6 * median(row["cpu"] for row in seen)),
    }


def _overhead(seen: list[Row], when: str) -> dict[str, Any]:
    """Medians in ms, and that of the differences within a round."""
    direct, hybrid = (f"{name} {when}" for name in NAMES)
    key = when.replace(" ", "_")
    return {
        f"direct_{key}_ms": round(1e3 * median(row[direct] for row in seen), 3),
        f"hybrid_{key}_ms": round(1e3 * median(row[hybrid] for row in seen), 3),
        f"overhead_{key}_ms": round(1e3 * median(row[hybrid] - row[direct] for row in seen), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gateway.json")
    parser.add_argument(
        "--keep-awake", action="store_true", help="on a virtual machine: let no core go to sleep"
    )
    given = parser.parse_args()
    began = time.monotonic()
    rows: dict[str, Row] = {}
    with awake() if given.keep_awake else contextlib.nullcontext() as about:
        for model, candidate in MODELS.items():
            with tempfile.TemporaryDirectory() as name:
                rows[model] = measure(model, candidate, given.rounds, Path(name))
                print(model, rows[model], file=sys.stderr)
    notes = [
        f"capacities are within {SLA}, medians of {given.rounds} measurements of three interleaved "
        "rounds each; the share is the median of their ratios",
        "latencies are p50, medians of alternate looks at both; half is half of the smaller "
        "capacity, for both",
        "one gateway worker; client, gateway and Triton share the machine's cores",
        *([about] if about else []),
    ]
    words = f"--rounds {given.rounds}" + " --keep-awake" * given.keep_awake
    write(given.out, "gateway", f"python -m benchmarks.gateway {words}", began, rows, notes)


if __name__ == "__main__":
    main()
