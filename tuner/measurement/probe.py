"""Probes of one running deployment: load is offered, judged while it runs, and recorded."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tuner.deadline import Deadline
from tuner.deployments.base import Running
from tuner.errors import ConstraintBroken, LoadFailed, UsageError
from tuner.goals.constraints import Constraint, require_readings
from tuner.goals.sla import Sla
from tuner.goals.undisturbed import told_apart
from tuner.goals.verdict import SlaOutcome, Verdict
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.generator import LoadEngine, LoadResult
from tuner.measurement.recording import (
    OfferedLoad,
    ProbeReadings,
    probe_record,
    save_samples,
    window_record,
    windows_together,
)
from tuner.measurement.watch import ProbeWatch, Thoroughness
from tuner.model.space import Candidate
from tuner.records.results import ProbeRecord, Purpose, Window
from tuner.servers.python_errors import without_frames


@dataclass(frozen=True)
class ProberSettings:
    """How load is sent, and when a server is warm."""

    drain_seconds: float = 5.0
    """At least, for outstanding replies after the last send; a request without one has failed."""
    bearable: float = 0.5
    """Of the time that replies are waited for: so long a server may take for all that is sent to it
    at a time. A model of a second per item is not asked for 128 at once."""
    backlog_seconds: float = 30.0
    """At most, for a server that left requests unanswered to work them off: what is offered
    meanwhile would wait behind them, and be late for the earlier rate's sake.
    """
    warm_up_rounds: int = 12
    """At most: three seconds, after which a server that still gets faster is probed as it is."""
    round_seconds: float = 0.25
    """Long enough for tens of batches of a fast model."""
    calm_rounds: int = 2
    """So many in a row without a gain: one may be a stall of the machine."""
    gain: float = 1.1
    """Times the best throughput so far: what counts as a gain. In a round of ten batches one more
    or less is 10 %."""
    least_seconds: float = 0.4
    """Left before the deadline, for any load to begin: that of a probe's first look."""
    least_drain: float = 0.2
    """Seconds beyond the SLA in which replies are waited for, so that those in time all count."""
    unbounded_share: float = 0.1
    """Of a probe's length: with a limit above, a queue that grows breaks it late or never, and the
    capacity would come out too high by as large a share."""
    most_growth: float = 0.1
    """Seconds of latency per second: at such a probe, growth above it means falling behind."""


