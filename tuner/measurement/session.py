"""A session on one server of one subject: launch, warm-up, probes, verification."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from tuner.deadline import Deadline
from tuner.deployments.base import Running
from tuner.deployments.slot import ServerSlot
from tuner.deployments.subjects import Deployments, Subject
from tuner.goals.constraints import Constraint
from tuner.goals.sla import Sla
from tuner.goals.verdict import SlaOutcome, Verdict
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadEngine
from tuner.measurement.draft import Draft, Phase
from tuner.measurement.fitness import Fitness
from tuner.measurement.fitting import ProbeResult
from tuner.measurement.probe import PROBER, Prober
from tuner.measurement.settings import (
    CLOSED_PROBE,
    JUDGEMENT,
    LOADGEN_VERIFICATION,
    SEARCH_PROBE,
    START,
    VERIFICATION,
    WARM_UP,
)
from tuner.measurement.watch import Thoroughness
from tuner.records.phases import PhaseClock
from tuner.records.results import ProbeRecord, Purpose
from tuner.records.run import Run
from tuner.simulator.scheduling import count_instances

_OF_A_MODEL = 4
"""Requests outstanding for each of several models: some wait, and none is always busy."""
TOGETHER_SECONDS = 2.0
"""Of a window in which all models are asked."""
_KEEPING_UP = "keeping up"
"""The name of the constraint that a server must not fall behind."""


class Progress(Protocol):
    """Receives events while a subject is measured."""

    def launching(self, subject: Subject, phase: Phase) -> None: ...

    def turning(self, subject: Subject, number: int) -> None:
        """The next round of a confirmation goes to this subject's server."""

    def leaving(self, subject: Subject) -> None:
        """The subject is known to be worse: no further round of the confirmation goes to it."""

    def verifying(self, subject: Subject, rate: float) -> None:
        """The rate (requests/s) recommended for this subject is verified next."""

    def probing(self, what: str, rate: float | None) -> None: ...

    def probed(self, record: ProbeRecord) -> None: ...

    def noted(self, note: str) -> None:
        """A notice of a deviation from the plan."""


@dataclass(frozen=True)
class Conditions:
    """The conditions under which every subject of a run is measured.

    ``constraints`` must hold besides the SLA. ``verification`` names the full test of a rate:
    ``sequential``, or ``mlperf`` for LoadGen's rule; with ``none``, no recommended rate is put to
    one. ``longest_test`` is how long such a test may take (s), if not as usual.
    """

    sla: Sla
    load: Arrivals | Literal["closed"]
    constraints: tuple[Constraint, ...] = ()
    verification: str = "sequential"
    longest_test: float | None = None

    @property
    def is_closed(self) -> bool:
        return self.load == "closed"

    @property
    def verifies(self) -> bool:
        return self.verification != "none"


