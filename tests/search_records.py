"""Records as a real run leaves them, from a queue that is simple enough to compute by hand."""

from pathlib import Path
from typing import Any

import numpy as np

from tuner.model.parameter import Value
from tuner.records.results import (
    Cost,
    Evaluation,
    GpuReading,
    ProbeRecord,
    ServerTimes,
    State,
)
from tuner.stats.estimators import quantile
from tuner.stats.samples import Samples

LIMIT = 0.020
EXPERIMENT: dict[str, Any] = {
    "sla": "p99<20ms",
    "model": "model_repository/emulated_gpu",
    "command": "tuner search model_repository/emulated_gpu --sla-p99 20ms --seed 7",
    "seed": 7,
    "environment": {
        "tuner": "0.1.0",
        "server": "Triton 2.59.0",
        "python": "3.11.7",
        "processor": "16 × AMD EPYC 9354",
        "gpu": "NVIDIA L4",
    },
    "space": {"name": "default", "parameters": {"max_batch_size": {"values": [1, 2, 4, 8, 16]}}},
    "trials": 16,
}

BATCH = "max_batch_size"
DYNAMIC = "dynamic_batching"
DELAY = "dynamic_batching.max_queue_delay_microseconds"
COUNT = "instance_group.count"


def config_text(settings: dict[str, Value]) -> str:
    delay = settings.get(DELAY)
    batching = f"dynamic_batching {{\n  max_queue_delay_microseconds: {delay}\n}}\n"
    return (
        'name: "emulated_gpu"\nbackend: "python"\n'
        f"max_batch_size: {settings.get(BATCH, 8)}\n"
        'input {\n  name: "INPUT"\n  data_type: TYPE_FP32\n  dims: 16\n}\n'
        f"instance_group {{\n  count: {settings.get(COUNT, 1)}\n  kind: KIND_GPU\n}}\n"
        + (batching if delay is not None else "")
    )


def saturation(settings: dict[str, Value]) -> float:
    """Requests/s that a candidate can serve at most."""
    batch = int(settings.get(BATCH, 8)) if settings.get(DYNAMIC, True) else 1  # type: ignore[arg-type]
    count = int(settings.get(COUNT, 1))  # type: ignore[call-overload]
    return batch / (0.004 + 0.00035 * batch) * (1 + 0.25 * (count - 1))


def draw(settings: dict[str, Value], rate: float, n: int, seed: int) -> Samples:
    """Latencies of n Poisson requests: a floor, and a queue that grows towards saturation."""
    rng = np.random.default_rng(seed)
    load = rate / saturation(settings)
    delay = float(settings.get(DELAY, 0) or 0) * 1e-6  # type: ignore[arg-type]
    intended = np.cumsum(rng.exponential(1 / rate, n))
    wait = rng.exponential(0.0007 / max(1 - load, 0.03), n)
    latency = 0.0048 + delay + wait + rng.gamma(2.0, 0.0002, n)
    sent = intended + rng.exponential(2e-5, n)
    return Samples(intended, sent, intended + latency, np.ones(n, dtype=bool))


def probe(
    settings: dict[str, Value],
    rate: float,
    seed: int,
    purpose: str = "capacity",
    gpu: bool = True,
    **changes: Any,
) -> tuple[ProbeRecord, Samples]:
    samples = draw(settings, rate, 4000, seed)
    late = int(np.count_nonzero(samples.latency > LIMIT))
    outcome = "met" if late < 30 else "violated" if late > 55 else "inconclusive"
    load = rate / saturation(settings)
    size = int(settings.get(BATCH, 8)) if settings.get(DYNAMIC, True) else 1  # type: ignore[arg-type]
    batches = {k: int(900 * load**2 * 0.8 ** (size - k)) + 3 for k in range(1, size + 1)}
    mean = float(np.mean(samples.latency))
    record: dict[str, Any] = {
        "purpose": purpose,
        "load": "poisson",
        "rate": rate,
        "concurrency": None,
        "seed": seed,
        "seconds": 4000 / rate,
        "n": 4000,
        "errors": 0,
        "violations": late,
        "latency": {
            name: quantile(samples.latency, q)
            for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
        },
        "throughput": samples.throughput,
        "outcome": outcome,
        "remedy": "try a lower rate" if outcome == "inconclusive" else None,
        "confidence": 0.99,
        "bound_ratio": (quantile(samples.latency, 0.99) or 0.0) / LIMIT,
        "lateness_p99": 1e-4,
        "client_limited": False,
        "client_cpu": 0.4,
        "server": ServerTimes(
            requests=4000,
            executions=sum(batches.values()),
            queue=mean * 0.42,
            compute_input=mean * 0.03,
            compute_infer=mean * 0.41,
            compute_output=mean * 0.02,
            batches=batches,
        ),
        "gpu": GpuReading(utilisation=min(0.98, load), memory=9 * 10**8, power=61.0)
        if gpu
        else None,
        "stalls": ((0.4, 0.09, 0), (0.41, 0.08, 1), (1.2, 0.1, "foreign")) if seed % 2 else (),
    }
    return ProbeRecord.model_validate(record | changes), samples


