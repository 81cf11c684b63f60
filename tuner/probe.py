"""One probe: send a schedule at a running deployment, judge while it runs, write down what came."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tuner.arrivals import Arrivals, schedule
from tuner.deployments.triton import Running
from tuner.errors import CandidateError, StorageError
from tuner.load.generator import LoadEngine, LoadResult
from tuner.results import PERCENTILES, ProbeRecord
from tuner.samples import Samples
from tuner.servers.gpu_watch import GpuWatch
from tuner.sla import Outcome, Sla, Verdict, judge, margin
from tuner.stats import quantile, requests_needed, violations_allowed

Purpose = Literal["unloaded", "saturation", "capacity", "confirm", "measure"]
_LOOKS = (0.25, 0.5, 0.75)
_ABORT_CONFIDENCE = 0.9999
_ABORT_AFTER_SECONDS = 0.8
_DRAIN_SECONDS = 5.0
_CLIENT_LATENESS_SHARE = 0.1


@dataclass(frozen=True)
class Thoroughness:
    """How long and how surely to probe.

    ``seconds`` is the usual length; a slow rate gets up to ``most_seconds`` so that the verdict has
    enough requests. "Met" is not said before ``least_seconds``, which a queue needs to show what it
    grows to. ``confidence`` is that of the final verdict.
    """

    seconds: float
    least_seconds: float
    most_seconds: float
    confidence: float
    cautious: bool = False

    def length(self, rate: float, sla: Sla) -> float:
        """Seconds to plan: at least twice the requests that a flawless run needs."""
        needed = max(requests_needed(0, bound.budget, self.confidence) for bound in sla.bounds)
        return min(max(self.seconds, 2 * needed / rate), self.most_seconds)


class Prober:
    """Probes one running deployment with one generator; keeps the raw samples in ``folder``."""

    def __init__(
        self,
        running: Running,
        generator: LoadEngine,
        sla: Sla,
        folder: Path,
        name: str,
        seeds: np.random.Generator,
    ) -> None:
        self.records: list[ProbeRecord] = []
        self._running = running
        self._generator = generator
        self._sla = sla
        self._folder = folder
        self._name = name
        self._seeds = seeds
        generator.aim(running.target)

    def open_loop(
        self, arrivals: Arrivals, rate: float, how: Thoroughness, purpose: Purpose
    ) -> tuple[ProbeRecord, Verdict]:
        """Offer ``rate`` requests/s; ends early when the verdict is sure."""
        seed = int(self._seeds.integers(2**31))
        seconds = how.length(rate, self._sla)
        times = schedule(arrivals, rate, seconds, np.random.default_rng(seed))
        watch = _Watch(self._sla, how, seconds, len(times))
        horizon = max(bound.limit for bound in self._sla.bounds)
        before = self._running.statistics()
        with self._running.watch_gpus() as gpus:
            result = self._generator.open_loop(times, _DRAIN_SECONDS, horizon, watch)
        verdict = watch.verdict or watch.judge(result.samples)
        record = self._record(
            result,
            purpose=purpose,
            load=arrivals.value,
            rate=rate,
            concurrency=None,
            seed=seed,
            verdict=verdict,
            before=before,
            gpus=gpus,
        )
        return record, verdict

    def closed_loop(
        self, concurrency: int, seconds: float, confidence: float, purpose: Purpose
    ) -> tuple[ProbeRecord, Verdict]:
        """Keep so many requests outstanding; latency counts from the actual send."""
        before = self._running.statistics()
        with self._running.watch_gpus() as gpus:
            result = self._generator.closed_loop(concurrency, seconds, _DRAIN_SECONDS)
        verdict = judge(result.samples, self._sla, confidence)
        record = self._record(
            result,
            purpose=purpose,
            load="closed",
            rate=None,
            concurrency=concurrency,
            seed=0,
            verdict=verdict,
            before=before,
            gpus=gpus,
        )
        return record, verdict

    def warm_up(self, concurrency: int, rounds: int = 12, seconds: float = 0.25) -> float:
        """Saturate until a round gains less than 5 % twice; the best throughput (requests/s).

        CandidateError where no request is ever answered in good order.
        """
        best, calm = 0.0, 0
        said: tuple[str, ...] = ()
        for _ in range(rounds):
            result = self._generator.closed_loop(concurrency, seconds, _DRAIN_SECONDS)
            self._running.raise_if_full(result.said)
            said = said or result.said
            throughput = result.samples.throughput or 0.0
            calm = calm + 1 if throughput <= best * 1.05 else 0
            best = max(best, throughput)
            if calm == 2:
                break
            self._running.raise_if_gone()
        if best <= 0:
            reason = said[0] if said else "see the server's log"
            raise CandidateError(f"no request was answered in good order: {reason}")
        return best

    def _record(
        self,
        result: LoadResult,
        *,
        purpose: Purpose,
        load: Literal["poisson", "constant", "closed"],
        rate: float | None,
        concurrency: int | None,
        seed: int,
        verdict: Verdict,
        before: dict[str, Any],
        gpus: GpuWatch,
    ) -> ProbeRecord:
        samples = result.samples
        if samples.errors:
            self._running.raise_if_gone()
        lateness = quantile(samples.lateness, 0.99)
        percentiles = {**PERCENTILES, **{b.name: b.percentile for b in self._sla.bounds}}
        record = ProbeRecord(
            purpose=purpose,
            load=load,
            rate=rate,
            concurrency=concurrency,
            seed=seed,
            seconds=samples.span,
            n=len(samples),
            errors=samples.errors,
            violations=int(np.count_nonzero(samples.latency > verdict.bound.limit)),
            latency={name: quantile(samples.latency, q) for name, q in percentiles.items()},
            throughput=samples.throughput,
            outcome=verdict.outcome.value,
            remedy=verdict.remedy,
            confidence=verdict.confidence,
            margin=margin(samples, self._sla),
            lateness_p99=lateness,
            client_limited=is_client_limited(samples, self._sla),
            client_cpu=result.cpu,
            server=self._running.times_since(before),
            gpu=self._running.gpu(gpus),
            samples=self._save(samples),
        )
        self.records.append(record)
        self._running.raise_if_full(result.said)
        return record

    def _save(self, samples: Samples) -> str:
        file = self._folder / f"{self._name}-{len(self.records):02d}.npz"
        try:
            samples.save(file)
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror}") from error
        return f"{self._folder.name}/{file.name}"


def is_client_limited(samples: Samples, sla: Sla) -> bool:
    """Whether sends came so late that they, and not the server, may have broken the tightest bound.

    The yardstick is the lateness that only the bound's share of requests may exceed, against a
    tenth of the limit.
    """
    for bound in sla.bounds:
        late = quantile(samples.lateness, bound.percentile)
        if late is not None and late > _CLIENT_LATENESS_SHARE * bound.limit:
            return True
    return False


class _Watch:
    """Judges the samples so far; True ends the probe, and ``verdict`` says with what.

    "Met" is looked for at a quarter, half and three quarters of the planned time and at the end,
    each at a quarter of the error probability, so that all looks together keep the stated
    confidence (Bonferroni). "Violated" is looked for all the time, at one in ten thousand. Where
    neither can be said, but more requests were late than the whole probe may have, going on is
    pointless: it ends as inconclusive.
    """

    def __init__(self, sla: Sla, how: Thoroughness, seconds: float, planned: int) -> None:
        self.verdict: Verdict | None = None
        self.confidence = 1 - (1 - how.confidence) / (len(_LOOKS) + 1)
        self._sla = sla
        self._cautious = how.cautious
        self._allowed = {
            bound: violations_allowed(planned, bound.budget, self.confidence)
            for bound in sla.bounds
        }
        self._looks = [s for share in _LOOKS if (s := share * seconds) >= how.least_seconds]

    def _cannot_be_met(self, samples: Samples) -> bool:
        """Whether more are late already than even the whole probe may have."""
        return any(
            allowed is not None and np.count_nonzero(samples.latency > bound.limit) > allowed
            for bound, allowed in self._allowed.items()
        )

    def judge(self, samples: Samples) -> Verdict:
        """The verdict at one of the planned looks."""
        return judge(samples, self._sla, self.confidence, self._cautious)

    def __call__(self, samples: Samples) -> bool:
        elapsed = float(samples.intended[-1]) if len(samples) else 0.0
        if elapsed < _ABORT_AFTER_SECONDS:
            return False
        hopeless = judge(samples, self._sla, _ABORT_CONFIDENCE)
        if hopeless.outcome is Outcome.VIOLATED:
            self.verdict = hopeless
            return True
        if self._cannot_be_met(samples):
            remedy = "more were late already than the whole probe may have: try a lower rate"
            self.verdict = replace(hopeless, outcome=Outcome.INCONCLUSIVE, remedy=remedy)
            return True
        if self._looks and elapsed >= self._looks[0]:
            self._looks = [look for look in self._looks if look > elapsed]
            verdict = self.judge(samples)
            if verdict.met:
                self.verdict = verdict
                return True
        return False
