"""One probe: send a schedule at a running deployment, judge while it runs, write down what came."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tuner.deployments.base import Running
from tuner.errors import ConstraintBroken, LoadFailed, StorageError, UsageError
from tuner.goals.constraints import Constraint, require_readings
from tuner.goals.sla import Sla, bound_ratio
from tuner.goals.verdict import Judge, SlaOutcome, Verdict, judge, requests_to_settle
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.generator import LoadEngine, LoadResult
from tuner.model.space import Candidate
from tuner.records.results import PERCENTILES, BoundCount, ProbeRecord, Window
from tuner.servers.gpu_watch import GpuWatch
from tuner.servers.host_watch import HostWatch
from tuner.stats.estimators import (
    design_effect,
    growth,
    quantile,
    quantile_interval,
    throughput_interval,
)
from tuner.stats.samples import Samples

Purpose = Literal["unloaded", "capacity", "proof", "measure"]
_DRAIN_SECONDS = 5.0
_CLIENT_LATENESS_SHARE = 0.1
_FIRST_LOOK_SECONDS = 0.4
_LOOK_GROWTH = 1.07
_CLEARLY_BROKEN = 10.0
_WANTED = 300
_PATIENCE_SECONDS = 15.0
_TOO_LONG = 1.2
_INTERVAL = 0.95
_LOOSE, _MOST_GROWTH = 0.5, 0.1


@dataclass(frozen=True)
class Thoroughness:
    """How long and how surely to probe.

    ``seconds`` is the usual length; a slow rate gets up to ``most_seconds`` so that there are
    enough requests to say something. "Met" is not said before ``least_seconds``, which a queue
    needs to show what it grows to. ``confidence`` is that of the verdict. ``settle`` ends the probe
    with the verdict; else only once it has nothing more to tell about the capacity.
    """

    seconds: float
    least_seconds: float
    most_seconds: float
    confidence: float
    settle: bool = False
    judge: Judge | None = None
    """A verdict on the whole probe alone, in place of the one that may be asked at any time."""

    def length(self, rate: float, sla: Sla) -> float:
        """Seconds to plan at ``rate`` requests/s."""
        least = max(_WANTED * math.sqrt(0.01 / bound.budget) / rate for bound in sla.bounds)
        return min(max(self.seconds, least), self.most_seconds)


class Prober:
    """Probes one running deployment of a candidate with one generator; keeps the raw samples in
    ``folder``.
    """

    def __init__(
        self,
        running: Running,
        generator: LoadEngine,
        sla: Sla,
        folder: Path,
        name: str,
        seeds: np.random.Generator,
        number: int = 0,
        constraints: tuple[Constraint, ...] = (),
        candidate: Candidate | None = None,
        instances: tuple[int, int] = (1, 1),
    ) -> None:
        """``instances`` are how many of them there are, and the devices that they are on."""
        self._constraints = constraints
        self._candidate = candidate or Candidate()
        self.instances, self.devices = instances
        self.records: list[ProbeRecord] = []
        self.windows: list[Window] = []
        self.round = number
        self._running = running
        self._generator = generator
        self._sla = sla
        self._folder = folder
        self._name = name
        self._seeds = seeds
        self._drain = max(_DRAIN_SECONDS, sla.longest + 1)
        generator.aim(running.target)

    def turn(self, number: int) -> None:
        """Begin a round of a confirmation: what follows goes to this server, and counts for it."""
        self.round = number
        self._generator.aim(self._running.target)

    def open_loop(
        self, arrivals: Arrivals, rate: float, how: Thoroughness, purpose: Purpose
    ) -> tuple[ProbeRecord, Verdict]:
        """Offer ``rate`` requests/s; ends early when there is nothing more to learn."""
        seed = int(self._seeds.integers(2**31))
        whole = min(arrivals.least_seconds(rate), how.most_seconds)
        how = replace(how, least_seconds=max(how.least_seconds, whole))
        seconds = max(how.length(rate, self._sla), whole)
        times = schedule(arrivals, rate, seconds, np.random.default_rng(seed))
        watch = _Watch(self._sla, how, whole)
        before = self._running.statistics()
        with self._running.watch_gpus() as gpus, self._running.watch_host() as host:
            result = self._generator.open_loop(times, self._drain, self._sla.longest, watch)
        return self._record(
            result,
            purpose=purpose,
            load=str(arrivals),
            rate=rate,
            concurrency=None,
            seed=seed,
            watch=watch,
            before=before,
            gpus=gpus,
            host=host,
        )

    def closed_loop(
        self, concurrency: int, how: Thoroughness, purpose: Purpose
    ) -> tuple[ProbeRecord, Verdict]:
        """Keep so many requests outstanding; latency counts from the actual send."""
        watch = _Watch(self._sla, how)
        before = self._running.statistics()
        with self._running.watch_gpus() as gpus, self._running.watch_host() as host:
            result = self._generator.closed_loop(
                concurrency, how.seconds, self._drain, self._sla.longest, watch
            )
        return self._record(
            result,
            purpose=purpose,
            load="closed",
            rate=None,
            concurrency=concurrency,
            seed=0,
            watch=watch,
            before=before,
            gpus=gpus,
            host=host,
        )

    def warm_up(self, concurrency: int, rounds: int = 12, seconds: float = 0.25) -> float:
        """Saturate until a round gains less than 5 % twice; the best throughput (requests/s).

        The last round is kept as a window. LoadFailed where no request is ever answered in good
        order.
        """
        best, calm = 0.0, 0
        said: tuple[str, ...] = ()
        window = None
        for _ in range(rounds):
            result, window = self._saturate(concurrency, seconds)
            said = said or result.said
            throughput = result.samples.throughput or 0.0
            calm = calm + 1 if throughput <= best * 1.05 else 0
            best = max(best, throughput)
            if calm == 2:
                break
            self._running.raise_if_gone()
        if best <= 0:
            reason = said[0] if said else "see the server's log"
            raise LoadFailed(f"no request was answered in good order: {reason}")
        if window is not None:
            self.windows.append(window)
        return best

    def sample_window(self, concurrency: int, seconds: float) -> Window | None:
        """Keep so many requests outstanding for so long; None where the server counts nothing."""
        result, window = self._saturate(concurrency, seconds)
        if not result.samples.ok.any():
            self._running.raise_if_gone()
        if window is not None:
            self.windows.append(window)
        return window

    def _saturate(self, concurrency: int, seconds: float) -> tuple[LoadResult, Window | None]:
        before = self._running.statistics()
        with self._running.watch_gpus() as gpus, self._running.watch_host() as host:
            result = self._generator.closed_loop(concurrency, seconds, self._drain)
        self._running.raise_if_refused(result.said)
        self._running.raise_if_full(result.said)
        server = self._running.times_since(before)
        samples = result.samples
        if server is None or not server.batch_seconds or samples.errors or not len(samples):
            return result, None
        used, gpu = host.reading(result.cpu), gpus.reading()
        taken = samples.done - samples.sent
        return result, Window(
            settings=dict(self._candidate.settings),
            instances=self.instances,
            devices=self.devices,
            concurrency=concurrency,
            items=self._running.items,
            throughput=samples.throughput or 0.0,
            mean=float(np.mean(taken)),
            latency={name: float(np.quantile(taken, q)) for name, q in PERCENTILES.items()},
            server=server,
            memory=used.memory if used else None,
            gpu_memory=gpu.memory if gpu else None,
        )

    def _record(
        self,
        result: LoadResult,
        *,
        purpose: Purpose,
        load: str,
        rate: float | None,
        concurrency: int | None,
        seed: int,
        watch: "_Watch",
        before: dict[str, Any],
        gpus: GpuWatch,
        host: HostWatch,
    ) -> tuple[ProbeRecord, Verdict]:
        samples = result.samples
        self._running.raise_if_refused(result.said)
        if samples.errors:
            self._running.raise_if_gone()
        verdict = watch.final(samples)
        percentiles = {
            **PERCENTILES,
            **{b.name: b.percentile for b in self._sla.bounds if not b.on_errors},
        }
        record = ProbeRecord(
            purpose=purpose,
            load=load,
            rate=rate,
            concurrency=concurrency,
            seed=seed,
            seconds=samples.span,
            n=len(samples),
            errors=samples.errors,
            violations=verdict.decided.late,
            latency={name: quantile(samples.latency, q) for name, q in percentiles.items()},
            latency_interval=_latency_intervals(samples, percentiles),
            mean=samples.mean,
            client_wait=samples.client_wait,
            throughput=samples.throughput,
            throughput_interval=throughput_interval(samples),
            bounds=tuple(
                BoundCount(bound=str(c.bound), budget=c.bound.budget, late=c.late, effect=c.effect)
                for c in verdict.counts
            ),
            round=self.round,
            outcome=verdict.outcome.value,
            remedy=verdict.remedy,
            confidence=verdict.confidence,
            margin=bound_ratio(samples, self._sla),
            growth=growth(samples),
            lateness_p99=quantile(samples.lateness, 0.99),
            client_limited=is_client_limited(samples, self._sla),
            client_cpu=result.cpu,
            server=self._running.times_since(before),
            stages=self._running.stages_since(before),
            gpu=self._running.gpu(gpus),
            host=host.reading(result.cpu),
            samples=self._save(samples),
            items=self._running.items,
        )
        self.records.append(record)
        self._running.raise_if_full(result.said)
        if len(samples) and not samples.ok.any():
            why = f"every request failed: {result.said[0]}" if result.said else "no answer came"
            raise LoadFailed(f"of {len(samples):,} requests none succeeded; {why}")
        if self.falls_behind(record) and verdict.outcome is not SlaOutcome.VIOLATED:
            words = f"the server falls behind: latency grows by {record.growth:.0%} of the time"
            record = record.model_copy(update={"outcome": "violated", "remedy": words})
            self.records[-1] = record
            verdict = replace(verdict, outcome=SlaOutcome.VIOLATED, remedy=words, repeat=False)
        return self._constrained(record, verdict)

    def falls_behind(self, record: ProbeRecord) -> bool | None:
        """Whether requests came faster than they were answered, so that in the long run none is in
        time; None where the probe was long enough for the bounds themselves to tell.
        """
        if record.rate is None or self._sla.longest < _LOOSE * record.seconds:
            return None
        return record.growth is not None and record.growth > _MOST_GROWTH

    def _constrained(self, record: ProbeRecord, verdict: Verdict) -> tuple[ProbeRecord, Verdict]:
        """The same where all constraints are kept; else violated, in the records too."""
        try:
            require_readings(self._constraints, record)
        except UsageError as error:
            if len(self.records) == 1:
                raise
            raise LoadFailed(f"a reading went missing: {error}") from error
        broken = [c for c in self._constraints if c.broken(record)]
        if not broken:
            return record, verdict
        words = "; ".join(c.describe(record) for c in broken)
        record = record.model_copy(update={"outcome": "violated", "remedy": words})
        self.records[-1] = record
        if any(c.static for c in broken):
            raise ConstraintBroken(f"breaks a constraint at every rate: {words}")
        return record, replace(verdict, outcome=SlaOutcome.VIOLATED, remedy=words, repeat=False)

    def _save(self, samples: Samples) -> str:
        file = self._folder / f"{self._name}-{len(self.records):02d}.npz"
        try:
            samples.save(file)
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror}") from error
        return f"{self._folder.name}/{file.name}"


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
        late = quantile(samples.lateness, bound.percentile)
        if late is None or late <= _CLIENT_LATENESS_SHARE * bound.limit:
            continue
        planned = quantile(samples.latency, bound.percentile) or 0.0
        actual = np.where(samples.ok, samples.done - samples.sent, np.inf)
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
        low, high = quantile_interval(samples.latency, q, effect, _INTERVAL)
        intervals[name] = (low, high if np.isfinite(high) else None)
    return intervals


class _Watch:
    """Judges the samples so far, again and again, which its verdicts allow; True ends the probe.

    A probe that is to settle its question ends with the first verdict. One of several for a
    capacity goes on unless the rate is broken by far, or met with nothing late: in between, every
    request tells more about where the bound breaks. Before ``period`` seconds, what was seen may be
    the worst of the arrivals' pattern, and is not called violated.
    """

    def __init__(self, sla: Sla, how: Thoroughness, period: float = 0.0) -> None:
        self._period = period
        self._sla = sla
        self._how = how
        self._verdict: Verdict | None = None
        self._next = _FIRST_LOOK_SECONDS

    def final(self, samples: Samples) -> Verdict:
        """The verdict that ended the probe; on all its samples where none did."""
        whole = (self._how.judge or judge)(samples, self._sla, self._how.confidence)
        if self._verdict is None:
            return whole
        bound = self._verdict.decided.bound
        decided = next(count for count in whole.counts if count.bound == bound)
        return replace(self._verdict, decided=decided, counts=whole.counts, telling=whole.telling)

    def __call__(self, samples: Samples) -> bool:
        elapsed = float(samples.intended[-1]) if len(samples) else 0.0
        if elapsed < self._next:
            return False
        self._next = _LOOK_GROWTH * elapsed
        verdict = judge(samples, self._sla, self._how.confidence, final=False)
        if self._ends(verdict, elapsed):
            self._verdict = verdict
            return True
        return False

    def _ends(self, verdict: Verdict, elapsed: float) -> bool:
        count = verdict.decided
        share = count.late / max(1, count.n)
        match verdict.outcome:
            case SlaOutcome.VIOLATED:
                if elapsed < self._period:
                    return False
                far = min(_CLEARLY_BROKEN * count.bound.budget, (1 + count.bound.budget) / 2)
                return self._how.settle or share > far
            case SlaOutcome.MET:
                if self._how.judge is not None or elapsed < self._how.least_seconds:
                    return False
                return self._how.settle or not any(c.late for c in verdict.counts)
            case _:
                patience = max(_PATIENCE_SECONDS, self._how.least_seconds)
                return self._how.settle and elapsed > patience and self._is_idle(verdict, elapsed)

    def _is_idle(self, verdict: Verdict, elapsed: float) -> bool:
        """Whether the answer would not come in time, if all went on as so far."""
        if self._how.judge is not None:
            return False
        for count in verdict.counts:
            needed = requests_to_settle(count, verdict.confidence)
            if needed is None or elapsed * needed / count.n > _TOO_LONG * self._how.most_seconds:
                return True
        return False
