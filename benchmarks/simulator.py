"""How fast the simulator is, and how near it comes to a real server: ``python -m
benchmarks.simulator [--rounds N] [--keep-awake]``.

Each round calibrates once, as a search does, and then measures the capacity of every configuration;
the simulator knows nothing of these measurements.
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

import numpy as np
from scipy.stats import spearmanr

from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, Row, write
from tuner.commands.audience import Silent
from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.measurement.calibrate import CalibrationPlan
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions
from tuner.model.config import fit_space, own_settings, read_config, render
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
)
from tuner.model.space_file import load_space
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.servers.local import LocalLauncher
from tuner.simulator.predict import play, predict_capacity
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes

MODEL, SLA = "emulated_gpu", "p99<40ms"
Settings = tuple[int, int, tuple[int, ...], int]
CONFIGURATIONS: tuple[Settings, ...] = (
    (4, 3, (), 0),
    (8, 1, (), 0),
    (8, 2, (), 0),
    (8, 4, (), 0),
    (16, 1, (), 0),
    (16, 2, (), 0),
    (32, 1, (), 0),
    (32, 2, (), 0),
    (64, 1, (), 0),
    (64, 2, (), 0),
    (64, 4, (), 0),
    (64, 2, (4, 8), 0),
    (64, 2, (), 5000),
    (16, 2, (8,), 1000),
)
_SPEED_REQUESTS = 1_000_000
_PLAYED = 50_000


def speed(rounds: int) -> Row:
    """Simulated requests per second of one core, for a small and a large batch limit."""
    seconds = 4e-3 + 0.35e-3 * np.arange(65)
    found = {}
    for limit, count, rate in ((8, 1, 800.0), (64, 2, 2000.0)):
        scheduling = Scheduling(True, limit, (limit,), instances=count)
        play(rate, 1000, scheduling, ServiceTimes(seconds, 0.7))
        times = []
        for seed in range(rounds):
            began = time.perf_counter()
            play(rate, _SPEED_REQUESTS, scheduling, ServiceTimes(seconds, 0.7), seed=seed)
            times.append(time.perf_counter() - began)
        found[f"batches to {limit}, {count} x"] = round(_SPEED_REQUESTS / median(times))
    return {"requests_per_second": found}


def predictions(rounds: int) -> Iterator[tuple[Settings, Row]]:
    """Of each configuration, what was simulated and what was measured, by round."""
    sla = Sla.parse(SLA)
    seen: dict[Settings, list[tuple[float, Evaluation, ServiceTimes, Scheduling]]] = {}
    with tempfile.TemporaryDirectory() as name, LoadGenerator() as generator:
        folder = Path(shutil.copytree(ROOT / "model_repository" / MODEL, Path(name) / MODEL))
        config = read_config(folder)
        space = fit_space(load_space("default"), config)
        with LocalLauncher() as launcher:
            deployment = TritonDeployment(launcher, folder, config, Transport.HTTP, Inputs())
            for number in range(rounds):
                run = Run.create(Path(name) / f"run-{number}")
                evaluator = Evaluator(
                    TritonCandidates(deployment),
                    generator,
                    Conditions(sla, Arrivals.POISSON),
                    run,
                    number,
                    Silent(),
                )
                evaluator.calibrate(CalibrationPlan.of(space, own_settings(space, config)))
                evaluator.close()
                profile = ModelProfile.fit(run.windows())
                assert profile is not None
                for trial, settings in enumerate(CONFIGURATIONS):
                    candidate = _candidate(settings)
                    scheduling = Scheduling.of(render(config, candidate))
                    service = profile.service(scheduling)
                    simulated = predict_capacity(scheduling, service, sla)
                    measured = evaluator.search(Subject(trial, candidate), 0.0)
                    evaluator.close()
                    print(candidate, round(simulated), measured.capacity, file=sys.stderr)
                    seen.setdefault(settings, []).append((simulated, measured, service, scheduling))
    for settings, each in seen.items():
        yield settings, _row(each)


def _candidate(settings: Settings) -> Candidate:
    largest, count, preferred, delay = settings
    return Candidate.of(
        {
            MAX_BATCH_SIZE: largest,
            INSTANCE_COUNT: count,
            DYNAMIC_BATCHING: True,
            PREFERRED: preferred,
            QUEUE_DELAY: delay,
        }
    )


def _row(each: list[tuple[float, Evaluation, ServiceTimes, Scheduling]]) -> Row:
    simulated = median([rate for rate, *_ in each])
    measured = median([e.capacity or 0.0 for _, e, *_ in each])
    pairs = [_alike(e, service, scheduling) for _, e, service, scheduling in each]
    ratios = {
        key: round(median([p[key] for p in pairs if key in p]), 3)
        for key in ("mean_batch", "p50", "p99")
        if any(key in p for p in pairs)
    }
    return {
        "simulated": round(simulated),
        "measured": round(measured),
        "rounds": [round(e.capacity or 0.0) for _, e, *_ in each],
        "ratio": round(simulated / measured, 3),
        **ratios,
    }


def _alike(
    evaluation: Evaluation, service: ServiceTimes, scheduling: Scheduling
) -> dict[str, float]:
    """Simulated over measured at the lowest rate that was probed: mean batch, p50, p99."""
    probes = [p for p in evaluation.probes if p.rate is not None and p.server is not None]
    if not probes:
        return {}
    probe = min(probes, key=lambda p: p.rate or 0.0)
    played = play(probe.rate or 1.0, _PLAYED, scheduling, service)
    latency = played.samples.latency
    number = sum(played.batches.values())
    batch = sum(size * n for size, n in played.batches.items()) / number
    found = {"mean_batch": batch / (probe.server.mean_batch or 1.0) if probe.server else 1.0}
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        value = probe.latency.get(name)
        if value:
            found[name] = float(np.quantile(latency, q)) / value
    return found


def _label(settings: Settings) -> str:
    return str(_candidate(settings))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulator", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/simulator.json")
    parser.add_argument(
        "--keep-awake", action="store_true", help="on a virtual machine: let no core go to sleep"
    )
    given = parser.parse_args()
    began = time.monotonic()
    rows: dict[str, Row] = {"speed": speed(given.rounds)}
    with awake() if given.keep_awake else contextlib.nullcontext() as about:
        found = dict(predictions(given.rounds))
    rows |= {_label(settings): row for settings, row in found.items()}
    ratios = np.array([row["ratio"] for row in found.values()])
    rank = spearmanr(
        [row["simulated"] for row in found.values()], [row["measured"] for row in found.values()]
    )[0]
    rows["all"] = {
        "median_error": round(100 * float(np.median(np.abs(ratios - 1))), 1),
        "rank_correlation": round(float(rank), 3),
        **{
            f"median_error_{key}": round(
                100 * float(np.median([abs(r[key] - 1) for r in found.values() if key in r])), 1
            )
            for key in ("mean_batch", "p50", "p99")
        },
    }
    notes = [
        f"{MODEL} at {SLA}, {given.rounds} rounds; each calibrates anew and then measures every "
        "configuration once on a fresh server. Figures are medians over the rounds",
        "mean batch, p50 and p99 are simulated over measured, at the lowest rate probed",
        *([about] if about else []),
    ]
    words = f"--rounds {given.rounds}" + " --keep-awake" * given.keep_awake
    write(given.out, "simulator", f"python -m benchmarks.simulator {words}", began, rows, notes)
    for label, row in rows.items():
        print(label, row)


if __name__ == "__main__":
    main()
