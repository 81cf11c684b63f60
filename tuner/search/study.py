"""The search: Optuna asks, the evaluator answers, records and storage keep it.

Optuna's storage is the only state. A trial's value is the candidate's capacity or, where one is
minimised, its cost; its constraint ``sla`` is at most zero where the Sla is met at some rate, and a
failed candidate counts as far from feasible, so that a sampler keeps away from it. Where there is a
strategy, it says which trial comes next, as long as it knows; else Optuna's sampler does.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from tuner.deployments.subjects import Subject
from tuner.errors import SimulationError
from tuner.measure.calibrate import CalibrationPlan
from tuner.measure.evaluate import Evaluator
from tuner.model.space import SIMULATED, Candidate, Point, SearchSpace, Value
from tuner.records.results import Evaluation, Outcome, State, baseline, best
from tuner.records.run import Run
from tuner.search.storage import STOPPED, open_study, storage_errors, url_of
from tuner.search.suggestion import first_ideas, params, suggest

if TYPE_CHECKING:
    from tuner.search.strategy import Strategy

_FAILED_CONSTRAINT = 1e3
_MOST_DUPLICATES = 200
_LEAST_HOPELESS_TRIALS, _HOPELESS_TRIALS, _MOST_HOPELESS_TRIALS = 2, 5, 15
_LEAST_HOPE = 0.05
_FINALISTS = 2
_NEAR = 0.95
_CLEARLY = 1.05
_MOST_LOOKS = 2
_AGAIN_AFTER_SECONDS = 300.0
_CONFIRMATION_SECONDS = 60.0
_MISSED_BY = 0.02
_CALIBRATED = "calibrated"


class Stop(StrEnum):
    """Why a search ended."""

    TRIALS = "the number of trials was reached"
    TIMEOUT = "the time was spent"
    EXHAUSTED = "every candidate of the space was measured"
    NONE_LEFT = "no candidate is left of which it is expected that it can be measured"
    CONVERGED = "no other candidate is expected to be better by as much as asked"
    NOTHING_NEW = "the sampler proposes nothing new"
    HOPELESS = "not one of the first candidates could be shown to keep the promise"


@dataclass(frozen=True)
class Budget:
    """When to stop: after so many trials (None: no limit) or seconds, confirmation included where
    there is to be one; or once a strategy expects less than the share ``until`` from any other
    candidate.
    """

    trials: int | None
    seconds: float
    confirms: bool = True
    until: float = 0.01


class Study:
    """One search in one run's folder; made again over the same folder, it goes on."""

    def __init__(
        self,
        run: Run,
        space: SearchSpace,
        own: dict[str, Value],
        evaluator: Evaluator,
        seed: int,
        storage: str | None,
        strategy: "Strategy | None" = None,
        sampler: str = "tpe",
        calibrated: bool = False,
        minimizes: bool = False,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``calibrated`` says that the run has windows from elsewhere; ``note`` is told what went
        otherwise than planned.
        """
        self._strategy = strategy
        self._run = run
        self._space = space
        self._own = own
        self._evaluator = evaluator
        self._evaluations = run.evaluations()
        self._known = {e.candidate: e for e in self._evaluations if e.phase == "search"}
        self._size = space.count(limit=10_000)
        self._url = url_of(run, storage)
        self._minimizes = minimizes
        self._note = note
        self._study = open_study(run, self._url, seed, sampler, minimizes)
        with storage_errors(self._url):
            if calibrated:
                self._study.set_user_attr(_CALIBRATED, 0.0)
            self._in_hand = self._begin_or_go_on()

    def _begin_or_go_on(self) -> list[optuna.Trial]:
        """Enqueue the first ideas; or the trials that were in hand when the run was cut."""
        trials = self._study.get_trials(deepcopy=False)
        if not trials:
            for settings in self._first_ideas():
                self._study.enqueue_trial(params(self._space, settings))
        cut = [trial for trial in trials if trial.state is TrialState.RUNNING]
        return [optuna.Trial(self._study, trial._trial_id) for trial in cut]

    def _first_ideas(self) -> list[Point]:
        """Of what an expert would try, a strategy needs only what it cannot simulate itself."""
        own, *ideas = first_ideas(self._space, self._own)
        if self._strategy is not None:
            beyond = [path for path in self._space.parameters if path not in SIMULATED]
            ideas = [i for i in ideas if any(i.get(path) != own.get(path) for path in beyond)]
        return [own, *ideas]

    @property
    def evaluations(self) -> list[Evaluation]:
        return self._evaluations

    def outcome(self, reason: Stop) -> Outcome:
        """How the search ended, and how sure it is that it found the best."""
        done = list(self._known.values())
        known = self._strategy is not None and self._strategy.is_ready
        return Outcome(
            reason=reason.value,
            candidates=self._size,
            simulated=len(self._strategy.candidates) if known and self._strategy else 0,
            measured=len(done),
            by=_MISSED_BY,
            missed=self._strategy.missed(done, _MISSED_BY) if self._strategy else None,
        )

    @property
    def stopped(self) -> str | None:
        """Why the search ended, if it did."""
        reason = self._study.user_attrs.get(STOPPED)
        return str(reason) if reason else None

    def search(self, budget: Budget, heard: Callable[[Evaluation], None]) -> Stop:
        """Evaluate candidates until the budget is spent; ``heard`` gets each evaluation."""
        spent = float(self._study.user_attrs.get(_CALIBRATED, 0.0))
        began = time.monotonic() - spent - sum(e.seconds for e in self._evaluations)
        duplicates = 0
        if _CALIBRATED in self._study.user_attrs:
            self._calibrate()
        while True:
            reason = self._reason_to_stop(budget, time.monotonic() - began, duplicates)
            if reason is None:
                self._calibrate()
            if reason is None and not self._is_waiting():
                reason = self._propose(budget)
            if reason is not None:
                return reason
            with storage_errors(self._url):
                trial = self._in_hand.pop(0) if self._in_hand else self._study.ask()
                candidate = suggest(trial, self._space)
            evaluation = self._known.get(candidate)
            if evaluation is None:
                duplicates = 0
                evaluation = self._evaluate(trial.number, candidate)
                heard(evaluation)
                self._look_at_baseline_again(heard)
            else:
                duplicates += 1
            self._tell(trial, evaluation)

    def _is_waiting(self) -> bool:
        """Whether a trial is in hand, or was enqueued before."""
        with storage_errors(self._url):
            waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return bool(self._in_hand or waiting)

    def _propose(self, budget: Budget) -> Stop | None:
        """Have the strategy say which candidate is next; a reason to stop where nothing is left to
        gain.
        """
        if self._strategy is None:
            return None
        proposal = self._strategy.propose(list(self._known.values()))
        if proposal is None:
            return Stop.NONE_LEFT
        if proposal.gain < budget.until and self.has_found():
            return Stop.CONVERGED
        with storage_errors(self._url):
            self._study.enqueue_trial(params(self._space, proposal.point))
        return None

    def _calibrate(self) -> None:
        """Before the first trial, and again with what the servers of trials told besides. A
        strategy that the model's statistics do not bear is given up for Optuna's sampler.
        """
        if self._strategy is None:
            return
        if _CALIBRATED not in self._study.user_attrs:
            began = time.monotonic()
            failed = self._evaluator.calibrate(CalibrationPlan.of(self._space, self._own))
            for candidate, why in failed:
                self._note(f"calibration failed with {candidate}: {why.splitlines()[0]}")
            self._strategy.avoid(failed)
            with storage_errors(self._url):
                self._study.set_user_attr(_CALIBRATED, time.monotonic() - began)
        try:
            self._strategy.calibrate(self._run.windows())
        except SimulationError as error:
            self._note(f"nothing is simulated, Optuna's sampler chooses: {error}")
            self._strategy = None

    def has_found(self) -> bool:
        """Whether some candidate keeps the promise, as far as the search can tell."""
        return any(e.merit is not None for e in self._known.values())

    def confirm(self, heard: Callable[[Evaluation], None]) -> None:
        """Measure the finalists and the baseline again, interleaved, on fresh servers with fresh
        seeds (``Evaluator.confirm``).

        The baseline is among them, even if the search found no rate for it: all is reported against
        it. Where the finalists disappoint, so that another candidate is to be expected better now,
        that one is confirmed as well, beside the best of them.
        """
        subjects = self._with_baseline(self._finalists())
        if subjects and self._confirmed().issuperset(s.candidate for s, _ in subjects):
            subjects = self._after_refutation()
        while subjects:
            look = max((e.look + 1 for e in self._evaluations if e.phase == "confirm"), default=0)
            for evaluation in self._evaluator.confirm(subjects, look):
                self._keep(evaluation)
                heard(evaluation)
            subjects = self._after_refutation()

    def _with_baseline(self, subjects: list[tuple[Subject, float]]) -> list[tuple[Subject, float]]:
        found = baseline([e for e in self._evaluations if e.phase == "search"])
        if found is None or any(s.candidate == found.candidate for s, _ in subjects):
            return subjects
        expected = found.merit or (subjects[0][1] / 2 if subjects else 0.0)
        if expected <= 0 or found.state is State.FAILED:
            return subjects
        return [*subjects, (Subject(found.trial, found.candidate, True), expected)]

    def _finalists(self) -> list[tuple[Subject, float]]:
        """The best of the search, and the runner-up where it is as good, with what is expected of
        them.
        """
        ranked = self._ranked(list(self._known.values()))
        near = [each for each in ranked if each[1] >= _NEAR * ranked[0][1]][:_FINALISTS]
        return [_expecting(*each) for each in near]

    def _after_refutation(self) -> list[tuple[Subject, float]]:
        """What to confirm next, given what was confirmed; nothing, mostly.

        Where the least cost is looked for, the next best, until one keeps the promise or the
        baseline is as good: the best lie at the edge of what keeps it. Else the best that is left,
        once, where it is expected to be clearly better than all that was confirmed.
        """
        confirmed = {e.candidate: e for e in self._evaluations if e.phase == "confirm"}
        kept = [e for e in confirmed.values() if e.merit is not None]
        ranked = self._ranked([confirmed.get(c, e) for c, e in self._known.items()])
        left = [each for each in ranked if each[0].candidate not in confirmed]
        reached = max((e.merit or 0.0 for e in kept), default=0.0)
        if self._minimizes and all(e.baseline for e in kept):
            least = max(reached, _NEAR * left[0][1]) if left else 0.0
            return [_expecting(*each) for each in left if each[1] > least][:_FINALISTS]
        looks = {e.look for e in self._evaluations if e.phase == "confirm"}
        if not left or left[0][1] < _CLEARLY * reached or len(looks) >= _MOST_LOOKS:
            return []
        best_kept = [(e, e.merit or 0.0) for e in kept if e.merit == reached and not e.baseline]
        return self._with_baseline([_expecting(*each) for each in [left[0], *best_kept]])

    def _ranked(self, evaluations: list[Evaluation]) -> list[tuple[Evaluation, float]]:
        """Those that keep the promise, the best first, with what is expected of each."""
        if self._strategy is not None:
            self._strategy.learn(evaluations)
        likely = [(e, self._likely(e)) for e in evaluations if e.merit is not None]
        return sorted(likely, key=lambda each: each[1], reverse=True)

    def _confirmed(self) -> set[Candidate]:
        return {e.candidate for e in self._evaluations if e.phase == "confirm"}

    def _likely(self, evaluation: Evaluation) -> float:
        """The merit of a candidate, as far as all measurements together tell: of many that were
        measured once, the best was also lucky.
        """
        likely = self._strategy.expected(evaluation.candidate) if self._strategy else 0.0
        return likely or evaluation.merit or 0.0

    def _look_at_baseline_again(self, heard: Callable[[Evaluation], None]) -> None:
        """In a long search, now and then: whether the machine is still what it was."""
        looks = [e for e in self._evaluations if e.baseline and e.phase != "confirm"]
        last = self._evaluations.index(looks[-1]) if looks else 0
        since = sum(e.seconds for e in self._evaluations[last + 1 :])
        if not looks or looks[0].capacity is None or since < _AGAIN_AFTER_SECONDS:
            return
        first = looks[0]
        again = self._evaluator.search(Subject(first.trial, first.candidate, True), 0.0, "again")
        self._keep(again)
        heard(again)

    def finish(self, reason: str) -> None:
        """Note that the search is over, so that the same command starts a new one."""
        self._study.set_user_attr(STOPPED, reason)

    def _reason_to_stop(self, budget: Budget, elapsed: float, duplicates: int) -> Stop | None:
        done = list(self._known.values())
        if budget.trials is not None and len(done) >= budget.trials:
            return Stop.TRIALS
        if done and elapsed + _seconds_to_confirm(done, budget) > budget.seconds:
            return Stop.TIMEOUT
        all_known = self._size is not None and len(done) >= self._size
        if all_known:
            return Stop.EXHAUSTED
        if duplicates >= _MOST_DUPLICATES:
            return Stop.NOTHING_NEW
        if not self.has_found() and self._is_hopeless(done):
            return Stop.HOPELESS
        return None

    def _is_hopeless(self, done: list[Evaluation]) -> bool:
        """Candidates with no rate at all tell of the model; those that miss one rate, less so."""
        strategy = self._strategy if len(done) >= _LEAST_HOPELESS_TRIALS else None
        if strategy is not None and strategy.is_ready and strategy.hope(done) < _LEAST_HOPE:
            return True
        return len(done) >= (_MOST_HOPELESS_TRIALS if self._minimizes else _HOPELESS_TRIALS)

    def _evaluate(self, number: int, candidate: Candidate) -> Evaluation:
        is_baseline = candidate == Candidate.of(self._own)
        leader = best(self._evaluations)
        to_beat = leader.capacity if leader and leader.capacity else 0.0
        expected = self._strategy.expected(candidate) if self._strategy else 0.0
        evaluation = self._evaluator.search(
            Subject(number, candidate, is_baseline), to_beat, expected=expected
        )
        self._keep(evaluation)
        self._known[candidate] = evaluation
        return evaluation

    def _keep(self, evaluation: Evaluation) -> None:
        self._run.append(evaluation)
        self._evaluations.append(evaluation)

    def _tell(self, trial: optuna.Trial, evaluation: Evaluation) -> None:
        with storage_errors(self._url):
            trial.set_constraint("sla", _constraint(evaluation))
            trial.set_user_attr("candidate", evaluation.label)
            if evaluation.failure:
                trial.set_user_attr("failure", evaluation.failure)
            value = evaluation.cost.value if evaluation.cost else evaluation.estimate
            worst = math.inf if self._minimizes else 0.0
            self._study.tell(trial, worst if value is None else value)


def _constraint(evaluation: Evaluation) -> float:
    match evaluation.state:
        case State.OK | State.BEATEN:
            return 0.0
        case State.INFEASIBLE:
            over = (evaluation.margin or _FAILED_CONSTRAINT) - 1
            return min(max(over, 1e-3), _FAILED_CONSTRAINT)
        case State.FAILED:
            return _FAILED_CONSTRAINT


def _expecting(evaluation: Evaluation, merit: float) -> tuple[Subject, float]:
    return Subject(evaluation.trial, evaluation.candidate, evaluation.baseline), merit


def _seconds_to_confirm(done: list[Evaluation], budget: Budget) -> float:
    """What confirming finalist and baseline will take, and the trial that would come before."""
    trial = sum(e.seconds for e in done) / len(done)
    confirmation = 2 * _CONFIRMATION_SECONDS if budget.confirms else 0.0
    return min(trial + confirmation, 0.5 * budget.seconds)
