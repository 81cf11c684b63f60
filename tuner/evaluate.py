"""One candidate: launch, warm up, probe, judge. A failure becomes part of the record."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import numpy as np

from tuner.arrivals import Arrivals
from tuner.capacity import Capacity, Effort, Finding, find_capacity, find_concurrency, try_rate
from tuner.deployments.triton import TritonDeployment
from tuner.errors import CandidateError
from tuner.load.generator import LoadEngine
from tuner.model_config import get_path, to_text
from tuner.probe import Prober, Thoroughness
from tuner.results import Evaluation, ProbeRecord, Run, State
from tuner.servers.causes import cause_of
from tuner.sla import Outcome, Sla
from tuner.space import INSTANCE_COUNT, QUEUE_DELAY, Candidate

Phase = Literal["search", "confirm", "measure"]
_PHASES = ("search", "confirm", "measure")
_SEARCH = Thoroughness(seconds=4.0, least_seconds=1.5, most_seconds=30.0, confidence=0.95)
_CONFIRM = Thoroughness(
    seconds=6.0, least_seconds=3.0, most_seconds=60.0, confidence=0.99, cautious=True
)
_START = 0.7
_MODESTY = 0.92
_UNLOADED_SECONDS = 0.5
_MOST_CONCURRENCY = 256


class Progress(Protocol):
    """Told of what happens while a candidate is evaluated."""

    def launching(self, trial: int, candidate: Candidate, baseline: bool, phase: Phase) -> None: ...

    def probing(self, what: str, rate: float | None) -> None: ...

    def probed(self, record: ProbeRecord) -> None: ...


@dataclass(frozen=True)
class Subject:
    """What is evaluated: trial number, candidate, and whether it is the model as found.

    The baseline's candidate states the model's own settings; the server gets its file untouched.
    """

    trial: int
    candidate: Candidate
    baseline: bool = False

    @property
    def changes(self) -> Candidate:
        """What the candidate changes in the model's configuration: nothing, for the baseline."""
        return Candidate() if self.baseline else self.candidate


class Evaluator:
    """Evaluates candidates of one deployment under one Sla and one kind of load."""

    def __init__(
        self,
        deployment: TritonDeployment,
        generator: LoadEngine,
        sla: Sla,
        load: Arrivals | Literal["closed"],
        run: Run,
        seed: int,
        progress: Progress,
    ) -> None:
        self._deployment = deployment
        self._generator = generator
        self._sla = sla
        self._load = load
        self._run = run
        self._seed = seed
        self._progress = progress

    def search(self, subject: Subject, to_beat: float) -> Evaluation:
        """The candidate's capacity, finely only where it can exceed ``to_beat`` requests/s."""
        return self._evaluate(subject, "search", lambda p: self._search(p, subject, to_beat))

    def confirm(self, subject: Subject, expected: float) -> Evaluation:
        """The capacity again, from a little below ``expected`` requests/s on: a fresh server, fresh
        seeds, longer probes, judged at 99 %, so that luck in the search does not carry over.
        """
        return self._evaluate(subject, "confirm", lambda p: self._confirm(p, subject, expected))

    def measure(self, subject: Subject, rate: float | None) -> Evaluation:
        """The verdict at one rate, or the capacity where no rate is given."""
        if rate is None:
            return self._evaluate(subject, "measure", lambda p: self._search(p, subject, 0.0))
        return self._evaluate(subject, "measure", lambda p: self._at_rate(p, subject, rate))

    def _search(self, prober: Prober, subject: Subject, to_beat: float) -> Capacity:
        saturation, alone = self._prepare(prober, subject)
        if _is_hopeless(subject, alone, self._sla):
            return Capacity(None, None, alone.margin, False)
        effort = Effort(to_beat=to_beat)
        if self._load == "closed":
            return find_concurrency(self._closed_finding(prober), effort)
        start = _START * saturation
        if saturation > to_beat > start:
            start = 1.05 * to_beat
        return find_capacity(self._finding(prober, _SEARCH, "capacity"), start, effort)

    def _confirm(self, prober: Prober, subject: Subject, expected: float) -> Capacity:
        self._prepare(prober, subject)
        effort = Effort(resolution=0.1, chances=3, most_probes=9)
        if self._load == "closed":
            return find_concurrency(self._closed_finding(prober), effort)
        start = _MODESTY * expected
        return find_capacity(self._finding(prober, _CONFIRM, "confirm"), start, effort)

    def _at_rate(self, prober: Prober, subject: Subject, rate: float) -> Capacity:
        self._prepare(prober, subject)
        finding = try_rate(self._finding(prober, _CONFIRM, "measure"), rate, Effort(chances=3))
        met = finding.outcome is Outcome.MET
        return Capacity(
            rate if met else None, None if met else rate, finding.margin, finding.client_limited
        )

    def _prepare(self, prober: Prober, subject: Subject) -> tuple[float, ProbeRecord]:
        """One request at a time, then warm-up to saturation: its throughput (requests/s)."""
        self._progress.probing("unloaded", None)
        prober.warm_up(1, rounds=1)
        record, _ = prober.closed_loop(1, _UNLOADED_SECONDS, _SEARCH.confidence, "unloaded")
        self._progress.probed(record)
        self._progress.probing("warm-up", None)
        concurrency = _saturating(self._deployment.config_of(subject.changes))
        return prober.warm_up(concurrency), record

    def _finding(
        self, prober: Prober, how: Thoroughness, purpose: Literal["capacity", "confirm", "measure"]
    ) -> Callable[[float], Finding]:
        assert self._load != "closed"
        arrivals = self._load

        def probe(rate: float) -> Finding:
            self._progress.probing(purpose, rate)
            record, verdict = prober.open_loop(arrivals, rate, how, purpose)
            self._progress.probed(record)
            return Finding(
                rate, verdict.outcome, record.margin, verdict.repeat, record.client_limited
            )

        return probe

    def _closed_finding(self, prober: Prober) -> Callable[[int], Finding]:
        def probe(concurrency: int) -> Finding:
            self._progress.probing(f"{concurrency} at a time", None)
            record, verdict = prober.closed_loop(
                concurrency, _SEARCH.seconds, _SEARCH.confidence, "capacity"
            )
            self._progress.probed(record)
            return Finding(record.throughput or 0.0, verdict.outcome, record.margin)

        return probe

    def _evaluate(
        self, subject: Subject, phase: Phase, method: Callable[[Prober], Capacity]
    ) -> Evaluation:
        self._progress.launching(subject.trial, subject.candidate, subject.baseline, phase)
        config = self._deployment.config_of(subject.changes)
        draft = _Draft(subject, phase, to_text(config))
        name = f"{subject.trial:04d}-{phase}{'-baseline' if subject.baseline else ''}"
        log = self._run.logs / f"{name}.log"
        as_found = None if subject.baseline else subject.candidate
        try:
            with self._deployment.start(as_found, log) as running:
                draft.launch_seconds = running.launch_seconds
                seeds = np.random.default_rng([self._seed, subject.trial, _PHASES.index(phase)])
                prober = Prober(running, self._generator, self._sla, self._run.probes, name, seeds)
                draft.probes = prober.records
                capacity = method(prober)
        except CandidateError as error:
            return draft.failed(str(error))
        return draft.measured(capacity)


