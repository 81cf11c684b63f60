"""Deployments held against each other: the same as finalists, but each of them counts."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tuner.deployments.deployment_set import DEPLOYMENT
from tuner.measure.capacity import Effort
from tuner.measure.draft import Draft, Subject
from tuner.measure.evaluate import ROUNDS, SEARCH, START, Evaluator, between
from tuner.measure.probe import Prober, Thoroughness
from tuner.records.comparison import UNBATCHED
from tuner.records.results import Evaluation

_FIRST, _NEXT = Effort(seconds=8.0), Effort(width=0.0, seconds=4.0, fewest=2)
_SHARES = (0.5, 0.25, 0.75)
_SHARE = replace(SEARCH, seconds=2.0, least_seconds=2.0)


class DeploymentEvaluator(Evaluator):
    """Measures deployments in interleaved rounds, none shorter than another's. After each round a
    probe at a share of the capacity tells what it is like to operate below it.
    """

    def __init__(self, *args: Any, rounds: int = ROUNDS, **more: Any) -> None:
        super().__init__(*args, **more)
        self._rounds = rounds
        self._saturation: dict[int, float] = {}
        self._drafts: list[Draft] = []

    def measure_all(self, subjects: list[Subject]) -> list[Evaluation]:
        """An evaluation of each; those that failed say why."""
        return self.confirm([(subject, 0.0) for subject in subjects])

    def so_far(self) -> list[Evaluation]:
        """What is known where ``measure_all`` was interrupted; nothing of what was not finished."""
        told = [draft for draft in self._drafts if draft.capacity.rate or draft.failure]
        return [draft.evaluation() for draft in told]

    def _is_outdone(self, draft: Draft, drafts: list[tuple[Draft, float]], expected: float) -> bool:
        self._drafts = [each for each, _ in drafts]
        return False

    def _by_turns(self, drafts: list[tuple[Draft, float]]) -> None:
        """Each round on fresh servers, and the proof of who is best then on one more."""

        def prove(draft: Draft, rate: float) -> None:
            with self._prober(draft) as prober:
                self._prepare(prober, draft)
                self._prove(prober, draft, rate)

        for number in range(self._rounds):
            for draft, expected in drafts:
                draft.attempt(partial(self._turn, draft, number, expected, False, drafts))
        self._prove_best([draft for draft, _ in drafts], prove)

    def _prove_best(self, drafts: list[Draft], prove: Callable[[Draft, float], None]) -> None:
        super()._prove_best([each for each in drafts if not _is_yardstick(each)], prove)

    def _saturate(self, prober: Prober, draft: Draft) -> float:
        found = super()._saturate(prober, draft)
        self._saturation[draft.subject.trial] = found
        return found

    def _play(
        self, prober: Prober, draft: Draft, number: int, expected: float, outdone: bool = False
    ) -> None:
        start = between(START * self._saturation[draft.subject.trial], draft.findings)
        self._seek(prober, draft, start, _NEXT if number else _FIRST, SEARCH)

    def _seek(
        self, prober: Prober, draft: Draft, start: float, effort: Effort, how: Thoroughness
    ) -> None:
        """The probe at a share is no finding, since it tells of no limit."""
        super()._seek(prober, draft, start, effort, how)
        rate = draft.capacity.rate
        if rate is not None:
            share = _SHARES[prober.round % len(_SHARES)]
            self._finding(prober, _SHARE, "capacity")(share * rate)


def _is_yardstick(draft: Draft) -> bool:
    """Whether it is there to be held against, and not to be promised anything of."""
    return draft.subject.candidate.get(DEPLOYMENT) == UNBATCHED