PROBER = ProberSettings()


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
        deadline: Deadline | None = None,
        model: str = "",
    ) -> None:
        """``instances`` are how many of them there are, and the devices that they are on. ``model``
        is the one of several that is probed by itself.

        No load begins once the ``deadline`` is near (OutOfTime), and what is sent ends with it.
        """
        self._deadline = deadline or Deadline()
        self._constraints = constraints
        self.model = model
        self._candidate = candidate or Candidate()
        self.instances, self.devices = instances
        self.records: list[ProbeRecord] = []
        self.windows: list[Window] = []
        self.server = self.round = number
        self._running = running
        self._generator = generator
        self._sla = sla
        self._folder = folder
        self._name = name
        self._seeds = seeds
        self._drain = max(PROBER.drain_seconds, sla.longest + 1)
        self._has_answered = False
        self._has_backlog = False
        self._throughput = 0.0
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
        period = min(arrivals.least_seconds(rate), how.most_seconds)
        how = replace(how, least_seconds=max(how.least_seconds, period))
        self._deadline.require(PROBER.least_seconds)
        mix = self._running.mix
        rates = None if mix is None else mix.rates(rate)
        total = rate if mix is None else mix.total(rate)
        seconds = self._deadline.bound(max(how.length(rate, self._sla, rates), period))
        times = schedule(arrivals, total, seconds, np.random.default_rng(seed))
        if mix is not None and mix.held:
            self._generator.aim(self._running.target_at(rate))
        load = total / self._throughput if self._throughput else None
        watch = ProbeWatch(self._sla, how, period, self._generator.stalls, load)
        offer = OfferedLoad(purpose, str(arrivals), rate, None, seed)
        return self._probe(
            offer,
            watch,
            lambda: self._generator.open_loop(
                times, self._drain_seconds(), self._sla.longest, watch
            ),
        )

    def closed_loop(
        self, concurrency: int, how: Thoroughness, purpose: Purpose
    ) -> tuple[ProbeRecord, Verdict]:
        """Run a closed loop at a fixed concurrency; latency counts from the actual send."""
        watch = ProbeWatch(self._sla, how)
        self._deadline.require(PROBER.least_seconds)
        seconds = self._deadline.bound(how.seconds)
        return self._probe(
            OfferedLoad(purpose, "closed", concurrency=concurrency),
            watch,
            lambda: self._generator.closed_loop(
                concurrency, seconds, self._drain_seconds(), self._sla.longest, watch
            ),
        )

    def _drain_seconds(self) -> float:
        """Those that replies are waited for; the SLA's at least, whatever the time."""
        return max(self._sla.longest + PROBER.least_drain, self._deadline.bound(self._drain))

    def warm_up(
        self,
        concurrency: int,
        rounds: int = PROBER.warm_up_rounds,
        seconds: float = PROBER.round_seconds,
        calm_rounds: int = PROBER.calm_rounds,
    ) -> float:
        """Saturate until so many rounds bring no more; the best throughput (requests/s).

        The last round is kept as a window. LoadFailed if no request ever succeeds.
        """
        best, calm = 0.0, 0
        failures: tuple[str, ...] = ()
        window = None
        for _ in range(rounds):
            result, window = self._saturate(self._bearable(concurrency), seconds)
            failures = failures or result.messages
            throughput = result.samples.throughput or 0.0
            calm = calm + 1 if throughput <= best * PROBER.gain else 0
            best = max(best, throughput)
            if calm == calm_rounds:
                break
            self._running.raise_if_gone()
        if best <= 0:
            self._running.raise_if_gone()
            reason = without_frames(failures[0]) if failures else "see the server's log"
            raise LoadFailed(f"no request succeeded: {reason}")
        if window is not None:
            self.windows.append(window)
        return best

    def sample_window(self, concurrency: int, seconds: float) -> Window | None:
        """Run a closed loop at a fixed concurrency; None if the server counts nothing."""
        result, window = self._saturate(concurrency, seconds)
        if not result.samples.ok.any():
            self._running.raise_if_gone()
        if window is not None:
            self.windows.append(window)
        return window

    def sample_together(self, concurrency: int, seconds: float, number: int) -> None:
        """The same, where several models are asked; a window of each, with that ``number``."""
        before = self._running.statistics()
        result, _ = self._saturate(concurrency, seconds)
        self.windows += windows_together(
            self._running, self._candidate, self.devices, concurrency, result, before, number
        )

    def _bearable(self, concurrency: int) -> int:
        """Of so many requests at a time, those that the server answers well before replies are no
        longer waited for. As long as nothing but the first answer is known, it may be far fewer.
        """
        first = self._running.answer_seconds
        if not first:
            return concurrency
        known = max(self._throughput, 1 / first)
        return max(1, min(concurrency, int(PROBER.bearable * known * self._drain)))

    def _saturate(self, concurrency: int, seconds: float) -> tuple[LoadResult, Window | None]:
        self._await_backlog()
        self._deadline.require(PROBER.least_seconds)
        seconds, drain = self._deadline.bound(seconds), self._drain_seconds()
        before = self._running.statistics()
        with self._running.watch_gpus() as gpus, self._running.watch_host() as host:
            result = self._generator.closed_loop(concurrency, seconds, drain)
        self._throughput = max(self._throughput, result.samples.throughput or 0.0)
        self._note_answers(result)
        self._running.raise_if_refused(result.messages)
        self._running.raise_if_full(result.messages)
        window = window_record(
            self._running,
            self._candidate,
            (self.instances, self.devices),
            concurrency,
            result,
            before,
            gpus,
            host,
            self.model,
        )
        return result, window

    def _probe(
        self, offer: OfferedLoad, watch: ProbeWatch, send: Callable[[], LoadResult]
    ) -> tuple[ProbeRecord, Verdict]:
        """Send the load and record the replies; raises faults of the server and of the load."""
        self._await_backlog()
        if self._generator.meter is not None:
            self._generator.meter.follow(self._running.pids())
        before = self._running.statistics()
        with self._running.watch_gpus() as gpus, self._running.watch_host() as host:
            result = send()
        samples = result.samples
        had_answered = self._has_answered
        self._note_answers(result)
        self._running.raise_if_refused(result.messages)
        if samples.errors:
            self._running.raise_if_gone()
        stalls = self._generator.stalls() if len(samples) else ()
        honest, undisturbed = watch.final(samples), watch.undisturbed(samples)
        verdict = told_apart(honest, undisturbed)
        readings = ProbeReadings(
            self._running.times_since(before),
            self._running.stages_since(before),
            self._running.gpu(gpus),
            host.reading(result.cpu),
            stalls,
            undisturbed,
            self._running.cached_since(before),
            self._running.steps_since(before),
        )
        file = save_samples(samples, self._folder, f"{self._name}-{len(self.records):02d}")
        record = probe_record(
            offer, result, verdict, self._sla, readings, self.round, self._running.items, file
        )
        self.records.append(record)
        self._running.raise_if_full(result.messages)
        overrun = offer.rate is not None and had_answered and not result.messages
        if len(samples) and not samples.ok.any() and not overrun:
            why = without_frames(result.messages[0]) if result.messages else "no reply arrived"
            raise LoadFailed(f"all {len(samples):,} requests failed: {why}")
        return self._constrained(*self._falling_behind(record, verdict))

    def _note_answers(self, result: LoadResult) -> None:
        samples = result.samples
        self._has_answered |= bool(samples.ok.any())
        unanswered = np.isnan(samples.done) & ~np.isnan(samples.sent)
        self._has_backlog = np.count_nonzero(unanswered) > 1  # one alone waits for no other

    def _await_backlog(self) -> None:
        """Wait until the server has worked off what it left unanswered: a request comes back.

        LoadFailed if none does.
        """
        deadline = time.monotonic() + self._deadline.bound(PROBER.backlog_seconds)
        while self._has_backlog:
            if time.monotonic() > deadline:
                self._deadline.require()
                raise LoadFailed(
                    f"{PROBER.backlog_seconds:.0f} s after an overload, the server still answers "
                    "no request"
                )
            self._running.raise_if_gone()
            result = self._generator.closed_loop(1, PROBER.round_seconds, self._drain)
            self._has_backlog = not result.samples.ok.any()

    def accept(self, confidence: float) -> ProbeRecord:
        """Record the last, inconclusive probe as met, since all probes together show it."""
        shown = {
            "outcome": "met",
            "confidence": confidence,
            "remedy": "met by all probes of this configuration together",
        }
        self.records[-1] = self.records[-1].model_copy(update=shown)
        return self.records[-1]

    def _falling_behind(self, record: ProbeRecord, verdict: Verdict) -> tuple[ProbeRecord, Verdict]:
        """Violated, also in the records, if the server falls behind."""
        if not self.falls_behind(record) or verdict.outcome is SlaOutcome.VIOLATED:
            return record, verdict
        return self._violated(
            record,
            verdict,
            f"the server falls behind: latency grows by {record.growth:.2g} s per second",
        )

    def falls_behind(self, record: ProbeRecord) -> bool | None:
        """Whether requests came faster than they were answered, so that in the long run none is in
        time; None in a closed loop. A probe that was long enough for the bounds themselves to tell
        counts as one that kept up: else what a shorter one says would stand alone.
        """
        if record.rate is None:
            return None
        if self._sla.longest < PROBER.unbounded_share * record.seconds:
            return False
        return record.growth is not None and record.growth > PROBER.most_growth

    def _constrained(self, record: ProbeRecord, verdict: Verdict) -> tuple[ProbeRecord, Verdict]:
        """Unchanged if all constraints are met; else violated, also in the records."""
        try:
            require_readings(self._constraints, record)
        except UsageError as error:
            if len(self.records) == 1:
                raise
            raise LoadFailed(f"a reading is missing: {error}") from error
        broken = [c for c in self._constraints if c.broken(record)]
        if not broken:
            return record, verdict
        remedy = "; ".join(c.describe(record) for c in broken)
        record, verdict = self._violated(record, verdict, remedy)
        if any(c.static for c in broken):
            raise ConstraintBroken(f"violates a constraint at every rate: {remedy}")
        return record, verdict

    def _violated(
        self, record: ProbeRecord, verdict: Verdict, remedy: str
    ) -> tuple[ProbeRecord, Verdict]:
        record = record.model_copy(update={"outcome": "violated", "remedy": remedy})
        self.records[-1] = record
        return record, replace(verdict, outcome=SlaOutcome.VIOLATED, remedy=remedy, repeat=False)
