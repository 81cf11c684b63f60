"""The search: a sampler asks, servers are measured, records and storage keep it.

Optuna's storage is the only state: what trials tell there (``tuner.optimizer.measurement``) is all
that samplers learn from. There is one path for every sampler: a trial is asked for, its parameters
make a candidate, which is measured or answered from the records, and the trial is told.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from tuner.deadline import OUT_OF_TIME, Deadline
from tuner.deployments.subjects import Subject
from tuner.errors import SimulationError, StorageError
from tuner.measurement.calibrate import CalibrationPlan
from tuner.model.parameter import Value
from tuner.model.space import SIMULATED, Candidate, Point, SearchSpace, stated
from tuner.optimizer.artifacts import attach
from tuner.optimizer.finalists import Finalists, Ranked
from tuner.optimizer.measurement import (
    SLA_CONSTRAINT,
    Measurement,
    attributes_of,
    constraint_of,
    value_of,
)
from tuner.optimizer.moves import moves
from tuner.optimizer.stopping import Budget, Stop, StoppingPolicy
from tuner.optimizer.storage import (
    STOPPED,
    hide_password,
    open_study,
    sharing_of,
    storage_errors,
    url_of,
)
from tuner.optimizer.suggestion import candidate_of, first_ideas, params, suggest
from tuner.records.results import Evaluation, Insight, Outcome, State, Window, best
from tuner.records.run import Run

if TYPE_CHECKING:
    from tuner.optimizer.forecast import Forecast

_CALIBRATED = "calibrated"
_FAILURES = "calibration_failures"
_LEARN_FROM_PRUNED = (TPESampler, RandomSampler)
_MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class StudySettings:
    most_candidates: int = 10_000  # of a space that is counted, so that its end is known
    again_seconds: float = 300.0  # of evaluations, after which the baseline is measured once more
    missed_by: float = 0.02  # share by which a candidate that was missed would matter
    moves: int = 3  # on the bottlenecks of one leader, where nothing is simulated
    least_chance: float = 0.1  # of being better by that, for a runner-up to be confirmed as well


SETTINGS = StudySettings()


class Measurer(Protocol):
    """Measures candidates for a study (``tuner.measurement``)."""

    def calibrate(self, plan: CalibrationPlan, /) -> list[tuple[Candidate, str]]:
        """Windows in the run; and what failed, and why."""

    def search(
        self,
        subject: Subject,
        to_beat: float,
        phase: Literal["search", "again"] = "search",
        expected: float = 0.0,
    ) -> Evaluation: ...

    def confirm(self, subjects: list[tuple[Subject, float]], look: int, /) -> list[Evaluation]:
        """Subjects with what is expected of each; an evaluation for each, all interleaved."""


@runtime_checkable
class Forecaster(Protocol):
    """A sampler that simulates, and so has a forecast of every candidate."""

    def calibrate(
        self, windows: Sequence[Window], failures: Sequence[tuple[Candidate, str]] = ()
    ) -> None: ...

    def forecast(self, study: optuna.Study) -> "Forecast | None": ...

    def insight(self, candidate: Candidate) -> Insight | None:
        """What a simulation says of one of several models' settings."""


