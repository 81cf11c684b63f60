"""The search: Optuna asks, the evaluator answers, records and storage keep it.

Optuna's storage is the only state. A trial's value is the candidate's capacity; its constraint
``sla`` is at most zero where the Sla is met at some rate, and a failed candidate counts as far from
feasible, so that a sampler keeps away from it. Where there is a strategy, it says which trial comes
next, as long as it knows; else Optuna's sampler does.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tuner.calibrate import Course
from tuner.draft import Subject
from tuner.errors import SimulationError, StorageError
from tuner.evaluate import Evaluator
from tuner.results import Evaluation, Outcome, Run, State, baseline, best
from tuner.space import (
    SIMULATED,
    Candidate,
    Parameter,
    Point,
    SearchSpace,
    Value,
    format_value,
    stated,
)

if TYPE_CHECKING:
    from tuner.strategy import Strategy

_FAILED_CONSTRAINT = 1e3
_MOST_DUPLICATES = 200
_HOPELESS_TRIALS = 5
_FINALISTS = 2
_NEAR = 0.99
_AGAIN_AFTER_SECONDS = 300.0
_CONFIRMATION_SECONDS = 60.0
_MISSED_BY = 0.02
_STOPPED = "stopped"
_CALIBRATED = "calibrated"


class Stop(StrEnum):
    """Why a search ended."""

    TRIALS = "the number of trials was reached"
    TIMEOUT = "the time was spent"
    EXHAUSTED = "every candidate of the space was measured"
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
    ) -> None:
        self._strategy = strategy
        self._run = run
        self._space = space
        self._own = own
        self._evaluator = evaluator
        self._evaluations = run.evaluations()
        self._known = {e.candidate: e for e in self._evaluations if e.phase == "search"}
        self._size = space.count(limit=10_000)
        self._url = _url(run, storage)
        self._study = _open(run, self._url, seed, sampler)
        with _storage_errors(self._url):
            if calibrated:
                self._study.set_user_attr(_CALIBRATED, True)
            self._in_hand = self._begin_or_go_on()

    def _begin_or_go_on(self) -> list[optuna.Trial]:
        """Enqueue the first ideas; or the trials that were in hand when the run was cut."""
        trials = self._study.get_trials(deepcopy=False)
        if not trials:
            for settings in self._first_ideas():
                self._study.enqueue_trial(_params(self._space, settings))
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
        reason = self._study.user_attrs.get(_STOPPED)
        return str(reason) if reason else None

    def search(self, budget: Budget, heard: Callable[[Evaluation], None]) -> Stop:
        """Evaluate candidates until the budget is spent; ``heard`` gets each evaluation."""
        began = time.monotonic() - sum(e.seconds for e in self._evaluations)
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
            with _storage_errors(self._url):
                trial = self._in_hand.pop(0) if self._in_hand else self._study.ask()
                candidate = _suggest(trial, self._space)
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
        with _storage_errors(self._url):
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
            return Stop.EXHAUSTED
        if proposal.gain < budget.until and self._has_found():
            return Stop.CONVERGED
        with _storage_errors(self._url):
            self._study.enqueue_trial(_params(self._space, proposal.point))
        return None

    def _calibrate(self) -> None:
        """Once, before the first trial. A strategy that the model's statistics do not bear is given
        up for Optuna's sampler.
        """
        if self._strategy is None or self._strategy.is_ready:
            return
        if _CALIBRATED not in self._study.user_attrs:
            self._evaluator.calibrate(Course.of(self._space, self._own))
            with _storage_errors(self._url):
                self._study.set_user_attr(_CALIBRATED, True)
        try:
            self._strategy.calibrate(self._run.windows())
        except SimulationError:
            self._strategy = None

    def _has_found(self) -> bool:
        return any(e.capacity is not None for e in self._known.values())

    def confirm(self, heard: Callable[[Evaluation], None]) -> None:
        """Measure the finalists and the baseline again, interleaved, on fresh servers with fresh
        seeds (``Evaluator.confirm``).

        The runner-up is one of them where it came near enough to be the better one. The baseline
        is, even if the search found no rate for it: all is reported against it.
        """
        if self._strategy is not None:
            self._strategy.learn(list(self._known.values()))
        found = baseline([e for e in self._evaluations if e.phase == "search"])
        searched = [(e, self._likely(e)) for e in self._known.values() if e.capacity is not None]
        searched.sort(key=lambda each: each[1], reverse=True)
        best_found = searched[0][1] if searched else 0.0
        finalists = [each for each in searched if each[1] >= _NEAR * best_found][:_FINALISTS]
        if found is not None and all(e.candidate != found.candidate for e, _ in finalists):
            expected = found.capacity or best_found / 2
            if expected > 0 and found.state is not State.FAILED:
                finalists.append((found, expected))
        subjects = [
            (Subject(e.trial, e.candidate, e.baseline), expected) for e, expected in finalists
        ]
        confirmed = {e.candidate for e in self._evaluations if e.phase == "confirm"}
        if not confirmed.issuperset(subject.candidate for subject, _ in subjects):
            for evaluation in self._evaluator.confirm(subjects):
                self._keep(evaluation)
                heard(evaluation)

    def _likely(self, evaluation: Evaluation) -> float:
        """Requests/s that a candidate holds, as far as all measurements together tell: of many that
        were measured once, the best was also lucky.
        """
        likely = self._strategy.expected(evaluation.candidate) if self._strategy else 0.0
        return likely or evaluation.capacity or 0.0

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
        self._study.set_user_attr(_STOPPED, reason)

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
        if len(done) >= _HOPELESS_TRIALS and not any(e.capacity for e in done):
            return Stop.HOPELESS
        return None

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
        with _storage_errors(self._url):
            trial.set_constraint("sla", _constraint(evaluation))
            trial.set_user_attr("candidate", evaluation.label)
            if evaluation.failure:
                trial.set_user_attr("failure", evaluation.failure)
            self._study.tell(trial, evaluation.estimate or 0.0)


def is_finished(run: Run, storage: str | None) -> bool:
    """Whether the run's search came to its end, so that there is nothing to resume."""
    if storage is None and not run.study_file.exists():
        return False
    return _STOPPED in _open(run, _url(run, storage), 0, "tpe").user_attrs


