"""The measurement that a finished trial holds, as stored by Optuna.

A trial's value is the candidate's capacity or, where a cost is minimized, its cost; the constraint
``sla`` is at most zero where the SLA is met at some rate. These user attributes say the rest; all
of them may be missing, but a trial that has a ``state`` and meets the SLA has a ``capacity``:

``state``         ok, infeasible, beaten or failed (``tuner.records.results.State``)
``capacity``      the highest rate (requests/s) that meets the SLA
``low``, ``high`` the 95 % interval of the value
``bound_ratio``   the largest ratio of percentile to bound (above 1: the SLA is missed)
``lowest_rate``   the lowest rate that was tried (requests/s), for a trial that met the SLA at none
``cause``         what kind of failure it was (``tuner.records.results.Cause``)
``failure``       the failure in words; for people, and for ``cause`` where that is missing
``candidate``     the candidate in words; for people
``p50``, ``p99``  percentiles (s) of the probe next to the capacity, and others that the SLA bounds
``memory``, …     what that probe read of each quantity (``tuner.goals.quantities``), in base units
``verdict``       met, violated or inconclusive: what that probe says of its ``rate`` (requests/s)
``recommended``   the rate to operate at (requests/s)
``seconds``       what it took

A trial that was eliminated is PRUNED, with the middle of its interval as its value; COMPLETE for
samplers that learn nothing from pruned trials, such as Optuna's Gaussian process. One that failed
is COMPLETE with the worst value, so that samplers learn from it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.goals.quantities import QUANTITIES
from tuner.model.space import Candidate, SearchSpace
from tuner.optimizer.sharing import RUN
from tuner.optimizer.suggestion import candidate_of
from tuner.records.results import LEAST_COST, Cause, Evaluation, ProbeRecord, State
from tuner.servers.causes import cause_of
from tuner.stats.estimators import INTERVAL_WIDTH

SLA_CONSTRAINT = "sla"
_FAILED = 1e3  # the constraint of a failed trial: farther from feasible than any that was measured
_BARELY = 1e-3  # and of one that misses the SLA by nothing that its percentile shows


@dataclass(frozen=True)
class ErrorSettings:
    """How far to trust a measurement that has no interval; standard errors of logarithms."""

    no_interval: float = 0.2  # a rate without an interval: a single probe, or another's objective
    no_rate: float = 0.3  # a capacity that is only known to lie below all rates that were tried
    no_rate_factor: float = 2.0  # … it is taken to be e^-2, about a seventh, of the lowest of them


ERRORS = ErrorSettings()


@dataclass(frozen=True)
class Measurement:
    """The measurement of one trial.

    ``merit`` is what the search maximizes: the capacity (requests/s) or 1 / cost; None if the SLA
    is missed. ``log_merit`` is the logarithm of what was observed of it, met or not, with its
    standard ``error``; None if nothing was. ``log_below`` is the logarithm of what it lies below,
    where no more was seen of it. ``bound_ratio`` is percentile over bound.
    """

    candidate: Candidate
    state: State
    merit: float | None = None
    log_merit: float | None = None
    log_below: float | None = None
    error: float = ERRORS.no_interval
    bound_ratio: float | None = None
    cause: Cause | None = None

    @classmethod
    def of_evaluation(cls, evaluation: Evaluation, minimizes: bool) -> "Measurement":
        value, attributes = value_of(evaluation, minimizes), attributes_of(evaluation)
        return _read(evaluation.candidate, value, attributes, minimizes)

    @classmethod
    def of_trial(
        cls, trial: FrozenTrial, space: SearchSpace, minimizes: bool
    ) -> "Measurement | None":
        """None if the trial has no candidate of the space. Missing attributes, as in studies of
        other tools and of tuner 0.1, are derived from value, state and constraints.
        """
        candidate = candidate_of(space, trial.params)
        if candidate is None:
            return None
        value = trial.value
        if value is None:
            value = math.inf if minimizes else 0.0
        known = math.isfinite(value) and (minimizes or value > 0)
        attributes = trial.user_attrs
        if "state" not in attributes:
            attributes = {**_inferred(trial, known), **attributes}
        return _read(candidate, value, attributes, minimizes)


def value_of(evaluation: Evaluation, minimizes: bool) -> float:
    """The value of its trial: the worst one where nothing was measured."""
    if evaluation.cost is not None:
        return evaluation.cost.value
    worst = math.inf if minimizes else 0.0
    return worst if evaluation.estimate is None else evaluation.estimate


def constraint_of(evaluation: Evaluation) -> float:
    """How far its trial is from meeting the SLA: at most 0.0 if it does."""
    match evaluation.state:
        case State.OK | State.BEATEN:
            return 0.0
        case State.INFEASIBLE:
            over = (evaluation.bound_ratio or _FAILED) - 1
            return min(max(over, _BARELY), _FAILED)
        case State.FAILED:
            return _FAILED


def attributes_of(evaluation: Evaluation) -> dict[str, Any]:
    """The user attributes of its trial."""
    interval = evaluation.cost or evaluation
    rates = [probe.rate for probe in evaluation.probes if probe.rate]
    near = evaluation.at_capacity()
    seen = near.latency if near is not None else {}
    attributes = {
        "candidate": evaluation.label,
        "state": evaluation.state.value,
        **{name: value for name, value in seen.items() if value and math.isfinite(value)},
        "rate": None if near is None else near.rate,
        "verdict": None if near is None else near.outcome,
        "recommended": evaluation.recommended,
        "seconds": round(evaluation.seconds, 1),
        **_readings(near),
        "capacity": evaluation.capacity,
        "low": interval.low,
        "high": interval.high,
        "bound_ratio": evaluation.bound_ratio,
        "lowest_rate": min(rates) if rates and evaluation.state is State.INFEASIBLE else None,
        "cause": evaluation.cause,
        "failure": evaluation.failure or None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _readings(near: ProbeRecord | None) -> dict[str, float | None]:
    if near is None:
        return {}
    return {name: quantity.read(near) for name, quantity in QUANTITIES.items()}


def measurements(
    study: optuna.Study, space: SearchSpace, minimizes: bool
) -> tuple[Measurement, ...]:
    """Of all finished trials, one for each candidate, in the order in which they began."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    known: dict[Candidate, Measurement] = {}
    for trial in study.get_trials(deepcopy=False, states=states):
        if trial.state is TrialState.FAIL and RUN in trial.user_attrs:
            continue  # its search was killed: that says nothing of the candidate
        measurement = Measurement.of_trial(trial, space, minimizes)
        if measurement is not None:
            known[measurement.candidate] = measurement
    return tuple(known.values())


