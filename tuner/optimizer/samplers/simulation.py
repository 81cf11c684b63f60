"""An Optuna sampler that simulates all candidates and proposes the one with the largest expected
improvement.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import UsageError
from tuner.model.space import Candidate, Point, SearchSpace
from tuner.optimizer.forecast import Forecast, Prior, Proposal
from tuner.optimizer.measurement import Measurement, measurements
from tuner.optimizer.prior import SimulatedSpace
from tuner.optimizer.samplers.choose import make_sampler
from tuner.optimizer.simulators import Simulator
from tuner.optimizer.suggestion import candidate_of, params
from tuner.records.results import Insight, State, Window
from tuner.servers.causes import cause_of

_PROPOSAL = "simulation:proposal"
_FIXED = "fixed_params"  # where Optuna keeps the values of an enqueued trial
_MORE_WINDOWS = 1.5
"""All are simulated again once there are half as many windows more: fewer change no ranking, and
the simulation of a space takes a second or two."""


class SimulationSampler(BaseSampler):
    """Proposes the point with the largest expected improvement, as far as simulation and the
    study's finished trials tell (``tuner.optimizer.forecast``).

    Any study of one objective can use it, with an objective that asks for its parameters with
    ``tuner.optimizer.suggestion.suggest``::

        simulator = OneModel(workload, lambda candidate: render(config, candidate), seed=0)
        sampler = SimulationSampler(space, simulator)
        sampler.calibrate(run.windows())
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(lambda trial: capacity_of(suggest(trial, space)), n_trials=20)

    The study maximizes the capacity or, if it ``minimizes``, the value of the workload's objective.
    What a trial told besides its value it may say in user attributes, as in
    ``tuner.optimizer.measurement``, and by Optuna's constraints; pruned and failed trials count as
    such.

    Optuna asks for parameters one by one, and for some only if others have certain values. So a
    whole point is chosen in ``before_trial`` and kept among the trial's system attributes, where
    every process and a resumed study find it; ``sample_independent`` answers with its coordinates,
    and nothing is sampled relatively. A point has a value also for parameters that are not asked
    for in the end. Three cases remain for ``fallback``, Optuna's TPE unless another is given: a
    sampler that is not calibrated, a space in which nothing is left to propose, and a parameter
    that the proposal has no value for, or one that its distribution does not allow. Values that a
    trial was enqueued with are Optuna's to answer; the rest of it is chosen among the points that
    agree with them. Candidates of trials that run or wait are not proposed again, but workers that
    ask at the same moment may be given the same one.
    """

    def __init__(
        self,
        space: SearchSpace,
        simulator: Simulator,
        seed: int = 0,
        also: Iterable[Point] = (),
        fallback: BaseSampler | None = None,
        minimizes: bool = False,
    ) -> None:
        """``also`` are points that are known in any case. SimulationError if a model's scheduler is
        not simulated.
        """
        self._space = space
        self._minimizes = minimizes
        self._simulated = SimulatedSpace(space, simulator, seed, also, minimizes=minimizes)
        self._fallback = fallback or make_sampler("tpe", seed)
        self._prior: Prior | None = None
        self._failures: tuple[Measurement, ...] = ()
        self._windows = 0
        self._latest: Forecast | None = None

    def calibrate(
        self, windows: Sequence[Window], failures: Sequence[tuple[Candidate, str]] = ()
    ) -> None:
        """Simulate every candidate with what these windows tell of the model; again, once there are
        clearly more of them. ``failures`` are candidates that failed besides trials, and why.

        SimulationError if the windows tell nothing; the fallback samples from then on.
        """
        self._failures = tuple(
            Measurement(candidate, State.FAILED, cause=cause_of(why)) for candidate, why in failures
        )
        if len(windows) < _MORE_WINDOWS * self._windows:
            return
        self._windows, self._prior = len(windows), None
        self._prior = self._simulated.simulate(windows)

    def forecast(self, study: optuna.Study) -> Forecast | None:
        """What is expected of all candidates after the study's finished trials; None before there
        is a calibration.
        """
        if self._prior is None:
            return None
        known = measurements(study, self._space, self._minimizes)
        forecast = Forecast(self._prior, known, self._failures)
        latest = self._latest
        if latest is None or latest.prior is not self._prior or forecast != latest:
            self._latest = latest = forecast
        return latest  # with all that was computed of it

    def insight(self, candidate: Candidate) -> Insight | None:
        """What follows from a simulation of several models besides capacities; None of a single
        one, and before there is a calibration.
        """
        if self._prior is None:
            return None
        return self._simulated.insight(candidate)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._raise_error_if_multi_objective(study)
        direction = "minimize" if self._minimizes else "maximize"
        if study.direction.name.lower() != direction:
            raise UsageError(
                f"this sampler's workload needs a study with direction={direction!r}; this study "
                f"has {study.direction.name.lower()!r}"
            )
        self._fallback.before_trial(study, trial)
        if _PROPOSAL in trial.system_attrs:  # it was cut, and goes on
            return
        proposal = self._propose(study, trial)
        if proposal is not None:
            point = params(self._space, proposal.point)
            study._storage.set_trial_system_attr(trial._trial_id, _PROPOSAL, point)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        if self._proposed(study, trial):
            return {}
        return self._fallback.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        return self._fallback.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        self._raise_error_if_multi_objective(study)
        proposed = self._proposed(study, trial)
        if param_name in proposed and _allows(param_distribution, proposed[param_name]):
            return proposed[param_name]
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._fallback.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._fallback.reseed_rng()

    def _propose(self, study: optuna.Study, trial: FrozenTrial) -> Proposal | None:
        forecast = self.forecast(study)
        if forecast is None:
            return None
        pending = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        taken = {
            candidate_of(self._space, _values(each))
            for each in pending
            if each.number != trial.number
        }
        fixed = _values(trial)
        among = [
            candidate not in taken and self._agrees(point, fixed)
            for candidate, point in forecast.prior.points.items()
        ]
        return forecast.propose(np.array(among))

    def _agrees(self, point: Point, fixed: Mapping[str, Any]) -> bool:
        if not fixed:
            return True
        own = params(self._space, point)
        return all(own.get(name) == value for name, value in fixed.items())

    def _proposed(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        attributes = study._storage.get_trial_system_attrs(trial._trial_id)
        proposed: dict[str, Any] = attributes.get(_PROPOSAL, {})
        return proposed


def _values(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial has, or is going to have as far as is known."""
    attributes = trial.system_attrs
    return {**attributes.get(_PROPOSAL, {}), **attributes.get(_FIXED, {}), **trial.params}


def _allows(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (ValueError, TypeError):
        return False