def _url(run: Run, storage: str | None) -> str:
    return storage or f"sqlite:///{run.study_file.resolve()}"


def _open(run: Run, url: str, seed: int, name: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = _sampler(name, seed)
    with _storage_errors(url):
        return optuna.create_study(
            storage=url,
            sampler=sampler,
            study_name=_name(run, url),
            direction="maximize",
            load_if_exists=True,
        )


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # group: for conditional spaces
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, n_startup_trials=6
        )


def _name(run: Run, url: str) -> str:
    """The folder's name; a file of the run's own keeps its study's, also when the folder moves."""
    if url == _url(run, None) and run.study_file.exists():
        known = optuna.get_all_study_names(storage=url)
        if known:
            return str(known[0])
    return run.folder.name


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OptunaError, ImportError, OSError, ValueError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(
            f"the storage {hide_password(url)} failed: {reason}; "
            "make room or choose another with --storage"
        ) from error


def hide_password(url: str) -> str:
    """A storage URL that may be shown and recorded."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url


def _constraint(evaluation: Evaluation) -> float:
    match evaluation.state:
        case State.OK | State.BEATEN:
            return 0.0
        case State.INFEASIBLE:
            over = (evaluation.margin or _FAILED_CONSTRAINT) - 1
            return min(max(over, 1e-3), _FAILED_CONSTRAINT)
        case State.FAILED:
            return _FAILED_CONSTRAINT


def _seconds_to_confirm(done: list[Evaluation], budget: Budget) -> float:
    """What confirming finalist and baseline will take, and the trial that would come before."""
    trial = sum(e.seconds for e in done) / len(done)
    confirmation = 2 * _CONFIRMATION_SECONDS if budget.confirms else 0.0
    return min(trial + confirmation, 0.5 * budget.seconds)


def first_ideas(space: SearchSpace, own: dict[str, Value]) -> list[Point]:
    """The baseline, and what an expert would try first: greedy batching, one or two instances of
    one thread each, kernels launched as CUDA graphs.
    """
    ideas: list[Point] = [{**own}]
    for count in (1, 2):
        idea: Point = {**own}
        wanted: dict[str, Value] = {
            "dynamic_batching": True,
            "dynamic_batching.preferred_batch_size": (),
            "dynamic_batching.max_queue_delay_microseconds": 0,
            "instance_group.count": count,
            "parameters[intra_op_thread_count]": 1,
            "parameters[execution]": "cuda_graphs",
        }
        for path, value in wanted.items():
            if path in space.parameters and _allows(space.parameters[path], value):
                idea[path] = value
        ideas.append(idea)
    return ideas


def _allows(parameter: Parameter, value: Value) -> bool:
    return parameter.including(value) == parameter


def _suggest(trial: optuna.Trial, space: SearchSpace) -> Candidate:
    settings: dict[str, Value | None] = {}
    for path, parameter in space.parameters.items():
        if space.parent_is_on(path, settings):
            settings[path] = _suggest_one(trial, path, parameter)
    return Candidate.of(stated(settings))


def _suggest_one(trial: optuna.Trial, path: str, parameter: Parameter) -> Value | None:
    if parameter.values is not None:
        by_label = {_label(value): value for value in parameter.values}
        return by_label[trial.suggest_categorical(path, list(by_label))]
    assert parameter.range is not None
    low, high = parameter.range
    if parameter.step is not None and parameter.size is not None:
        high = low + (parameter.size - 1) * parameter.step
    if isinstance(low, int) and isinstance(high, int):
        step = int(parameter.step or 1)
        return trial.suggest_int(path, low, high, step=step, log=parameter.log)
    step_size = None if parameter.step is None else float(parameter.step)
    return trial.suggest_float(path, low, high, step=step_size, log=parameter.log)


def _params(space: SearchSpace, settings: Mapping[str, Value | None]) -> dict[str, Any]:
    """Settings as Optuna's parameters."""
    return {
        path: _label(settings.get(path)) if parameter.values is not None else settings[path]
        for path, parameter in space.parameters.items()
        if space.parent_is_on(path, settings)
        and (path in settings or (parameter.values is not None and None in parameter.values))
    }


def _label(value: Value | None) -> Any:
    """A value as an Optuna choice, which may be a number, a truth value, text, or None."""
    return format_value(value) if isinstance(value, tuple) else value