@dataclass
class _Draft:
    """An evaluation in the making."""

    subject: Subject
    phase: Phase
    config: str
    launch_seconds: float | None = None
    probes: list[ProbeRecord] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)

    def measured(self, capacity: Capacity) -> Evaluation:
        return self._evaluation(
            State.OK if capacity.rate is not None else State.INFEASIBLE, capacity
        )

    def failed(self, reason: str) -> Evaluation:
        return self._evaluation(State.FAILED, Capacity(None, None, None, False), reason)

    def _evaluation(
        self, state: State, capacity: Capacity, failure: str | None = None
    ) -> Evaluation:
        return Evaluation(
            trial=self.subject.trial,
            phase=self.phase,
            baseline=self.subject.baseline,
            settings=dict(self.subject.candidate.settings),
            config=self.config,
            state=state,
            failure=failure,
            cause=None if failure is None else cause_of(failure),
            capacity=capacity.rate,
            ceiling=capacity.ceiling,
            margin=capacity.margin,
            client_limited=capacity.client_limited,
            started=self.started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - self.clock,
            launch_seconds=self.launch_seconds,
            probes=tuple(self.probes),
        )


def _is_hopeless(subject: Subject, alone: ProbeRecord, sla: Sla) -> bool:
    """Whether a request alone takes longer than the bound, even without the queue delay.

    Under load a batch may fill before the delay is over, but nothing gets faster than alone.
    """
    delay = subject.candidate.get(QUEUE_DELAY)
    waited = delay * 1e-6 if isinstance(delay, int) else 0.0
    p50 = alone.latency["p50"]
    return p50 is not None and p50 - waited > max(bound.limit for bound in sla.bounds)


def _saturating(config: Any) -> int:
    """A concurrency that fills two batches per instance, within reason."""
    instances = get_path(config, INSTANCE_COUNT)
    per_instance = max(1, int(config.max_batch_size))
    wanted = 2 * per_instance * (instances if isinstance(instances, int) else 1)
    return min(max(8, wanted), _MOST_CONCURRENCY)