def evaluate(
    trial: int,
    settings: dict[str, Value],
    folder: Path | None = None,
    phase: str = "search",
    baseline: bool = False,
    **changes: Any,
) -> Evaluation:
    """A candidate with its capacity found by probing ever higher; samples kept in ``folder``."""
    seed, probes = 1000 * trial + (500 if phase == "confirm" else 0), []
    for step, share in enumerate((0.3, 0.5, 0.65, 0.73, 0.77, 0.81, 0.86, 0.95)):
        record, samples = probe(settings, round(saturation(settings) * share, 1), seed + step)
        if folder is not None:
            name = f"probes/{phase}-{trial}-{step}.npz"
            samples.save(folder / name)
            record = record.model_copy(update={"samples": name})
        probes.append(record)
    met = [p.rate for p in probes if p.outcome == "met"]
    missed = [p.rate for p in probes if p.outcome == "violated"]
    values: dict[str, Any] = {
        "trial": trial,
        "phase": phase,
        "baseline": baseline,
        "settings": settings,
        "config": config_text(settings),
        "state": State.OK if met else State.INFEASIBLE,
        "capacity": max(met, default=None),
        "low": 0.97 * max(met) if met else None,
        "high": min(missed, default=None) if met else None,
        "bound_ratio": min(p.bound_ratio or 9.0 for p in probes),
        "started": f"2026-03-01T10:{trial:02d}:00+00:00",
        "seconds": 41.5 + trial,
        "launch_seconds": 3.2,
        "probes": tuple(probes),
    }
    return Evaluation.model_validate(values | changes)


def failed(trial: int, failure: str, **changes: Any) -> Evaluation:
    settings: dict[str, Value] = {BATCH: 16, COUNT: 4}
    nothing = {
        "state": State.FAILED,
        "capacity": None,
        "low": None,
        "high": None,
        "bound_ratio": None,
    }
    return evaluate(trial, settings, probes=(), failure=failure, **(nothing | changes))


def infeasible(
    trial: int, settings: dict[str, Value], bound_ratio: float, **changes: Any
) -> Evaluation:
    """Challenged at one rate only, and found too slow there."""
    record, _ = probe(settings, 620.0, 77 + trial, outcome="violated", bound_ratio=bound_ratio)
    nothing = {
        "state": State.INFEASIBLE,
        "capacity": None,
        "low": None,
        "high": None,
        "bound_ratio": bound_ratio,
    }
    return evaluate(trial, settings, probes=(record,), **(nothing | changes))


SETTINGS: list[dict[str, Value]] = [
    {BATCH: 8, DYNAMIC: True, DELAY: 0, COUNT: 1},
    {DYNAMIC: False, COUNT: 1},
    {BATCH: 2, DYNAMIC: True, DELAY: 500, COUNT: 1},
    {BATCH: 4, DYNAMIC: True, DELAY: 100, COUNT: 2},
    {BATCH: 4, DYNAMIC: True, DELAY: 5000, COUNT: 1},
    {DYNAMIC: False, COUNT: 4},
    {BATCH: 8, DYNAMIC: True, DELAY: 500, COUNT: 2},
    {BATCH: 16, DYNAMIC: True, DELAY: 2000, COUNT: 1},
    {BATCH: 16, DYNAMIC: True, DELAY: 500, COUNT: 2},
    {BATCH: 16, DYNAMIC: True, DELAY: 100, COUNT: 3},
    {BATCH: 8, DYNAMIC: True, DELAY: 1000, COUNT: 3},
    {BATCH: 16, DYNAMIC: True, DELAY: 1000, COUNT: 2},
    {BATCH: 16, DYNAMIC: True, DELAY: 500, COUNT: 4},
    {BATCH: 8, DYNAMIC: True, DELAY: 2000, COUNT: 4},
]


def realistic(folder: Path | None) -> list[Evaluation]:
    """A whole run: baseline, search with a failure and two misses, both finalists confirmed."""
    found = [evaluate(i, s, folder, baseline=i == 0) for i, s in enumerate(SETTINGS)]
    found.insert(5, failed(14, "server died: CUDA out of memory\nsee logs/014.log"))
    found.insert(9, infeasible(15, {BATCH: 2, DYNAMIC: True, DELAY: 5000, COUNT: 2}, 1.4))
    found = [e.model_copy(update={"trial": i}) for i, e in enumerate(found)]
    found[3] = _with_client_limit(found[3])
    best = max((e for e in found if e.capacity), key=lambda e: e.capacity or 0.0)
    for original in (found[0], best):
        settings = dict(original.settings)
        again = evaluate(
            original.trial, settings, folder, phase="confirm", baseline=original.baseline
        )
        found.append(again)
    return found


def _with_client_limit(evaluation: Evaluation) -> Evaluation:
    last = evaluation.probes[-1].model_copy(update={"client_limited": True})
    return evaluation.model_copy(update={"probes": (*evaluation.probes[:-1], last)})


def priced(
    trial: int,
    settings: dict[str, Value],
    value: float,
    kept: bool = True,
    phase: str = "search",
    baseline: bool = False,
) -> Evaluation:
    """A candidate of a run that minimises p99 at 100 requests/s."""
    rate = 100.0
    record, _ = probe(settings, rate, trial)
    rounds = ((value, 0.01),) * 3 if phase == "confirm" else ()
    cost = Cost(
        objective="p99",
        rate=rate,
        value=value,
        low=0.95 * value,
        high=1.05 * value,
        by_round=rounds,
    )
    return evaluate(trial, settings, phase=phase, baseline=baseline).model_copy(
        update={
            "state": State.OK if kept else State.INFEASIBLE,
            "capacity": rate if kept else None,
            "low": None,
            "high": None,
            "recommended": None,
            "bound_ratio": value / LIMIT,
            "cost": cost,
            "probes": (record,),
        }
    )