class CandidateSession:
    """One server of one subject, for as long as its context is open."""

    def __init__(
        self,
        prober: Prober,
        conditions: Conditions,
        progress: Progress,
        largest_batch: int,
        clock: PhaseClock,
        fitness: Fitness | None = None,
        parts: Callable[[], Iterator[tuple[Prober, int]]] = lambda: iter(()),
    ) -> None:
        """``parts`` are probers of each of several models by itself, and its largest batch; they
        are used one after the other.
        """
        self.parts = parts
        self._clock = clock
        self._fitness = fitness
        self.prober = prober
        self.largest_batch = largest_batch
        self.saturation = 0.0
        """The throughput (requests/s) that the last warm-up came to."""
        self._conditions = conditions
        self._progress = progress
        self._begun: int | None = None

    def begin_round(self, subject: Subject, number: int) -> None:
        """The following probes use this server and count for this round, which is reported once."""
        if number != self._begun:
            self._progress.turning(subject, number)
        self._begun = number
        self.prober.turn(number)

    def unloaded(self, is_warm: bool = False) -> ProbeRecord:
        """One request at a time."""
        self._progress.probing("unloaded", None)
        if not is_warm:
            with self._clock.part("warm_up"):
                self.prober.warm_up(1, rounds=1)
        how = replace(SEARCH_PROBE, seconds=START.unloaded_seconds)
        record, _ = self.prober.closed_loop(1, how, "unloaded")
        self._progress.probed(record)
        return record

    def warm_up(self, roughly: bool = False) -> float:
        """Warm up to saturation: its throughput (requests/s).

        The concurrency fills two batches per instance, within reason. ``roughly``: one round
        without a gain is enough, for what is measured again.
        """
        self._progress.probing("warm-up", None)
        filling = 2 * self.largest_batch * self.prober.instances
        concurrency = min(max(WARM_UP.least_concurrency, filling), WARM_UP.most_concurrency)
        with self._clock.part("warm_up"):
            calm_rounds = 1 if roughly else PROBER.calm_rounds
            self.saturation = self.prober.warm_up(concurrency, calm_rounds=calm_rounds)
        return self.saturation

    def calibration(self, what: str, rounds: int) -> Iterator[tuple[Prober, int]]:
        """The probers for windows of calibration, each after a short warm-up, and the largest
        batches: of the only model, or of each of several by itself.
        """
        several = False
        for prober, largest in self.parts():
            several = True
            yield self._warm(prober, what, rounds), largest
        if not several:
            yield self._warm(self.prober, what, rounds), self.largest_batch

    def _warm(self, prober: Prober, what: str, rounds: int) -> Prober:
        of_model = f"{prober.model}, " if prober.model else ""
        self._progress.probing(of_model + what, None)
        with self._clock.part("warm_up"):
            prober.warm_up(WARM_UP.candidate_concurrency, rounds=rounds)
        return prober

    def together(self, models: int, number: int) -> None:
        """A window in which all of several models are asked as in the load, well below what they
        can serve: how much they hold each other up.
        """
        self._progress.probing("all models", None)
        self.prober.turn(self.prober.round)
        self.prober.sample_together(_OF_A_MODEL * models, TOGETHER_SECONDS, number)

    def probe(
        self,
        rate: float,
        how: Thoroughness,
        purpose: Purpose = "capacity",
        is_shown: Callable[[ProbeResult], bool] = lambda _: False,
    ) -> ProbeResult:
        """Offer ``rate`` requests/s. ``is_shown`` decides, for an inconclusive probe, whether all
        probes together show that the rate meets the SLA.
        """
        arrivals = self._conditions.load
        assert arrivals != "closed"
        if self._fitness is not None:
            self._fitness.check()
        self._progress.probing(purpose, rate)
        record, verdict = self.prober.open_loop(arrivals, rate, how, purpose)
        result = self._result(rate, record, verdict)
        is_open = verdict.outcome is SlaOutcome.INCONCLUSIVE and not verdict.repeat
        kept_as_it_happened = record.bound_ratio is not None and record.bound_ratio <= 1
        if is_open and kept_as_it_happened and is_shown(result):
            record = self.prober.accept(VERIFICATION.confidence)
            result = replace(result, outcome=SlaOutcome.MET)
        self._progress.probed(record)
        return result

    def _result(self, rate: float, record: ProbeRecord, verdict: Verdict) -> ProbeResult:
        return ProbeResult(
            rate,
            verdict.outcome,
            record.telling_ratio,
            verdict.telling,
            verdict.repeat,
            record.client_limited,
            record.seconds,
            self._constraints_of(record),
            self.prober.server,
        )

    def probe_closed(self, concurrency: int) -> ProbeResult:
        """Run a closed loop at a fixed concurrency."""
        self._progress.probing(f"{concurrency} at a time", None)
        record, verdict = self.prober.closed_loop(concurrency, CLOSED_PROBE, "capacity")
        self._progress.probed(record)
        return ProbeResult(record.throughput or 0.0, verdict.outcome, record.bound_ratio)

    def verify(
        self,
        rate: float,
        share: float = 1.0,
        purpose: Purpose = "proof",
        corroborates: Callable[[ProbeResult | None], bool] = lambda _: False,
    ) -> ProbeResult:
        """The full test of a rate, with that share of the probability of error. It is shorter if
        earlier probes already show that the rate meets the SLA, and met if they still do so
        together with it (``corroborates``); except MLPerf's, which counts alone.
        """
        mlperf = self._conditions.verification == "mlperf"
        own = JUDGEMENT if purpose == "measure" else VERIFICATION
        full = LOADGEN_VERIFICATION if mlperf else own
        if (longest := self._conditions.longest_test) is not None:
            full = replace(
                full,
                seconds=max(longest, full.least_seconds),
                most_seconds=max(longest, full.least_seconds),
            )
        confidence = 1 - share * (1 - full.confidence)
        short = not mlperf and corroborates(None)
        how = replace(full, confidence=confidence, corroborated=short)
        with self._clock.phase("verification"):
            if mlperf:
                return self.probe(rate, how, purpose)
            return self.probe(rate, how, purpose, corroborates)

    def _constraints_of(self, record: ProbeRecord) -> tuple[tuple[str, bool], ...]:
        """What has to be kept besides the bounds, and whether the probe broke it."""
        held = tuple((str(c), bool(c.broken(record))) for c in self._conditions.constraints)
        behind = self.prober.falls_behind(record)
        return held if behind is None else (*held, (_KEEPING_UP, behind))


