"""What trials tell in Optuna's storage, of this version and of others."""

import math
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.goals.test_constraints import probe
from tests.optimizer.test_samplers import CONDITIONAL
from tuner.model.space import INSTANCE_COUNT, Candidate
from tuner.optimizer.measurement import (
    ERRORS,
    SLA_CONSTRAINT,
    Measurement,
    attributes_of,
    constraint_of,
    measurements,
    value_of,
)
from tuner.optimizer.suggestion import suggest
from tuner.records.results import Cost, Evaluation, State

COST = Cost(objective="instances", rate=9.0, value=3.0, low=2.5, high=3.5)
CASES: dict[str, dict[str, Any]] = {
    "ok": {"state": State.OK, "capacity": 98.7, "low": 91.3, "high": 104.9, "bound_ratio": 0.93},
    "beaten": {"state": State.BEATEN, "low": 40.1, "high": 61.7, "bound_ratio": 1.2},
    "beaten, with a rate": {"state": State.BEATEN, "capacity": 45.0, "low": 40.0, "high": 60.0},
    "at no rate": {"state": State.INFEASIBLE, "bound_ratio": 7.3, "probes": (probe(), probe())},
    "at no rate, untold": {"state": State.INFEASIBLE},
    "failed": {"state": State.FAILED, "failure": "CUDA out of memory", "cause": "out of memory"},
    "cost": {"state": State.OK, "capacity": 9.0, "bound_ratio": 0.8, "cost": COST},
    "cost, missed": {"state": State.INFEASIBLE, "bound_ratio": 1.4, "cost": COST},
    "cost, failed": {"state": State.FAILED, "failure": "no such luck"},
}


def evaluation(candidate: Candidate, **values: Any) -> Evaluation:
    return Evaluation(
        trial=0,
        phase="search",
        baseline=False,
        settings=dict(candidate.settings),
        config="",
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
        **values,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_trial_tells_all_that_its_evaluation_does(case: str) -> None:
    minimizes = case.startswith("cost")
    study = optuna.create_study(direction="minimize" if minimizes else "maximize")
    trial = study.ask()
    told = evaluation(suggest(trial, CONDITIONAL), **CASES[case])
    trial.set_constraint(SLA_CONSTRAINT, constraint_of(told))
    for name, value in attributes_of(told).items():
        trial.set_user_attr(name, value)
    study.tell(trial, value_of(told, minimizes))
    (measurement,) = measurements(study, CONDITIONAL, minimizes)
    assert measurement == Measurement.of_evaluation(told, minimizes)
    assert measurement.state is told.state
    assert measurement.merit == told.merit


def trial_of(constraint: float | None, value: float | None, **more: Any) -> FrozenTrial:
    """A trial without the attributes that tuner sets."""
    study = optuna.create_study()
    asked = study.ask()
    suggest(asked, CONDITIONAL)
    frozen = study.trials[0]
    constraints = {} if constraint is None else {f"constraints:{SLA_CONSTRAINT}": constraint}
    return create_trial(
        params=frozen.params,
        distributions=frozen.distributions,
        value=value,
        system_attrs=constraints,
        **more,
    )


@pytest.mark.parametrize(
    ("trial", "state", "merit", "ratio"),
    [
        (trial_of(None, 50.0), State.OK, 50.0, None),
        (trial_of(0.0, 50.0), State.OK, 50.0, None),
        (trial_of(0.25, 0.0), State.INFEASIBLE, None, 1.25),
        (trial_of(0.25, 50.0), State.INFEASIBLE, None, 1.25),
        (trial_of(999.0, 0.0), State.INFEASIBLE, None, None),
        (trial_of(1e3, 0.0), State.FAILED, None, None),
        (trial_of(None, 0.0), State.INFEASIBLE, None, None),
        (trial_of(None, None, state=TrialState.FAIL), State.FAILED, None, None),
        (trial_of(None, None, state=TrialState.PRUNED), State.BEATEN, None, None),
    ],
)
def test_trials_of_others_and_of_version_0_1_are_understood(
    trial: FrozenTrial, state: State, merit: float | None, ratio: float | None
) -> None:
    measurement = Measurement.of_trial(trial, CONDITIONAL, minimizes=False)
    assert measurement is not None
    assert (measurement.state, measurement.merit, measurement.bound_ratio) == (state, merit, ratio)
    if merit is not None:
        assert measurement.log_merit == pytest.approx(math.log(merit))
        assert measurement.error == ERRORS.no_interval


def test_the_cause_of_a_failure_is_told_by_its_words() -> None:
    trial = trial_of(1e3, 0.0, user_attrs={"failure": "CUDA out of memory"})
    measurement = Measurement.of_trial(trial, CONDITIONAL, minimizes=False)
    assert measurement is not None
    assert measurement.cause == "out of memory"


def test_a_trial_that_is_none_of_the_space_tells_nothing() -> None:
    study = optuna.create_study(direction="maximize")
    trial = study.ask()
    trial.suggest_int(INSTANCE_COUNT, 1, 4)
    study.tell(trial, 1.0)
    assert measurements(study, CONDITIONAL, minimizes=False) == ()
