"""Evaluates one subject, or several in interleaved rounds."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tuner.deadline import Deadline
from tuner.deployments.subjects import Deployments, Subject
from tuner.errors import CandidateError
from tuner.goals.objective import Objective
from tuner.goals.verdict import SlaOutcome
from tuner.load.generator import LoadEngine
from tuner.measurement.calibrate import (
    CalibrationPlan,
    Sweep,
    saturate,
    sweep_concurrency,
    with_instances,
)
from tuner.measurement.capacity import Capacity
from tuner.measurement.draft import PHASES, Draft, Phase
from tuner.measurement.policies import (
    CapacityPolicy,
    DeploymentPolicy,
    FixedRatePolicy,
    SearchPolicy,
)
from tuner.measurement.race import AllRounds, ForTheBest
from tuner.measurement.rounds import Rounds
from tuner.measurement.session import CandidateSession, Conditions, Progress, Sessions
from tuner.measurement.settings import CONFIRMATION
from tuner.model.repository import text_of
from tuner.model.space import Candidate
from tuner.records.results import Evaluation
from tuner.records.run import Run


class Evaluator:
    """Evaluates the candidates of one deployment under one run's conditions.

    With an ``objective``, a candidate's cost at its rate, instead of its capacity. With
    ``keeps_servers`` the search changes the current server to the next candidate if Triton can do
    so in place; what is confirmed or measured always gets a fresh one.
    """

    def __init__(
        self,
        deployments: Deployments,
        generator: LoadEngine,
        conditions: Conditions,
        run: Run,
        seed: int,
        progress: Progress,
        objective: Objective | None = None,
        keeps_servers: bool = True,
        deadline: Deadline | None = None,
    ) -> None:
        self._conditions = conditions
        self._run = run
        self._seed = seed
        self._progress = progress
        self._deployments = deployments
        self._sessions = Sessions(
            deployments, generator, conditions, run, progress, keeps_servers, deadline
        )
        self._capacity = CapacityPolicy(conditions)
        self._policy: SearchPolicy = self._capacity
        if objective is not None:
            self._policy = FixedRatePolicy(objective, conditions.sla)

    def close(self) -> None:
        """Stop the current server."""
        self._sessions.close()

    def search(
        self, subject: Subject, to_beat: float, phase: Phase = "search", expected: float = 0.0
    ) -> Evaluation:
        """The candidate's capacity, precise only if it can exceed ``to_beat`` requests/s;
        ``expected`` is the forecast in requests/s, 0.0 if unknown.
        """
        search = partial(self._policy.search, to_beat=to_beat, expected=expected)
        return self._evaluate(self._draft(subject, phase), search)

    def measure(self, subject: Subject, rate: float | None) -> Evaluation:
        """The verdict at one rate; or the capacity, and the test of the recommended rate."""
        judge = self._capacity.measure if rate is None else partial(_judge_rate, rate=rate)
        return self._evaluate(self._draft(subject, "measure"), judge)

    def _evaluate(self, draft: Draft, use: Callable[[CandidateSession, Draft], None]) -> Evaluation:
        def take() -> None:
            with self._sessions.open(draft) as session:
                use(session, draft)

        draft.attempt(take)
        return draft.evaluation()

    def confirm(
        self, finalists: Sequence[tuple[Subject, float]], look: int = 0
    ) -> list[Evaluation]:
        """The capacities of finalists again, each with about how many requests/s are expected; for
        the first time (``look`` 0), or beside others once more.

        Interleaved, on fresh servers with fresh seeds, so that a slow change of the machine meets
        all alike and luck in the search does not carry over. If the machine and its GPUs have room
        for all, the servers run side by side and are loaded one after another; else each round has
        a fresh server. At the end the rate that the best one is recommended for is verified.
        """
        subjects = [subject for subject, _ in finalists]
        drafts = [self._draft(subject, "confirm", look) for subject in subjects]
        expected = [rate for _, rate in finalists]
        at_rate = self._policy.objective is not None
        rounds = Rounds(
            self._sessions,
            self._policy,
            drafts,
            expected,
            AllRounds(CONFIRMATION.rounds_at_rate) if at_rate else ForTheBest(),
        )
        return rounds.play(not self._conditions.is_closed and self.runs_side_by_side(subjects))

    def runs_side_by_side(self, subjects: Sequence[Subject]) -> bool:
        """Whether their servers may run at once. If the memory of a GPU is judged, each server has
        it to itself: the memory of one among several is a guess.
        """
        objective = self._policy.objective
        judged = [each.name for each in self._conditions.constraints]
        judged += [term.name for term in objective.terms] if objective else []
        if "gpu_memory" in judged:
            return False
        known = self._run.evaluations()
        return self._deployments.runs_side_by_side([_gpu_memory(s, known) for s in subjects])

    def calibrate(self, plan: CalibrationPlan) -> list[tuple[Candidate, str]]:
        """Windows for the simulator's profile, recorded in the run; and failures with their
        reasons. Fewer windows if the time is over. If the largest batches fail, smaller ones are
        tried.
        """
        failed = []
        for number, candidate in enumerate(plan.candidates):
            launches = number * (1 + len(plan.counts))  # each server has a log of its own
            try:
                sweeps = self._sweep(candidate, launches)
            except CandidateError as error:
                if self._is_over():
                    break
                failed.append((candidate, str(error)))
                continue
            alone = max(sweep.alone for sweep in sweeps)
            further = plan.further(alone, self._conditions.sla.longest)
            for more, count in enumerate(further, 1):
                try:
                    self._saturate(candidate, count, sweeps, launches + more)
                except CandidateError as error:
                    if not self._is_over():  # more of them would fail as well
                        failed.append((with_instances(candidate, count), str(error)))
                    break
            break
        return failed

    def _is_over(self) -> bool:
        """Whether the time is over: a failure then says nothing about a candidate."""
        return not self._sessions.deadline.left

    def _sweep(self, candidate: Candidate, launches: int) -> list[Sweep]:
        """What executions take, of each model."""
        draft = self._draft(Subject(0, candidate), "calibrate", launches=launches)
        longest = self._conditions.sla.longest
        with self._sessions.open(draft) as session:
            sweeps = [
                sweep_concurrency(prober, largest * prober.devices, longest)
                for prober, largest in session.calibration("one at a time and more", rounds=2)
            ]
            if len(sweeps) > 1:
                session.together(len(sweeps), launches)
        return sweeps

    def _saturate(
        self, candidate: Candidate, count: int | None, sweeps: Sequence[Sweep], launches: int
    ) -> None:
        subject, single = Subject(0, with_instances(candidate, count)), Subject(0, candidate)
        if self._sessions.instances_of(subject) == self._sessions.instances_of(single):
            return
        draft = self._draft(subject, "calibrate", launches=launches)
        with self._sessions.open(draft) as session:
            probers = session.calibration("all instances busy", rounds=1)
            for (prober, largest), sweep in zip(probers, sweeps, strict=True):
                saturate(prober, largest, sweep.full)
            if len(sweeps) > 1:
                session.together(len(sweeps), launches)

    def _draft(self, subject: Subject, phase: Phase, look: int = 0, launches: int = 0) -> Draft:
        if phase == "again":
            look = sum(each.phase == "again" for each in self._run.evaluations()) + 1
        config = text_of(self._deployments.configs_of(subject))
        objective = None if phase == "measure" else self._policy.objective
        seeds = seeds_of(self._seed, subject, phase, look)
        return Draft(subject, phase, config, seeds, look, objective, launches)


def compare_deployments(
    sessions: Sessions, subjects: Sequence[Subject], seed: int, rounds: int
) -> Rounds:
    """Measure deployments like finalists, but eliminate none."""
    drafts = drafts_of(sessions, subjects, seed)
    policy = DeploymentPolicy(sessions.conditions)
    return Rounds(sessions, policy, drafts, [0.0] * len(drafts), AllRounds(rounds))


def drafts_of(sessions: Sessions, subjects: Sequence[Subject], seed: int) -> list[Draft]:
    """Of a confirmation without a search before it."""
    return [
        Draft(
            subject,
            "confirm",
            text_of(sessions.deployments.configs_of(subject)),
            seeds_of(seed, subject, "confirm", 0),
        )
        for subject in subjects
    ]


def seeds_of(seed: int, subject: Subject, phase: Phase, look: int) -> np.random.Generator:
    """Of its probes' schedules: others for each trial, phase and look."""
    return np.random.default_rng([seed, subject.trial, PHASES.index(phase), look])


def _judge_rate(session: CandidateSession, draft: Draft, rate: float) -> None:
    session.unloaded()
    session.warm_up()
    result = session.verify(rate, purpose="measure")
    met = rate if result.outcome is SlaOutcome.MET else None
    draft.capacity = Capacity(
        met,
        low=met,
        recommended=met,
        bound_ratio=result.bound_ratio,
        client_limited=result.client_limited,
    )


def _gpu_memory(subject: Subject, known: Sequence[Evaluation]) -> int | None:
    """The most bytes that its servers can have had on one GPU; None if that was not read. A
    reading is a mean over the GPUs, and all of it may have been on one.
    """
    readings = [p.gpu for e in known if e.candidate == subject.candidate for p in e.probes if p.gpu]
    sizes = [reading.memory * (reading.devices or 1) for reading in readings if reading.memory]
    return max(sizes, default=None)
