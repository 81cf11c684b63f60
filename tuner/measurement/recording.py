"""The records of a probe: its verdict and the readings during it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tuner.deployments.base import Running
from tuner.errors import StorageError
from tuner.goals.sla import Sla, bound_ratio
from tuner.goals.undisturbed import Undisturbed
from tuner.goals.verdict import Verdict
from tuner.load.generator import LoadResult
from tuner.model.space import Candidate
from tuner.records import results as records
from tuner.records.results import (
    BoundCount,
    GpuReading,
    HostReading,
    ProbeRecord,
    Purpose,
    ServerTimes,
    Stages,
    StepReading,
    Window,
)
from tuner.servers.gpu_watch import GpuWatch
from tuner.servers.host_watch import HostWatch
from tuner.stats.estimators import (
    PERCENTILES,
    design_effect,
    growth,
    quantile,
    quantile_interval,
    throughput_interval,
)
from tuner.stats.samples import Samples
from tuner.stats.stalls import Stall


@dataclass(frozen=True)
class RecordSettings:
    """What a record holds besides the samples."""

    confidence: float = 0.95
    """Of the intervals of latencies and throughput."""
    client_lateness: float = 0.1
    """Of a bound's limit: a client that sends later than this took part in breaking it."""


RECORD = RecordSettings()


@dataclass(frozen=True)
class OfferedLoad:
    """What a probe sends: requests/s in an open loop, or a fixed concurrency in a closed one."""

    purpose: Purpose
    load: str
    rate: float | None = None
    concurrency: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class ProbeReadings:
    """What the server and its machine told of themselves while a probe ran."""

    server: ServerTimes | None
    stages: Stages | None
    gpu: GpuReading | None
    host: HostReading | None
    stalls: tuple[Stall, ...] = ()
    undisturbed: Undisturbed | None = None
    cached: float | None = None
    steps: tuple[StepReading, ...] = ()


def probe_record(
    offer: OfferedLoad,
    result: LoadResult,
    verdict: Verdict,
    sla: Sla,
    readings: ProbeReadings,
    round: int,
    items: float,
    file: str,
) -> ProbeRecord:
    """The record of one probe; ``file`` has its samples, each request holds ``items``."""
    samples, undisturbed = result.samples, _undisturbed(readings.undisturbed, verdict)
    percentiles = {
        **PERCENTILES,
        **{b.of_all: b.percentile for b in sla.bounds if not b.on_errors},
    }
    parts = {"": samples, **{f"{model} ": samples.of(model) for model in samples.models}}
    return ProbeRecord(
        purpose=offer.purpose,
        load=offer.load,
        rate=offer.rate,
        concurrency=offer.concurrency,
        seed=offer.seed,
        seconds=samples.span,
        n=len(samples),
        errors=samples.errors,
        violations=verdict.decided.late,
        latency={
            f"{of}{name}": quantile(part.latency, q)
            for of, part in parts.items()
            for name, q in percentiles.items()
        },
        latency_interval={
            f"{of}{name}": interval
            for of, part in parts.items()
            for name, interval in _latency_intervals(part, percentiles).items()
        },
        mean=samples.mean,
        client_wait=samples.client_wait,
        throughput=samples.throughput,
        throughput_interval=throughput_interval(samples),
        bounds=tuple(
            BoundCount(bound=str(c.bound), budget=c.bound.budget, late=c.late, effect=c.effect)
            for c in verdict.counts
        ),
        round=round,
        outcome=verdict.outcome.value,
        remedy=verdict.remedy,
        confidence=verdict.confidence,
        bound_ratio=bound_ratio(samples, sla),
        growth=growth(samples),
        lateness_p99=quantile(samples.lateness, 0.99),
        client_limited=is_client_limited(samples, sla)
        and not (undisturbed is not None and undisturbed.decides),
        client_cpu=result.cpu,
        server=readings.server,
        stages=readings.stages,
        gpu=readings.gpu,
        host=readings.host,
        samples=file,
        items=items,
        stalls=tuple((s.start, s.seconds, _place(s)) for s in readings.stalls),
        undisturbed=undisturbed,
        cached=readings.cached,
        steps=readings.steps,
    )