class Study:
    """One search in one run's folder; made again over the same folder, it goes on."""

    def __init__(
        self,
        run: Run,
        space: SearchSpace,
        own: dict[str, Value],
        measurer: Measurer,
        sampler: BaseSampler,
        storage: str | None = None,
        study_name: str | None = None,
        *,
        calibrated: bool = False,
        minimizes: bool = False,
        moves: bool = False,
        note: Callable[[str], None] = lambda _: None,
        deadline: Deadline | None = None,
        began: float | None = None,
    ) -> None:
        """Searches of one ``study_name`` in a ``storage`` share that study.

        ``calibrated`` says that the run has windows from elsewhere; ``moves``, that what is not
        simulated is also changed where it is the bottleneck; ``note`` receives notices of
        deviations from the plan; ``deadline`` is the measurer's, which gets each phase's end; the
        time limit counts from ``began`` (``time.monotonic()``), by default from now.
        """
        self._began = time.monotonic() if began is None else began
        self._deadline = deadline or Deadline()
        self._ends = math.inf
        self._run = run
        self._space = space
        self._own = own
        self._measurer = measurer
        self._forecaster = sampler if isinstance(sampler, Forecaster) else None
        # Optuna's Gaussian process learns nothing from a trial that was pruned.
        self._prunes = self._forecaster is not None or isinstance(sampler, _LEARN_FROM_PRUNED)
        self._evaluations = run.evaluations()
        self._known = {e.candidate: e for e in self._evaluations if e.phase == "search"}
        self._size = space.count(limit=SETTINGS.most_candidates)
        self._url = url_of(run, storage)
        self._minimizes = minimizes
        self._moves = moves
        self._note = note
        self._sharing = sharing_of(run, storage, study_name)
        self._study = open_study(run, self._url, sampler, minimizes, study_name)
        if self._sharing is not None:
            with storage_errors(self._url):
                self._sharing.join(self._study, run.manifest().comparable())
            sampler.reseed_rng()  # else searches of one seed would propose the same
        elif self._lacks_records():
            if self._url != url_of(run, None):
                raise StorageError(
                    f"the storage {hide_password(self._url)} already has a study "
                    f"{self._study.study_name} of another search, or of one whose records are "
                    "lost; choose another --run"
                )
            self._study = open_study(run, self._url, sampler, minimizes, study_name, anew=True)
        self._finalists = Finalists(self._rank, minimizes, self._may_win)
        with storage_errors(self._url):
            if calibrated:
                self._set(_CALIBRATED, 0.0)
            self._in_hand = self._begin_or_go_on()

    def _lacks_records(self) -> bool:
        """Whether the storage has a trial that was measured, and has no record: what it would go
        on from is not known any more.
        """
        with storage_errors(self._url):
            done = self._study.get_trials(deepcopy=False, states=_MEASURED)
        candidates = (candidate_of(self._space, trial.params) for trial in done)
        return any(each is not None and each not in self._known for each in candidates)

    def _begin_or_go_on(self) -> list[int]:
        """Enqueue the initial candidates; or return the ids of trials that were running when the
        run was interrupted.
        """
        if self._sharing is not None:
            self._sharing.release_lost(self._study)  # its own as well, if it was gone for long
        trials = self._study.get_trials(deepcopy=False)
        if not trials:
            for settings in self._first_ideas():
                self._study.enqueue_trial(params(self._space, settings))
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        if self._sharing is not None:
            running = [trial for trial in running if self._sharing.is_own(trial)]
            for trial in running:
                self._sharing.beat(self._study, trial._trial_id)
        return [trial._trial_id for trial in running]

    def _first_ideas(self) -> list[Point]:
        """Of what an expert would try, a simulation needs only what it does not cover itself."""
        own, *ideas = first_ideas(self._space, self._own)
        if self._forecaster is not None:
            beyond = [path for path in self._space.parameters if path not in SIMULATED]
            ideas = [i for i in ideas if any(i.get(path) != own.get(path) for path in beyond)]
        return [own, *ideas]

    @property
    def evaluations(self) -> list[Evaluation]:
        return self._evaluations

    @property
    def stopped(self) -> str | None:
        """Why the search ended; None if it did not."""
        reason = self._get(STOPPED)
        return str(reason) if reason else None

    def _get(self, attribute: str) -> Any:
        """Of the study; in a shared one, this run's own."""
        key = attribute if self._sharing is None else self._sharing.key(attribute)
        return self._study.user_attrs.get(key)

    def _set(self, attribute: str, value: Any) -> None:
        key = attribute if self._sharing is None else self._sharing.key(attribute)
        self._study.set_user_attr(key, value)

    def has_found(self) -> bool:
        """Whether some candidate meets the SLA, by what was measured until now."""
        return any(e.merit is not None for e in self._known.values())

    def search(self, budget: Budget, heard: Callable[[Evaluation], None]) -> Stop:
        """Evaluate candidates until the budget is spent; ``heard`` receives each evaluation."""
        policy = StoppingPolicy(budget, self._size, self._minimizes)
        spent = float(self._get(_CALIBRATED) or 0.0)
        own = [each for each in self._evaluations if each.measured_by is None]
        began = self._began - spent - sum(each.seconds for each in own)
        duplicates, last_new = 0, time.monotonic()
        self._ends = began + policy.seconds_to_confirm_by()
        if self._get(_CALIBRATED) is not None:
            self._calibrate(0.0)
        while True:
            self._learn_from_others(heard)
            done, now = list(self._known.values()), time.monotonic()
            self._deadline.set(policy.seconds_to_search(done) - (now - began))
            idle = now - last_new if duplicates else 0.0
            reason = policy.spent(done, now - began, duplicates, idle, self._forecast())
            if reason is None:
                self._calibrate(policy.seconds_to_calibrate())
            if reason is None and not self._is_waiting():
                reason = policy.converged(done, self._forecast())
            if reason is not None:
                return reason
            self._suggest_move()
            asked = self._ask()
            duplicates += 1
            if asked is None:
                continue
            trial, candidate = asked
            evaluation = self._known.get(candidate)
            if evaluation is not None:
                self._tell(trial, evaluation)
                continue
            with self._in_work(trial):
                evaluation = self._evaluate(trial.number, candidate)
                self._tell(trial, evaluation)
            heard(evaluation)
            self._measure_baseline_again(heard)
            duplicates, last_new = 0, time.monotonic()

    def outcome(self, reason: Stop) -> Outcome:
        """How the search ended, and the probability that it missed a better candidate."""
        forecast, leader = self._forecast(), best(list(self._known.values()))
        alike: list[Candidate] = []
        near: list[Candidate] = []
        if forecast is not None and leader is not None:
            alike, near = forecast.equals(leader.candidate, SETTINGS.missed_by)
        return Outcome(
            reason=reason.value,
            candidates=self._size,
            simulated=len(forecast.candidates) if forecast else 0,
            measured=len(self._known),
            by=SETTINGS.missed_by,
            missed=forecast.missed(SETTINGS.missed_by) if forecast else None,
            alike=tuple(str(candidate) for candidate in alike),
            near=len(near),
            insight=self._insight(leader),
        )

    def _insight(self, leader: Evaluation | None) -> Insight | None:
        if self._forecaster is None or leader is None or self._forecast() is None:
            return None
        return self._forecaster.insight(leader.candidate)

    def confirm(self, heard: Callable[[Evaluation], None]) -> None:
        """Measure the finalists and the baseline again, interleaved, on fresh servers with fresh
        seeds; where the finalists disappoint, others as well (``Finalists.next``).
        """
        self._deadline.set(self._ends - time.monotonic())
        while (subjects := self._finalists.next(self._evaluations)) and self._deadline.left:
            look = max((e.look + 1 for e in self._evaluations if e.phase == "confirm"), default=0)
            for evaluation in self._measurer.confirm(subjects, look):
                if not (evaluation.failure or "").startswith(OUT_OF_TIME):
                    self._keep(evaluation)
                    heard(evaluation)

    def finish(self, reason: str) -> None:
        """Record that the search is over, so that the same command starts a new one."""
        with storage_errors(self._url):
            if self._sharing is None:  # else the others' dashboards would lack the files
                attach(self._study, self._run)
            self._set(STOPPED, reason)

    def _learn_from_others(self, heard: Callable[[Evaluation], None]) -> None:
        """Take what the others on a shared study measured into the records."""
        if self._sharing is None:
            return
        with storage_errors(self._url):
            self._sharing.release_lost(self._study)
            found = list(self._sharing.of_others(self._study, self._known.keys()))
        for each in found:
            if each.candidate not in self._known:
                own = each.candidate == Candidate.of(self._own)
                evaluation = each.model_copy(update={"baseline": own})
                self._keep(evaluation)
                self._known[evaluation.candidate] = evaluation
                heard(evaluation)

    def _in_work(self, trial: optuna.Trial) -> AbstractContextManager[None]:
        """While it is measured, the others on a shared study see that it is."""
        if self._sharing is None:
            return nullcontext()
        return self._sharing.alive(self._study, trial)

    def _calibrate(self, seconds: float) -> None:
        """Before the first trial, in so many seconds at most, and again with what the servers of
        trials told besides. A simulation that the model's statistics do not bear is given up for
        Optuna's sampler.
        """
        if self._forecaster is None:
            return
        if self._get(_CALIBRATED) is None:
            began = time.monotonic()
            with self._deadline.within(seconds), self._run.clock.phase("calibration"):
                failed = self._measurer.calibrate(CalibrationPlan.of(self._space, self._own))
            for candidate, why in failed:
                self._note(f"calibration failed with {candidate}: {why.splitlines()[0]}")
            with storage_errors(self._url):
                listed = [[candidate.settings, why] for candidate, why in failed]
                self._set(_FAILURES, listed)
                self._set(_CALIBRATED, time.monotonic() - began)
        try:
            with self._run.clock.phase("simulation"):
                self._forecaster.calibrate(self._run.windows(), self._failures())
        except SimulationError as error:
            self._note(f"no simulation, so Optuna's sampler chooses candidates: {error}")
            self._forecaster = None

    def _failures(self) -> list[tuple[Candidate, str]]:
        """Candidates that failed in the calibration, and why."""
        listed = self._get(_FAILURES) or ()
        return [
            (Candidate.of({p: tuple(v) if isinstance(v, list) else v for p, v in settings}), why)
            for settings, why in listed
        ]

    def _forecast(self) -> "Forecast | None":
        if self._forecaster is None:
            return None
        with storage_errors(self._url):
            return self._forecaster.forecast(self._study)

    def _is_waiting(self) -> bool:
        """Whether a trial is running, or was enqueued before."""
        with storage_errors(self._url):
            waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return bool(self._in_hand or waiting)

    def _suggest_move(self) -> None:
        """Of a pipeline that is not simulated: a change to the leader's bottleneck is tried before
        the sampler goes on, a few of each leader.
        """
        leader = best(list(self._known.values()))
        is_simulated = self._forecaster is not None
        if not self._moves or is_simulated or leader is None or self._is_waiting():
            return
        for move in islice(moves(self._space, leader), SETTINGS.moves):
            if Candidate.of(stated(move)) not in self._known:
                with storage_errors(self._url):
                    self._study.enqueue_trial(params(self._space, move))
                return

    def _ask(self) -> tuple[optuna.Trial, Candidate] | None:
        """The next trial, and what it is of; None where another search has just that in hand."""
        with storage_errors(self._url), warnings.catch_warnings():
            # A Gaussian process clips the infinite cost of what failed, as it should.
            warnings.filterwarnings("ignore", "Clip non-finite values")
            # Signs of life are given by ``_in_work``.
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")
            if self._in_hand:
                trial = optuna.Trial(self._study, self._in_hand.pop(0))
            else:
                trial = self._study.ask()
            if self._sharing is None:
                return trial, suggest(trial, self._space)
            try:
                self._sharing.take(self._study, trial)
                candidate = suggest(trial, self._space)
            except UpdateFinishedTrialError:  # another search gave it up meanwhile
                return None
            others = self._sharing.in_hand_before(self._study, trial.number)
            if candidate in (candidate_of(self._space, each.params) for each in others):
                self._study.tell(trial, state=TrialState.FAIL)
                return None
            return trial, candidate

    def _evaluate(self, number: int, candidate: Candidate) -> Evaluation:
        is_baseline = candidate == Candidate.of(self._own)
        taken = [each.trial for each in self._evaluations]
        if number in taken:  # where the storage was lost, its trials are counted anew
            number = max(taken) + 1
        leader, forecast = best(self._evaluations), self._forecast()
        evaluation = self._measurer.search(
            Subject(number, candidate, is_baseline),
            self._to_beat(leader, forecast),
            expected=forecast.expected(candidate) if forecast else 0.0,
        )
        self._keep(evaluation)
        self._known[candidate] = evaluation
        return evaluation

    def _to_beat(self, leader: Evaluation | None, forecast: "Forecast | None") -> float:
        """The rate that a challenger has to exceed to matter; 0.0 if there is none. If there is a
        forecast, a lucky leader counts for what is expected of it, and a baseline, which is
        measured but roughly, for what it surely serves.
        """
        if leader is None or not leader.capacity:
            return 0.0
        if forecast is None:
            return leader.capacity
        surely = leader.low if leader.baseline else forecast.expected(leader.candidate)
        return min(surely or leader.capacity, leader.capacity) * (1 + SETTINGS.missed_by)

    def _measure_baseline_again(self, heard: Callable[[Evaluation], None]) -> None:
        """In a long search, from time to time: whether the machine's performance changed."""
        looks = [
            each
            for each in self._evaluations
            if each.baseline and each.phase != "confirm" and each.measured_by is None
        ]
        last = self._evaluations.index(looks[-1]) if looks else 0
        later = self._evaluations[last + 1 :]
        since = sum(each.seconds for each in later if each.measured_by is None)
        if not looks or looks[0].capacity is None or since < SETTINGS.again_seconds:
            return
        subject = Subject(looks[0].trial, looks[0].candidate, True)
        evaluation = self._measurer.search(subject, 0.0, "again")
        self._keep(evaluation)
        heard(evaluation)

    def _rank(self, evaluations: Sequence[Evaluation]) -> Ranked:
        """By the merit that all measurements together say; of candidates that are not simulated, by
        the one that was measured. An eliminated one is among them if it is simulated: the one that
        eliminated it may have been lucky.
        """
        forecast = self._forecast()
        if forecast is not None:
            forecast = forecast.given(
                [Measurement.of_evaluation(e, self._minimizes) for e in evaluations]
            )
        found = []
        for each in evaluations:
            if each.merit is None and (forecast is None or each.state is not State.BEATEN):
                continue
            merit = (forecast.expected(each.candidate) if forecast else 0.0) or each.merit
            if merit:
                found.append((each, merit))
        return sorted(found, key=lambda each: each[1], reverse=True)

    def _may_win(self, one: Evaluation, other: Evaluation) -> bool:
        forecast = self._forecast()
        if forecast is None:
            return True
        chance = forecast.chance_above(one.candidate, other.candidate, SETTINGS.missed_by)
        return chance is None or chance >= SETTINGS.least_chance

    def _keep(self, evaluation: Evaluation) -> None:
        self._run.append(evaluation)
        self._evaluations.append(evaluation)

    def _tell(self, trial: optuna.Trial, evaluation: Evaluation) -> None:
        """Of a shared study, another search may have given the trial up; the record stays."""
        is_lost = suppress(UpdateFinishedTrialError) if self._sharing else nullcontext()
        with storage_errors(self._url), is_lost:
            if SLA_CONSTRAINT not in trial.constraints:  # a kill may have come after it
                trial.set_constraint(SLA_CONSTRAINT, constraint_of(evaluation))
            told = {} if self._sharing is None else self._sharing.record(evaluation)
            for name, value in {**told, **attributes_of(evaluation)}.items():
                trial.set_user_attr(name, value)
            value = value_of(evaluation, self._minimizes)
            if evaluation.state is not State.BEATEN or not self._prunes:
                self._study.tell(trial, value)
                return
            with warnings.catch_warnings():  # a kill may have come after it
                warnings.filterwarnings("ignore", "The reported value is ignored")
                trial.report(value, 0)  # tell takes a pruned trial's value from here
            self._study.tell(trial, state=TrialState.PRUNED)