def _read(
    candidate: Candidate, value: float, attributes: Mapping[str, Any], minimizes: bool
) -> Measurement:
    state, capacity = State(attributes["state"]), attributes.get("capacity")
    low, high = attributes.get("low"), attributes.get("high")
    log_merit, log_below, error = None, None, ERRORS.no_interval
    if low and high:
        error = math.log(high / low) / INTERVAL_WIDTH
    if minimizes and math.isfinite(value):
        log_merit = -math.log(max(value, LEAST_COST))
    elif state is State.BEATEN and capacity is None and high:
        log_below = math.log(high)
    elif not minimizes and value > 0:
        log_merit = math.log(value)
    elif not minimizes and "lowest_rate" in attributes:
        log_merit = math.log(attributes["lowest_rate"]) - ERRORS.no_rate_factor
        error = ERRORS.no_rate
    merit = capacity
    if minimizes and capacity is not None:
        merit = 1 / max(value, LEAST_COST)
    return Measurement(
        candidate,
        state,
        merit,
        log_merit,
        log_below,
        error,
        attributes.get("bound_ratio"),
        attributes.get("cause"),
    )


def _inferred(trial: FrozenTrial, has_value: bool) -> dict[str, Any]:
    """What state, value and constraints say where there are no attributes."""
    constraint = trial.constraints.get(SLA_CONSTRAINT, 0.0)
    if trial.state is TrialState.FAIL or constraint >= _FAILED:
        cause = cause_of(str(trial.user_attrs.get("failure", "")))
        return {"state": State.FAILED, "cause": cause}
    if trial.state is TrialState.PRUNED:
        return {"state": State.BEATEN}
    if has_value and all(value <= 0 for value in trial.constraints.values()):
        return {"state": State.OK, "capacity": trial.value}
    if 0 < constraint < _FAILED - 1:
        return {"state": State.INFEASIBLE, "bound_ratio": 1 + constraint}
    return {"state": State.INFEASIBLE}