def _place(stall: Stall) -> int | Literal["foreign"]:
    return "foreign" if stall.core is None else stall.core


def _undisturbed(found: Undisturbed | None, honest: Verdict) -> records.Undisturbed | None:
    if found is None:
        return None
    decided = found.verdict.decided
    return records.Undisturbed(
        n=decided.n,
        late=decided.late,
        outcome=found.verdict.outcome.value if found.is_decidable else None,
        left_out=found.left_out,
        bound_ratio=found.bound_ratio,
        decides=found.decides(honest),
    )


def window_record(
    running: Running,
    candidate: Candidate,
    instances: tuple[int, int],
    concurrency: int,
    result: LoadResult,
    before: dict[str, object],
    gpus: GpuWatch,
    host: HostWatch,
    model: str = "",
) -> Window | None:
    """What a server showed while it was kept busy; None if it counts nothing, or failed.

    ``instances`` are how many there are, and the devices that they are on; ``before`` are the
    server's statistics at the beginning; ``model`` is the one of several that was asked.
    """
    samples, server = result.samples, running.times_since(before)
    if server is None or not server.batch_seconds or samples.errors or not len(samples):
        return None
    used, gpu = host.reading(result.cpu), gpus.reading()
    seconds = samples.done - samples.sent
    return Window(
        settings=dict(candidate.settings),
        instances=instances[0],
        devices=instances[1],
        concurrency=concurrency,
        items=running.items,
        throughput=samples.throughput or 0.0,
        mean=float(np.mean(seconds)),
        latency={name: float(np.quantile(seconds, q)) for name, q in PERCENTILES.items()},
        server=server,
        memory=used.memory if used else None,
        gpu_memory=gpu.memory if gpu else None,
        model=model,
    )


def windows_together(
    running: Running,
    candidate: Candidate,
    devices: int,
    concurrency: int,
    result: LoadResult,
    before: dict[str, object],
    number: int,
) -> list[Window]:
    """What each model of a server showed while several were asked; none if requests failed."""
    samples = result.samples
    if samples.errors or len(samples) < 2:
        return []
    seconds = float(np.max(samples.done) - samples.intended[0])
    return [
        Window(
            settings=dict(candidate.part(step.model).settings),
            instances=step.instances,
            devices=min(devices, step.instances),
            concurrency=concurrency,
            items=running.items,
            throughput=step.server.requests / seconds,
            mean=step.server.queue + step.server.compute,
            latency={},
            server=step.server,
            model=step.model,
            together=number,
        )
        for step in running.steps_since(before)
        if step.server is not None and step.server.batch_seconds
    ]


def save_samples(samples: Samples, folder: Path, name: str) -> str:
    """Write the raw samples; the file's name relative to the run. StorageError if it cannot be."""
    file = folder / f"{name}.npz"
    try:
        samples.save(file)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}") from error
    return f"{folder.name}/{file.name}"


def is_client_limited(samples: Samples, sla: Sla) -> bool:
    """Whether a bound was broken only because the client sent late.

    That is: counted from the intended sends it is, from the actual ones it is not, and the lateness
    that only the bound's share of requests may exceed is more than a tenth of the limit.
    """
    if len(samples.lateness) < len(samples):
        return False
    for bound in sla.bounds:
        if bound.on_errors:
            continue
        own = bound.of(samples)
        late = quantile(own.lateness, bound.percentile)
        if late is None or late <= RECORD.client_lateness * bound.limit:
            continue
        planned = quantile(own.latency, bound.percentile) or 0.0
        actual = np.where(own.ok, own.done - own.sent, np.inf)
        if planned > bound.limit >= (quantile(actual, bound.percentile) or 0.0):
            return True
    return False


def _latency_intervals(
    samples: Samples, percentiles: dict[str, float]
) -> dict[str, tuple[float, float | None]]:
    intervals = {}
    for name, q in percentiles.items():
        value = quantile(samples.latency, q)
        if value is None:
            continue
        effect = design_effect(samples.latency, samples.intended, value)
        low, high = quantile_interval(samples.latency, q, effect, RECORD.confidence)
        intervals[name] = (low, high if np.isfinite(high) else None)
    return intervals
