"""One candidate: launch, warm up, probe, judge. A failure becomes part of the record."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

import numpy as np

from tuner.deployments.base import Deployments
from tuner.deployments.slot import ServerSlot
from tuner.errors import CandidateError
from tuner.goals.constraints import Constraint
from tuner.goals.sla import Sla
from tuner.goals.verdict import SlaOutcome, judge_as_loadgen
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadEngine
from tuner.measure.calibrate import CalibrationPlan, saturate, sweep_concurrency
from tuner.measure.capacity import (
    Capacity,
    Effort,
    Finding,
    Probe,
    conclude,
    find_capacity,
    find_concurrency,
    fit_findings,
)
from tuner.measure.draft import PHASES, Draft, Phase, Subject
from tuner.measure.probe import Prober, Purpose, Thoroughness
from tuner.model.config import to_text
from tuner.model.space import INSTANCE_COUNT, Candidate, queue_delay
from tuner.records.results import Evaluation, ProbeRecord
from tuner.records.run import Run
from tuner.simulator.scheduling import count_instances

SEARCH = Thoroughness(seconds=3.0, least_seconds=1.5, most_seconds=20.0, confidence=0.95)
_QUICK = replace(SEARCH, seconds=2.0)
_RACE = replace(_QUICK, least_seconds=1.0, settle=True)
_CLOSED = Thoroughness(
    seconds=15.0, least_seconds=1.5, most_seconds=30.0, confidence=0.95, settle=True
)
_PROOF = Thoroughness(
    seconds=90.0, least_seconds=5.0, most_seconds=90.0, confidence=0.99, settle=True
)
_LOADGEN = Thoroughness(
    seconds=60.0,
    least_seconds=60.0,
    most_seconds=120.0,
    confidence=0.99,
    settle=True,
    judge=judge_as_loadgen,
)
_PROOFS = {"sequential": _PROOF, "mlperf": _LOADGEN}
PROOF_ATTEMPTS = (0.5, 0.25, 0.25)
_EASIER = 0.85
START = 0.7
_CHALLENGE = 1.03
_UNLOADED_SECONDS = 0.5
_KEEPING_UP = "keeping up"
_MOST_CONCURRENCY = 256
ROUNDS = 3
_FIRST_EFFORT = Effort(seconds=9.0)
_NEXT_EFFORT = Effort(width=0.0, seconds=6.0, fewest=2)
_SIDE_EFFORT = Effort(width=0.0, seconds=3.5, fewest=2)
_GLANCE = Effort(width=0.0, seconds=0.0, fewest=1)
_OUTDONE = 0.05
SEARCH_EFFORT = Effort(width=0.08, seconds=12.5)
_RACE_EFFORT = Effort(width=0.1, seconds=3.5, doubt=0.2, fewest=2)
_MEASURE_EFFORT = Effort(width=0.04, seconds=15.0)


class Progress(Protocol):
    """Told of what happens while a candidate is evaluated."""

    def launching(self, trial: int, candidate: Candidate, baseline: bool, phase: Phase) -> None: ...

    def turning(self, trial: int, candidate: Candidate, number: int) -> None:
        """The next round of a confirmation goes to this candidate's server."""

    def probing(self, what: str, rate: float | None) -> None: ...

    def probed(self, record: ProbeRecord) -> None: ...