class Sessions:
    """Opens the sessions of one run, and reuses the server of a search. With ``keeps_servers``, the
    phases that allow it (search and calibration) change the current server to the next candidate if
    Triton can do so in place.
    """

    def __init__(
        self,
        deployments: Deployments,
        generator: LoadEngine,
        conditions: Conditions,
        run: Run,
        progress: Progress,
        keeps_servers: bool = True,
        deadline: Deadline | None = None,
    ) -> None:
        self.deadline = deadline or Deadline()
        self.deployments = deployments
        self.conditions = conditions
        self.progress = progress
        self._generator = generator
        self._run = run
        self._keeps = keeps_servers
        self._slot = self._new_slot()
        self._fitness = Fitness(generator.meter, conditions.sla, progress.noted)

    def close(self) -> None:
        """Stop the current server."""
        self._slot.close()

    def _new_slot(self) -> ServerSlot:
        return ServerSlot(self.deployments, as_served=not self._keeps)

    def instances_of(self, subject: Subject) -> tuple[int, int]:
        """How many instances there are in all, and the devices that they are on."""
        gpus = self.deployments.gpu_count
        counted = [
            count_instances(config, gpus)
            for config in self.deployments.configs_of(subject).values()
            if not config.HasField("ensemble_scheduling")
        ]
        if not counted:
            return 1, 1
        return sum(count for count, _ in counted), max(devices for _, devices in counted)

    def largest_batch(self, subject: Subject) -> int:
        """That of any of its models, in items."""
        configs = self.deployments.configs_of(subject).values()
        return max(1, *(int(config.max_batch_size) for config in configs))

    @contextmanager
    def open(self, draft: Draft, beside: bool = False) -> Iterator[CandidateSession]:
        """A session for the draft, which gets its records; ``beside`` others, or by itself."""
        subject, draft.deadline = draft.subject, self.deadline
        slot = self._new_slot() if beside else self._slot
        self.progress.launching(subject, draft.phase)
        name = draft.name()
        keep = self._keeps and draft.phase in ("search", "calibrate")
        with self._launched(slot, subject, name, keep) as running:
            draft.relaunched = slot.is_fresh
            if draft.relaunched:
                draft.launch_seconds = draft.launch_seconds or running.launch_seconds
            prober = self._prober(running, draft, name, self.instances_of(subject))
            draft.launches += 1
            try:
                yield CandidateSession(
                    prober,
                    self.conditions,
                    self.progress,
                    self.largest_batch(subject),
                    self._run.clock,
                    self._fitness,
                    partial(self._parts, running, draft, name, prober),
                )
            finally:
                draft.probes.extend(prober.records)
                self._run.append_windows(prober.windows)

    def _prober(
        self, running: Running, draft: Draft, name: str, instances: tuple[int, int], model: str = ""
    ) -> Prober:
        candidate = draft.subject.candidate
        return Prober(
            running,
            self._generator,
            self.conditions.sla,
            self._run.probes,
            name,
            draft.seeds,
            draft.launches,
            self.conditions.constraints,
            candidate.part(model) if model else candidate,
            instances,
            self.deadline,
            model,
        )

    def _parts(
        self, running: Running, draft: Draft, name: str, whole: Prober
    ) -> Iterator[tuple[Prober, int]]:
        """Each is aimed at its model when it is asked for; its windows go where those of the whole
        do.
        """
        configs = self.deployments.configs_of(draft.subject)
        for model, part in running.parts().items():
            instances = count_instances(configs[model], self.deployments.gpu_count)
            prober = self._prober(part, draft, name, instances, model)
            prober.windows = whole.windows
            yield prober, max(1, int(configs[model].max_batch_size))

    @contextmanager
    def _launched(
        self, slot: ServerSlot, subject: Subject, name: str, keep: bool
    ) -> Iterator[Running]:
        with ExitStack() as stack:
            with self._run.clock.part("launches"):
                log = self._run.logs / f"{name}.log"
                running = stack.enter_context(slot.server(subject, log, keep))
            yield running
