"""Two versions of a model in rounds, until it is clear whether the new one serves less."""

from collections.abc import Callable, Sequence
from statistics import NormalDist

from tuner.analysis.gate import Judgement, judge_outcome, judge_versions
from tuner.analysis.ratios import Ratio, unpaired_ratio
from tuner.deployments.subjects import Subject
from tuner.goals.objective import Objective
from tuner.goals.verdict import SlaOutcome
from tuner.measurement.capacity import Capacity
from tuner.measurement.draft import Draft
from tuner.measurement.evaluate import drafts_of, seeds_of
from tuner.measurement.policies import CapacityPolicy, Round, between, seek
from tuner.measurement.rounds import Rounds
from tuner.measurement.session import CandidateSession, Conditions, Sessions
from tuner.measurement.settings import (
    CONFIRMATION,
    EFFORTS,
    GATE,
    SEARCH_PROBE,
    SHORT_PROBE,
    START,
    GateSettings,
)
from tuner.model.repository import text_of
from tuner.records.gate import Verdict
from tuner.records.results import Evaluation, ProbeRecord
from tuner.stats.sequential import boundary

Judge = Callable[[Sequence[Evaluation], float, int], Judgement]
"""Of what is known after so many rounds, by an interval of that standard score."""


class Gate:
    """A race that is over once its judgement is clear, or a draft failed. It is looked at after
    each round, and all looks share the error, at either end of the interval.
    """

    def __init__(self, judge: Judge, settings: GateSettings = GATE) -> None:
        self._judge, self._settings = judge, settings
        self.rounds = 0

    def most_rounds(self, fresh: bool) -> int:
        return self._settings.rounds

    def leaves(self, draft: Draft, drafts: Sequence[Draft], fresh: bool) -> bool:
        return False

    def is_over(self, drafts: Sequence[Draft], rounds: int, fresh: bool) -> bool:
        self.rounds = rounds
        judgement = self.judgement([draft.evaluation() for draft in drafts])
        is_clear = judgement.verdict is not Verdict.INCONCLUSIVE
        return is_clear or any(draft.failure for draft in drafts)

    def judgement(self, evaluations: Sequence[Evaluation]) -> Judgement:
        """After the rounds so far."""
        scores = boundary(self._settings.rounds, self._settings.error)
        return self._judge(evaluations, scores[max(0, self.rounds - 1)], self.rounds)


def of_two_versions(margin: float, settings: GateSettings = GATE) -> Gate:
    """The old and the new one, in this order; ``margin`` is the share that may be lost.

    Their capacities are those of all probes together, whose intervals hold for any server of a
    version: a round's own two probes tell too little to be compared one by one. A slow change of
    the machine meets both alike, since rounds are interleaved, and widens both intervals.
    """

    def judge(evaluations: Sequence[Evaluation], score: float, rounds: int) -> Judgement:
        old, new = evaluations
        return judge_versions(old, new, _ratio(new, old, score), margin, rounds)

    return Gate(judge, settings)


def against_stored(known: Evaluation, margin: float, settings: GateSettings = GATE) -> Gate:
    """The new version alone, held against what is known of the old one."""

    def judge(evaluations: Sequence[Evaluation], score: float, rounds: int) -> Judgement:
        (new,) = evaluations
        return judge_versions(known, new, _ratio(new, known, score), margin, rounds)

    return Gate(judge, settings)


def _ratio(new: Evaluation, old: Evaluation, score: float) -> Ratio | None:
    return unpaired_ratio(new, old, 2 * NormalDist().cdf(score) - 1)


class GatePolicy:
    """Finds the capacity of either version, with the same effort. The new version's first probe is
    at the capacity of the old one.
    """

    objective: Objective | None = None

    def __init__(self, conditions: Conditions) -> None:
        self._capacity = CapacityPolicy(conditions)

    def prepare(self, session: CandidateSession) -> ProbeRecord:
        return self._capacity.prepare(session)

    def play(
        self, session: CandidateSession, draft: Draft, turn: Round, rivals: Sequence[Draft]
    ) -> None:
        effort = EFFORTS.gate_next if turn.number else EFFORTS.gate_first
        known = next((rival.capacity.rate for rival in rivals if rival.capacity.rate), None)
        start = between(known or START.of_saturation * session.saturation, draft)
        seek(session, draft, start, effort, SHORT_PROBE if draft.results else SEARCH_PROBE)

    def verify(self, session: CandidateSession, draft: Draft, rate: float) -> None:
        self._capacity.verify(session, draft, rate)


def gate_rounds(sessions: Sessions, subjects: Sequence[Subject], seed: int, gate: Gate) -> Rounds:
    """Of the old and the new version, in this order."""
    drafts = drafts_of(sessions, subjects, seed)
    return Rounds(sessions, GatePolicy(sessions.conditions), drafts, [0.0] * len(drafts), gate)


def judge_rate(
    sessions: Sessions, subject: Subject, seed: int, rate: float
) -> tuple[Evaluation, Judgement]:
    """Whether a rate (requests/s) meets the SLA, by one sequential test; by another one where a
    single stall decided.
    """
    config = text_of(sessions.deployments.configs_of(subject))
    draft = Draft(subject, "measure", config, seeds_of(seed, subject, "measure", 0))
    outcome = SlaOutcome.INCONCLUSIVE

    def take() -> None:
        nonlocal outcome
        with sessions.open(draft) as session:
            session.unloaded()
            session.warm_up()
            for share in CONFIRMATION.attempts:
                result = session.verify(rate, share, purpose="measure")
                outcome = SlaOutcome.INCONCLUSIVE if result.repeat else result.outcome
                if not result.repeat:
                    break
            met = rate if outcome is SlaOutcome.MET else None
            draft.capacity = Capacity(
                met,
                low=met,
                recommended=met,
                bound_ratio=result.bound_ratio,
                client_limited=result.client_limited,
            )

    draft.attempt(take)
    evaluation = draft.evaluation()
    return evaluation, judge_outcome(evaluation, outcome)
