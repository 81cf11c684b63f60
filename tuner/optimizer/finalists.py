"""Chooses the candidates to confirm: of many that were measured once, the best was also lucky."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuner.deployments.subjects import Subject
from tuner.model.space import Candidate
from tuner.optimizer.behaviour import simplicity
from tuner.records.results import Evaluation, State, baseline

Ranked = list[tuple[Evaluation, float]]
"""Evaluations with the merit that is expected of each; the best first."""


@dataclass(frozen=True)
class FinalistSettings:
    most: int = 2  # at a time: each takes about a minute of confirmation
    near: float = 0.95  # share of the best one's expected merit, from which a runner-up is as good
    as_good: float = 0.01  # share of its merit by which the simplest may be expected to be worse
    clearly: float = 1.05  # over the best confirmed merit: what confirmations can tell apart
    most_looks: int = 2  # confirmations, where the capacity is maximised
    baseline_share: float = 0.5
    """Of the best finalist's merit: expected of a baseline for which the search found no rate."""


SETTINGS = FinalistSettings()


@dataclass(frozen=True)
class Finalists:
    """Chooses the finalists of a run from all of its evaluations, with the expected merit of each.

    ``rank`` orders those that may win by what all measurements together say of them: those that
    meet the SLA, and those that were eliminated before their capacity was known.
    """

    rank: Callable[[Sequence[Evaluation]], Ranked]
    minimizes: bool
    may_win: Callable[[Evaluation, Evaluation], bool] = lambda _, __: True
    """Whether the first may still be clearly better than the second, by all that is known."""
    settings: FinalistSettings = SETTINGS

    def next(self, evaluations: Sequence[Evaluation]) -> list[tuple[Subject, float]]:
        """The finalists and the baseline; once these are confirmed, whom their confirmation calls
        for; none, mostly.

        The baseline is among them even if the search found no rate for it: all is reported against
        it.
        """
        confirmed = {e.candidate: e for e in evaluations if e.phase == "confirm"}
        first = self._with_baseline(self._best(evaluations), evaluations)
        if not confirmed.keys() >= {subject.candidate for subject, _ in first}:
            return first
        if not first:
            return []
        return self._after_refutation(confirmed, evaluations)

    def _best(self, evaluations: Sequence[Evaluation]) -> list[tuple[Subject, float]]:
        """The best of the search, the simplest of several that are as good; and one that may still
        be clearly better.
        """
        settings, ranked = self.settings, self.rank(list(_searched(evaluations).values()))
        if not ranked:
            return []
        meeting = [each for each in ranked if each[0].merit is not None] or ranked
        most = meeting[0][1]
        as_good = [each for each in meeting if each[1] >= (1 - settings.as_good) * most]
        first = min(as_good, key=lambda each: simplicity(each[0].candidate))
        rivals = [
            each
            for each in ranked
            if each[1] >= settings.near * most
            and each is not first
            and self.may_win(each[0], first[0])
        ]
        return [_subject(*each) for each in [first, *rivals][: settings.most]]

    def _with_baseline(
        self, subjects: list[tuple[Subject, float]], evaluations: Sequence[Evaluation]
    ) -> list[tuple[Subject, float]]:
        own = baseline(list(_searched(evaluations).values()))
        if own is None or any(subject.candidate == own.candidate for subject, _ in subjects):
            return subjects
        best = subjects[0][1] if subjects else 0.0
        expected = own.merit or self.settings.baseline_share * best
        if expected <= 0 or own.state is State.FAILED:
            return subjects
        return [*subjects, (Subject(own.trial, own.candidate, True), expected)]

    def _after_refutation(
        self, confirmed: dict[Candidate, Evaluation], evaluations: Sequence[Evaluation]
    ) -> list[tuple[Subject, float]]:
        """What to confirm next, given the confirmed ones. If the cost is minimized, the next best,
        until one meets the SLA or the baseline is as good: the best lie close to violating it. Else
        the best remaining one, once, if it is expected to be clearly better than all confirmed
        ones.
        """
        settings = self.settings
        meeting = [e for e in confirmed.values() if e.merit is not None]
        ranked = self.rank([confirmed.get(c, e) for c, e in _searched(evaluations).items()])
        left = [each for each in ranked if each[0].candidate not in confirmed]
        reached = max((e.merit or 0.0 for e in meeting), default=0.0)
        if self.minimizes and all(e.baseline for e in meeting):
            least = max(reached, settings.near * left[0][1]) if left else 0.0
            return [_subject(*each) for each in left if each[1] > least][: settings.most]
        looks = {e.look for e in evaluations if e.phase == "confirm"}
        if not left or left[0][1] < settings.clearly * reached or len(looks) >= settings.most_looks:
            return []
        best = [(e, e.merit or 0.0) for e in meeting if e.merit == reached and not e.baseline]
        return self._with_baseline([_subject(*each) for each in [left[0], *best]], evaluations)


def _searched(evaluations: Sequence[Evaluation]) -> dict[Candidate, Evaluation]:
    return {e.candidate: e for e in evaluations if e.phase == "search"}


def _subject(evaluation: Evaluation, merit: float) -> tuple[Subject, float]:
    return Subject(evaluation.trial, evaluation.candidate, evaluation.baseline), merit
