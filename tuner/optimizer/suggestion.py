"""Points of a search space as Optuna's parameters, and back; the initial candidates."""

from collections.abc import Mapping
from typing import Any

import optuna

from tuner.model.parameter import Parameter, Value
from tuner.model.space import Candidate, Point, SearchSpace, field_of, format_value, stated


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
        for path, parameter in space.parameters.items():
            value = wanted.get(field_of(path))
            if value is not None and _allows(parameter, value):
                idea[path] = value
        ideas.append(idea)
    return ideas


def _allows(parameter: Parameter, value: Value) -> bool:
    return parameter.including(value) == parameter


def suggest(trial: optuna.Trial, space: SearchSpace) -> Candidate:
    settings: dict[str, Value | None] = {}
    for path, parameter in space.parameters.items():
        if space.parent_is_on(path, settings):
            settings[path] = _suggest_one(trial, path, parameter)
    return Candidate.of(stated(settings))


def _suggest_one(trial: optuna.Trial, path: str, parameter: Parameter) -> Value | None:
    if parameter.values is not None:
        by_label = _by_label(parameter)
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


def params(space: SearchSpace, settings: Mapping[str, Value | None]) -> dict[str, Any]:
    """Settings as Optuna's parameters."""
    return {
        path: _label(settings.get(path)) if parameter.values is not None else settings[path]
        for path, parameter in space.parameters.items()
        if space.parent_is_on(path, settings)
        and (path in settings or (parameter.values is not None and None in parameter.values))
    }


def candidate_of(space: SearchSpace, values: Mapping[str, Any]) -> Candidate | None:
    """The candidate of a trial's parameters; None if one is missing or not of the space."""
    settings: dict[str, Value | None] = {}
    for path, parameter in space.parameters.items():
        if not space.parent_is_on(path, settings):
            continue
        if path not in values:
            return None
        settings[path] = values[path]
        if parameter.values is not None:
            by_label = _by_label(parameter)
            if values[path] not in by_label:
                return None
            settings[path] = by_label[values[path]]
    return Candidate.of(stated(settings))


def _by_label(parameter: Parameter) -> dict[Any, Value | None]:
    return {_label(value): value for value in parameter.values or ()}


def _label(value: Value | None) -> Any:
    """A value as an Optuna choice, which may be a number, a truth value, text, or None."""
    return format_value(value) if isinstance(value, tuple) else value