class Evaluator:
    """Evaluates candidates of one deployment under one Sla and one kind of load.

    ``proof`` names the final test of a rate: ``sequential``, ``mlperf`` for LoadGen's rule, or
    ``none``: a capacity is then not put to one.
    ``constraints`` have to be kept besides the Sla. With ``relaunch`` "auto" the search keeps the
    server in hand where Triton can change it to the next candidate in place; what is confirmed or
    measured always gets a fresh one.
    """

    def __init__(
        self,
        deployment: Deployments,
        generator: LoadEngine,
        sla: Sla,
        load: Arrivals | Literal["closed"],
        run: Run,
        seed: int,
        progress: Progress,
        proof: str = "sequential",
        constraints: tuple[Constraint, ...] = (),
        relaunch: Literal["auto", "always"] = "auto",
    ) -> None:
        self._deployment = deployment
        self._slot = ServerSlot(deployment)
        self._keeps = relaunch == "auto"
        self._generator = generator
        self._sla = sla
        self._load = load
        self._run = run
        self._seed = seed
        self._progress = progress
        self._proves = proof != "none"
        self._proof = _PROOFS.get(proof, _PROOF)
        self._constraints = constraints
        self._calibrations = 0
        self._rounds = ROUNDS

    def close(self) -> None:
        """Stop the server in hand."""
        self._slot.close()

    def calibrate(self, course: CalibrationPlan) -> list[tuple[Candidate, str]]:
        """Windows of what the simulator needs to know, kept in the run; and what failed, and why.

        Where the largest batches fail, smaller ones are tried.
        """
        failed = []
        for candidate in course.candidates:
            try:
                largest, alone = self._sweep(candidate)
            except CandidateError as error:
                failed.append((candidate, str(error)))
                continue
            for count in course.further(alone, self._sla.longest):
                more = _with_instances(candidate, count)
                if self._instances(more) == self._instances(candidate):
                    continue
                try:
                    self._saturate_instances(more, largest)
                except CandidateError as error:
                    failed.append((more, str(error)))
            break
        return failed

    def _sweep(self, candidate: Candidate) -> tuple[int, float]:
        draft = self._calibration(candidate)
        with self._prober(draft) as prober:
            self._progress.probing("one at a time and more", None)
            prober.warm_up(8, rounds=2)
            largest = max(1, int(self._deployment.config_of(candidate).max_batch_size))
            alone = sweep_concurrency(prober, largest * prober.devices, self._sla.longest)
        return largest, alone

    def _calibration(self, candidate: Candidate) -> Draft:
        draft = self._draft(Subject(0, candidate), "calibrate")
        draft.launches = self._calibrations  # each server has a log of its own
        self._calibrations += 1
        return draft

    def _saturate_instances(self, candidate: Candidate, largest: int) -> None:
        draft = self._calibration(candidate)
        with self._prober(draft) as prober:
            self._progress.probing("all instances busy", None)
            prober.warm_up(8, rounds=1)
            saturate(prober, largest, prober.instances)

    def search(
        self, subject: Subject, to_beat: float, phase: Phase = "search", expected: float = 0.0
    ) -> Evaluation:
        """The candidate's capacity, finely only where it can exceed ``to_beat`` requests/s; about
        ``expected`` requests/s are expected, 0.0 if nothing is known.
        """
        draft = self._draft(subject, phase)
        effort = replace(_RACE_EFFORT if expected else SEARCH_EFFORT, to_beat=to_beat)
        return draft.attempt(lambda: self._visit(draft, effort, expected))

    def measure(self, subject: Subject, rate: float | None) -> Evaluation:
        """The verdict at one rate; or the capacity, and the proof of the recommended rate."""
        draft = self._draft(subject, "measure")
        if rate is not None:
            return draft.attempt(lambda: self._judge_rate(draft, rate))
        return draft.attempt(lambda: self._visit(draft, _MEASURE_EFFORT, 0.0, self._proves))

    def confirm(self, finalists: list[tuple[Subject, float]], look: int = 0) -> list[Evaluation]:
        """The capacities of finalists again, each with about how many requests/s are expected; for
        the first time (``look`` 0), or beside others once more.

        Interleaved, on fresh servers with fresh seeds, so that a slow change of the machine meets
        all alike and luck in the search does not carry over. Where the machine and its GPUs have
        room for all, the servers run side by side and are loaded one after another; else each
        round has a fresh server. At the end the rate that the best one is recommended for is
        verified.
        """
        drafts = [
            (self._draft(subject, "confirm", look), expected) for subject, expected in finalists
        ]
        if self._load != "closed" and self._runs_side_by_side([s for s, _ in finalists]):
            self._side_by_side(drafts)
        else:
            self._by_turns(drafts)
        return [draft.evaluation() for draft, _ in drafts]

    def _runs_side_by_side(self, subjects: list[Subject]) -> bool:
        if self._judges_gpu_memory():
            return False
        seen = self._run.evaluations()
        return self._deployment.runs_side_by_side([_gpu_memory(s, seen) for s in subjects])

    def _judges_gpu_memory(self) -> bool:
        """Then each server has the GPUs to itself: the memory of one among several is a guess."""
        return any(constraint.name == "gpu_memory" for constraint in self._constraints)

    def _by_turns(self, drafts: list[tuple[Draft, float]]) -> None:
        rounds = self._rounds if self._load != "closed" else 1
        for number in range(rounds):
            for draft, expected in drafts:
                last = self._proves and number == rounds - 1
                draft.attempt(partial(self._turn, draft, number, expected, last, drafts))

    def _turn(
        self,
        draft: Draft,
        number: int,
        expected: float,
        last: bool,
        drafts: list[tuple[Draft, float]],
    ) -> None:
        """A round of one of the drafts on a server of its own, and the proof in the last one."""
        effort = _NEXT_EFFORT if number else _FIRST_EFFORT
        effort = _GLANCE if self._is_outdone(draft, drafts, expected) else effort
        self._visit(draft, effort, expected, last, drafts)

    def _side_by_side(self, drafts: list[tuple[Draft, float]]) -> None:
        self.close()
        with ExitStack() as stack:
            probers: dict[int, Prober] = {}
            owns = {id(draft): stack.enter_context(ExitStack()) for draft, _ in drafts}

            def launch(draft: Draft) -> None:
                slot = ServerSlot(self._deployment)
                probers[id(draft)] = owns[id(draft)].enter_context(self._prober(draft, slot))
                self._prepare(probers[id(draft)], draft)

            def play(draft: Draft, number: int, expected: float) -> None:
                self._progress.turning(draft.subject.trial, draft.subject.candidate, number)
                probers[id(draft)].turn(number)
                outdone = self._is_outdone(draft, drafts, expected)
                self._play(probers[id(draft)], draft, number, expected, outdone)

            def prove(draft: Draft, rate: float) -> None:
                probers[id(draft)].turn(self._rounds - 1)
                self._prove(probers[id(draft)], draft, rate)

            def attempt(draft: Draft, part: Callable[[], None]) -> None:
                draft.attempt(part)
                if draft.failure is not None:
                    owns[id(draft)].close()  # what failed is not to load the machine any more

            for draft, _ in drafts:
                attempt(draft, partial(launch, draft))
            for number in range(self._rounds):
                for draft, expected in drafts:
                    attempt(draft, partial(play, draft, number, expected))
            self._prove_best([draft for draft, _ in drafts], prove)

    def _prove_best(self, drafts: list[Draft], prove: Callable[[Draft, float], None]) -> None:
        """Put the best one to the proof; where another one is best afterwards, that one as well."""
        tried: list[Draft] = []
        for _ in drafts if self._proves else ():
            best = max(drafts, key=lambda each: each.rank)
            if best.to_prove is None or any(best is each for each in tried):
                return
            best.attempt(partial(prove, best, best.to_prove))
            tried.append(best)

    def _play(
        self, prober: Prober, draft: Draft, number: int, expected: float, outdone: bool = False
    ) -> None:
        """A round of a server that runs beside others; a glance at it where it is outdone."""
        start = between(expected, draft.findings)
        self._seek(prober, draft, start, _GLANCE if outdone else _SIDE_EFFORT, _QUICK)

    def _is_outdone(self, draft: Draft, drafts: list[tuple[Draft, float]], expected: float) -> bool:
        """Whether a round of it may be short, since it hardly has a chance to be the best."""
        return is_outdone(draft, [each for each, _ in drafts], expected)

    def _instances(self, candidate: Candidate) -> tuple[int, int]:
        """How many there are in all, and the devices that they are on."""
        return count_instances(self._deployment.config_of(candidate), self._deployment.gpu_count)

    def _draft(self, subject: Subject, phase: Phase, look: int = 0) -> Draft:
        config = to_text(self._deployment.config_of(subject.changes))
        if phase == "again":
            look = sum(each.phase == "again" for each in self._run.evaluations()) + 1
        seeds = np.random.default_rng([self._seed, subject.trial, PHASES.index(phase), look])
        return Draft(subject, phase, config, seeds, look)

    @contextmanager
    def _prober(self, draft: Draft, slot: ServerSlot | None = None) -> Iterator[Prober]:
        """A server of the candidate, and a prober of it whose records the draft gets."""
        subject = draft.subject
        self._progress.launching(subject.trial, subject.candidate, subject.baseline, draft.phase)
        phase = f"{draft.phase}{draft.look or ''}"
        name = f"{subject.trial:04d}-{phase}{'-baseline' if subject.baseline else ''}"
        if draft.launches:
            name += f"-{draft.launches + 1}"
        as_found = None if subject.baseline else subject.candidate
        keep = self._keeps and draft.phase in ("search", "calibrate")
        slot = slot or self._slot
        with slot.server(as_found, self._run.logs / f"{name}.log", keep) as running:
            draft.relaunched = slot.is_fresh
            if draft.relaunched:
                draft.launch_seconds = draft.launch_seconds or running.launch_seconds
            prober = Prober(
                running,
                self._generator,
                self._sla,
                self._run.probes,
                name,
                draft.seeds,
                draft.launches,
                self._constraints,
                subject.candidate,
                self._instances(subject.changes),
            )
            draft.launches += 1
            try:
                yield prober
            finally:
                draft.probes.extend(prober.records)
                self._run.append_windows(prober.windows)

    def _visit(
        self,
        draft: Draft,
        effort: Effort,
        expected: float,
        prove: bool = False,
        drafts: list[tuple[Draft, float]] | None = None,
    ) -> None:
        """Launch, and look for the capacity about ``expected`` requests/s, or wherever it is."""
        with self._prober(draft) as prober:
            if draft.phase != "search" or draft.subject.baseline or not expected:
                alone = self._alone(prober)
                if draft.phase != "confirm" and is_hopeless(draft.subject, alone, self._sla):
                    draft.capacity = Capacity(None, margin=alone.margin)
                    return
            saturation = self._saturate(prober, draft)
            if self._load == "closed":
                draft.capacity = find_concurrency(self._closed_finding(prober), effort)
                return
            start = between(expected or START * saturation, draft.findings)
            if saturation > effort.to_beat > start:
                start = _CHALLENGE * effort.to_beat
            if effort.to_beat:
                draft.capacity = self._challenge(prober, draft, start, effort)
                if draft.capacity.beaten:
                    return
                start = draft.capacity.rate or start
                effort = replace(effort, fewest=effort.fewest - 1)
            self._seek(prober, draft, start, effort, _QUICK if expected else SEARCH)
            recommended = draft.capacity.recommended
            if prove and recommended is not None and _may_win(draft, drafts or []):
                self._prove(prober, draft, recommended)

    def _seek(
        self, prober: Prober, draft: Draft, start: float, effort: Effort, how: Thoroughness
    ) -> None:
        probe = self._finding(prober, how, "capacity")
        draft.capacity = find_capacity(probe, start, effort, draft.findings)

    def _challenge(self, prober: Prober, draft: Draft, rate: float, effort: Effort) -> Capacity:
        """One probe that ends as soon as it is sure whether the rate is kept."""
        probe = self._finding(prober, _RACE, "capacity")
        return find_capacity(probe, rate, replace(effort, most_probes=1), draft.findings)

    def _prove(self, prober: Prober, draft: Draft, rate: float) -> None:
        """Put the rate to the full test, a lower one where it fails, the same where one stall
        decided; all are told to the fit.

        The attempts share the probability of error, the first gets half of it.
        """
        for share in PROOF_ATTEMPTS:
            finding = self._test(prober, rate, share)
            draft.findings.append(finding)
            draft.capacity = conclude(draft.findings, rate)
            if finding.outcome is SlaOutcome.MET:
                break
            if finding.repeat:
                continue
            rate = min(_EASIER * rate, draft.capacity.recommended or rate)

    def _test(self, prober: Prober, rate: float, share: float) -> Finding:
        """The full test of a rate, with that share of the probability of error."""
        confidence = 1 - share * (1 - self._proof.confidence)
        return self._finding(prober, replace(self._proof, confidence=confidence), "proof")(rate)

    def _judge_rate(self, draft: Draft, rate: float) -> None:
        with self._prober(draft) as prober:
            self._prepare(prober, draft)
            finding = self._finding(prober, self._proof, "measure")(rate)
            met = finding.outcome is SlaOutcome.MET
            draft.capacity = Capacity(
                rate if met else None,
                low=rate if met else None,
                recommended=rate if met else None,
                margin=finding.margin,
                client_limited=finding.client_limited,
            )

    def _prepare(self, prober: Prober, draft: Draft) -> None:
        self._alone(prober)
        self._saturate(prober, draft)

    def _alone(self, prober: Prober) -> ProbeRecord:
        """One request at a time."""
        self._progress.probing("unloaded", None)
        prober.warm_up(1, rounds=1)
        record, _ = prober.closed_loop(
            1, replace(SEARCH, seconds=_UNLOADED_SECONDS, settle=False), "unloaded"
        )
        self._progress.probed(record)
        return record

    def _saturate(self, prober: Prober, draft: Draft) -> float:
        """Warm-up to saturation: its throughput (requests/s)."""
        self._progress.probing("warm-up", None)
        largest = max(1, int(self._deployment.config_of(draft.subject.changes).max_batch_size))
        return prober.warm_up(_saturating(largest, prober.instances))

    def _finding(self, prober: Prober, how: Thoroughness, purpose: Purpose) -> Probe:
        assert self._load != "closed"
        arrivals = self._load

        def probe(rate: float) -> Finding:
            self._progress.probing(purpose, rate)
            record, verdict = prober.open_loop(arrivals, rate, how, purpose)
            self._progress.probed(record)
            return Finding(
                rate,
                verdict.outcome,
                record.margin,
                verdict.telling,
                verdict.repeat,
                record.client_limited,
                record.seconds,
                self._kept_besides(prober, record),
                record.round,
            )

        return probe

    def _kept_besides(self, prober: Prober, record: ProbeRecord) -> tuple[tuple[str, bool], ...]:
        """What has to be kept besides the bounds, and whether the probe broke it."""
        held = tuple((str(c), bool(c.broken(record))) for c in self._constraints)
        behind = prober.falls_behind(record)
        return held if behind is None else (*held, (_KEEPING_UP, behind))

    def _closed_finding(self, prober: Prober) -> Callable[[int], Finding]:
        def probe(concurrency: int) -> Finding:
            self._progress.probing(f"{concurrency} at a time", None)
            record, verdict = prober.closed_loop(concurrency, _CLOSED, "capacity")
            self._progress.probed(record)
            return Finding(record.throughput or 0.0, verdict.outcome, record.margin)

        return probe


