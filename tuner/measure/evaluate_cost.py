"""Candidates held against each other at one given rate: what each comes to there."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

from tuner.errors import LoadFailed
from tuner.goals.objective import Objective
from tuner.goals.verdict import SlaOutcome
from tuner.measure.capacity import Capacity
from tuner.measure.draft import Draft, Phase, Subject
from tuner.measure.evaluate import PROOF_ATTEMPTS, ROUNDS, SEARCH, Evaluator, is_hopeless
from tuner.measure.probe import Prober
from tuner.records.results import Evaluation, ProbeRecord

_SECONDS = 4.0


class CostEvaluator(Evaluator):
    """Every probe is at the objective's rate: a candidate either keeps the promise there, and has a
    cost, or does not.
    """

    def __init__(self, objective: Objective, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._objective = objective
        wanted = max(_SECONDS, objective.requests / objective.rate)
        seconds = min(wanted, SEARCH.most_seconds)
        self._sample = replace(SEARCH, seconds=seconds, least_seconds=seconds)

    def search(
        self, subject: Subject, to_beat: float, phase: Phase = "search", expected: float = 0.0
    ) -> Evaluation:
        draft = self._draft(subject, phase)
        return draft.attempt(lambda: self._visit_once(draft))

    def _draft(self, subject: Subject, phase: Phase, look: int = 0) -> Draft:
        draft = super()._draft(subject, phase, look)
        draft.objective = self._objective
        return draft

    def _judges_gpu_memory(self) -> bool:
        is_term = any(term.name == "gpu_memory" for term in self._objective.terms)
        return is_term or super()._judges_gpu_memory()

    def _alone(self, prober: Prober) -> ProbeRecord:
        alone = super()._alone(prober)
        self._objective.require_readings(alone)
        return alone

    def _visit_once(self, draft: Draft) -> None:
        with self._prober(draft) as prober:
            alone = self._alone(prober)
            if is_hopeless(draft.subject, alone, self._sla):
                draft.capacity = Capacity(None, margin=alone.margin)
                return
            self._saturate(prober, draft)
            self._play(prober, draft, 0)

    def _by_turns(self, drafts: list[tuple[Draft, float]]) -> None:
        """Each round on fresh servers, and the proof on one more."""

        def play(draft: Draft, number: int) -> None:
            with self._prober(draft) as prober:
                self._prepare(prober, draft)
                self._play(prober, draft, number)

        def prove(draft: Draft, rate: float) -> None:
            with self._prober(draft) as prober:
                self._prepare(prober, draft)
                self._prove(prober, draft, rate)

        for number in range(ROUNDS):
            for draft, _ in drafts:
                draft.attempt(partial(play, draft, number))
        self._prove_best([draft for draft, _ in drafts], prove)

    def _play(
        self,
        prober: Prober,
        draft: Draft,
        number: int,
        expected: float = 0.0,
        outdone: bool = False,
    ) -> None:
        rate = self._objective.rate
        finding = self._finding(prober, self._sample, "capacity")(rate)
        draft.findings.append(finding)
        telling = [each for each in draft.findings if not each.client_limited]
        if not finding.client_limited:
            record, (instances, _) = prober.records[-1], self._instances(draft.subject.changes)
            value = self._objective.value(record, instances)
            if value is None:
                raise LoadFailed(f"a reading went missing: {self._objective} cannot be told")
            draft.costs.append((value, self._objective.error(record, instances)))
        margins = sorted(each.margin for each in telling if each.margin is not None)
        kept = 2 * sum(each.kept for each in telling) > len(telling)
        known = all(math.isfinite(value) for value, _ in draft.costs)
        draft.capacity = Capacity(
            rate if kept and known else None,
            margin=margins[len(margins) // 2] if margins else None,
            client_limited=not telling,
        )

    def _prove(self, prober: Prober, draft: Draft, rate: float) -> None:
        """The full test at the given rate; once more where one stall decided."""
        for share in PROOF_ATTEMPTS:
            finding = self._test(prober, rate, share)
            if not finding.repeat:
                break
        if finding.outcome is SlaOutcome.VIOLATED and not finding.client_limited:
            draft.capacity = replace(draft.capacity, rate=None, margin=finding.margin)