def _gpu_memory(subject: Subject, seen: list[Evaluation]) -> int | None:
    """The most bytes that its servers can have had on one GPU; None if that was not read. A
    reading is a mean over the GPUs, and all of it may have been on one.
    """
    readings = [p.gpu for e in seen if e.candidate == subject.candidate for p in e.probes if p.gpu]
    sizes = [reading.memory * (reading.devices or 1) for reading in readings if reading.memory]
    return max(sizes, default=None)


def _may_win(draft: Draft, drafts: list[tuple[Draft, float]]) -> bool:
    """Whether its recommended rate is one to promise: of the model as found only if it is best."""
    others = [each.capacity.rate or 0.0 for each, _ in drafts if each is not draft]
    return not draft.subject.baseline or (draft.capacity.rate or 0.0) >= max(others, default=0.0)


def is_outdone(draft: Draft, drafts: list[Draft], expected: float) -> bool:
    """Whether it hardly has a chance to be the best of them, by the rounds so far; before its
    first, by how many requests/s are ``expected``.
    """
    others = [each for each in drafts if each is not draft and each.capacity.rate]
    best = max(others, key=lambda each: each.rank, default=None)
    own = draft.capacity if draft.findings else Capacity(expected)
    if best is None or not own.rate:
        return False
    return own.chance_above(best.capacity) < _OUTDONE


def between(expected: float, findings: list[Finding]) -> float:
    """Between what is expected and what was found: the rounds before may have had a bad time."""
    return math.sqrt(expected * fit_findings(findings, expected).rate) if findings else expected


def is_hopeless(subject: Subject, alone: ProbeRecord, sla: Sla) -> bool:
    """Whether a request alone takes longer than the bound, even without the queue delay.

    Under load a batch may fill before the delay is over, but nothing gets faster than alone.
    """
    p50 = alone.latency["p50"]
    return p50 is not None and p50 - queue_delay(subject.candidate) > sla.longest


def _with_instances(candidate: Candidate, count: int | None) -> Candidate:
    """With so many instances of each group; None: with as many as the model has."""
    rest = {path: value for path, value in candidate.settings if path != INSTANCE_COUNT}
    return Candidate.of(rest if count is None else {**rest, INSTANCE_COUNT: count})


def _saturating(largest: int, instances: int) -> int:
    """A concurrency that fills two batches per instance, within reason."""
    return min(max(8, 2 * largest * instances), _MOST_CONCURRENCY)
