"""Candidate <-> config.pbtxt, through Triton's own protobuf and text_format."""

import os
import re
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from tuner.documents import MALFORMED, read_text
from tuner.errors import DocumentError, ModelConfigError, RepositoryError, SpaceError
from tuner.model.parameter import Parameter, Value
from tuner.model.paths import get_path, set_path, states
from tuner.model.space import DYNAMIC_BATCHING, MAX_BATCH_SIZE, RATE_LIMIT, Candidate, SearchSpace
from tuner.text import shortened, shown
from tuner.units import LARGEST_NUMBER

ModelConfig = model_config_pb2.ModelConfig
_COUNTED_BY_BACKEND = ("onnxruntime", "tensorflow")
"""Backends whose default number of instances on a CPU is not 1."""
_COMPLETED = ("max_batch_size", "input", "output", "model_transaction_policy")
"""What a model or its backend completes, beside its instances and its batcher."""
_FILLED_IN = (
    *("name", "platform", "backend", "runtime", "version_policy", "default_model_filename"),
    *("instance_group", "optimization"),
)
_MOST_PROBLEMS = 10
_UNFIT_FOR_PATHS = re.compile(r"[\x00-\x20\x7f?#/]")
"""Errors that one message lists at most: a configuration may have thousands of instance groups."""


def read_config(model: Path) -> Any:
    """The ModelConfig of a model's folder, checked against what Triton refuses at load.

    A missing name is filled in from the folder's name, as Triton does.
    """
    path = model / "config.pbtxt"
    if not os.path.exists(path):
        raise RepositoryError(
            f"{model} has no config.pbtxt; tuner starts from the model's own configuration, so "
            "add one"
        )
    try:
        text = read_text(path)
    except DocumentError as error:
        raise ModelConfigError(f"cannot read {path}: {error}") from error
    config = parse_config(text, str(path))
    try:
        config.name = config.name or model.name
    except ValueError as error:
        raise ModelConfigError(
            f"{path}: the folder's name is not valid text, so it cannot be a model's name"
        ) from error
    if config.name != model.name:
        raise ModelConfigError(
            f"{path}: the model's name {shown(config.name)} must equal its folder's name "
            f"{shown(model.name)}"
        )
    check_config(config, str(path))
    return config


def parse_config(text: str, source: str) -> Any:
    """The ModelConfig of a config.pbtxt's text; ModelConfigError names the place."""
    try:
        return text_format.Parse(text, ModelConfig())
    except (text_format.ParseError, *MALFORMED) as error:
        raise ModelConfigError(f"{source}:{shortened(str(error))}") from error


def to_text(config: Any) -> str:
    """The configuration as config.pbtxt."""
    return str(text_format.MessageToString(config, as_utf8=True))


def to_json(config: Any) -> str:
    """The configuration in the JSON form that the model control API takes."""
    return json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)


def from_json(config: dict[str, Any]) -> Any:
    """The ModelConfig of a ``GET v2/models/M/config`` reply; fields unknown here are left out.
    ModelConfigError if it is not in that format.
    """
    try:
        return json_format.ParseDict(config, ModelConfig(), ignore_unknown_fields=True)
    except (json_format.ParseError, SystemError, *MALFORMED) as error:
        # SystemError: of protobuf's C, at a key with half of a surrogate pair
        raise ModelConfigError(shortened(str(error))) from error


def is_complete(config: Any) -> bool:
    """Whether the configuration leaves nothing to Triton, or to the model itself, to fill in that
    decides what can be tuned.
    """
    if config.HasField("ensemble_scheduling"):
        return True
    named = config.backend or config.platform.partition("_")[0]
    if not named or not config.input or not config.output:
        return False
    counted = bool(config.instance_group) and all(g.count for g in config.instance_group)
    if named in _COUNTED_BY_BACKEND and not counted:
        return False
    may_batch = named == "python" or all(
        list(tensor.dims[:1]) == [-1] for tensor in (*config.input, *config.output)
    )
    return bool(config.max_batch_size) or not may_batch


def complete(config: Any, in_force: Any) -> Any:
    """The configuration with what the server added, as ``GET v2/models/M/config`` tells it.

    What is stated stays as it is, and defaults that every model has are left out.
    """
    whole = ModelConfig()
    whole.CopyFrom(config)
    for field, value in in_force.ListFields():
        if field.name == "instance_group":
            if not config.instance_group or not all(g.count for g in config.instance_group):
                whole.ClearField("instance_group")
                _add_groups(whole, value)
        elif field.name == DYNAMIC_BATCHING:
            if not config.HasField(DYNAMIC_BATCHING):
                whole.dynamic_batching.CopyFrom(value)
                if list(value.preferred_batch_size) == [in_force.max_batch_size]:
                    whole.dynamic_batching.ClearField("preferred_batch_size")
        elif field.name in _COMPLETED:
            whole.ClearField(field.name)
            if field.is_repeated:
                getattr(whole, field.name).extend(value)
            elif field.message_type is not None:
                getattr(whole, field.name).CopyFrom(value)
            else:
                setattr(whole, field.name, value)
    return whole


def _add_groups(config: Any, groups: Any) -> None:
    for group in groups:
        added = config.instance_group.add()
        added.count, added.kind = group.count, group.kind
        added.gpus[:] = group.gpus


def completed(asked: Any, in_force: Any) -> bool:
    """Whether the server added to what was asked of it, beyond the defaults it fills in always."""
    return bool(_essence(asked) != _essence(in_force))


def _essence(config: Any) -> Any:
    essence = ModelConfig()
    essence.CopyFrom(config)
    for name in _FILLED_IN:
        essence.ClearField(name)
    if essence.HasField(DYNAMIC_BATCHING):
        essence.dynamic_batching.Clear()
        essence.dynamic_batching.SetInParent()
    return essence


def render(config: Any, candidate: Candidate) -> Any:
    """A copy of the configuration with the candidate's settings; all else survives.

    A setting that the configuration states already changes nothing: of several instance groups,
    each keeps its own count. If max_batch_size is lowered, what depends on it follows, since Triton
    would refuse to load the rest: larger preferred sizes are dropped, and batches of a warm-up
    become as large as a batch may be.
    """
    rendered = ModelConfig()
    rendered.CopyFrom(config)
    for path, value in candidate.settings:
        if not states(config, path, value):
            set_path(rendered, path, value)
    largest = max(1, rendered.max_batch_size)
    for batcher in (rendered.dynamic_batching, rendered.sequence_batching.oldest):
        sizes = batcher.preferred_batch_size
        if any(size > largest for size in sizes):
            sizes[:] = [size for size in sizes if size <= largest]
    for warm_up in rendered.model_warmup:
        warm_up.batch_size = min(warm_up.batch_size, largest)
    return rendered


def check_config(config: Any, source: str) -> None:
    """Raise ModelConfigError for what Triton refuses, or silently changes, at load."""
    problems = []
    if config.max_batch_size < 0:
        problems.append(f"max_batch_size {config.max_batch_size} must not be negative")
    for size in config.dynamic_batching.preferred_batch_size:
        if size <= 0 or size > config.max_batch_size:
            problems.append(
                f"preferred_batch_size {size} must lie in 1..max_batch_size "
                f"({config.max_batch_size})"
            )
    for group in config.instance_group:
        if group.count < 0:
            problems.append(f"instance_group count {group.count} must be at least 1")
        if group.kind == group.KIND_CPU and group.gpus:
            problems.append("an instance_group of KIND_CPU must not list gpus")
    levels = config.dynamic_batching.priority_levels
    if levels and not 1 <= config.dynamic_batching.default_priority_level <= levels:
        problems.append(f"default_priority_level must lie in 1..{levels}")
    if config.response_cache.enable and config.HasField("sequence_batching"):
        problems.append("response_cache cannot be combined with sequence_batching")
    if config.response_cache.enable and config.model_transaction_policy.decoupled:
        problems.append("response_cache cannot be used with a decoupled model")
    if problems:
        raise ModelConfigError(f"{source}: {'; '.join(problems[:_MOST_PROBLEMS])}")


def check_measurable(config: Any) -> None:
    """ModelConfigError for a model whose requests are not independent, or have not one answer
    each, or that cannot be named in a request.
    """
    check_name(config.name)
    if config.model_transaction_policy.decoupled:
        raise ModelConfigError(
            f"{config.name} is decoupled: it may send any number of responses to a request, "
            "while tuner measures the time to a single response. Use AIPerf or perf_analyzer "
            "--streaming instead"
        )
    if config.HasField("sequence_batching"):
        raise ModelConfigError(
            f"{config.name} has a sequence batcher, while tuner sends independent requests. Use "
            "perf_analyzer --sequence-length instead"
        )


def check_name(model: str) -> None:
    """ModelConfigError if the name cannot be part of an HTTP path, since Triton does not decode
    paths.
    """
    if unfit := _UNFIT_FOR_PATHS.search(model):
        raise ModelConfigError(
            f"the model's name {model!r} contains {unfit[0]!r}, which Triton's HTTP API does not "
            "support; rename its folder"
        )


def fit_space(space: SearchSpace, config: Any, may_be_empty: bool = False) -> SearchSpace:
    """The part of a space that this model can vary, checked and widened by the model's own values.

    A model without a batch dimension (max_batch_size 0) has no batching to tune, and an ensemble
    nothing of its own. SpaceError if nothing is left, unless it ``may_be_empty``.
    """
    space = space.without({RATE_LIMIT})  # what several models share
    for path, parameter in space.parameters.items():
        _check_parameter(space, path, parameter)
    if config.HasField("ensemble_scheduling"):
        if may_be_empty:
            return space.without(set(space.parameters))
        raise SpaceError(
            f"{config.name} is an ensemble, which has no batcher or instances of its own; tune "
            "its composing models, or measure the whole ensemble with 'tuner measure'"
        )
    if config.max_batch_size == 0:
        space = space.without({MAX_BATCH_SIZE, DYNAMIC_BATCHING})
    if not space.parameters and not may_be_empty:
        raise SpaceError(
            f"no parameter of the search space {space.name!r} applies to {config.name}, which "
            "has max_batch_size 0"
        )
    return space.including(own_settings(space, config))


def own_settings(space: SearchSpace, config: Any) -> dict[str, Value]:
    """The model's own values of the space's parameters, as far as its configuration states them."""
    settings = {}
    for path, parameter in space.parameters.items():
        value = get_path(config, path)
        if isinstance(value, str):  # entries of maps are text: take the space's way to write them
            value = next((v for v in parameter.examples() if str(v) == value), value)
            if parameter.range is not None:
                value = _number(value)
        if value is not None:
            settings[path] = value
    return settings


def _number(text: Value) -> Value:
    try:
        number = float(str(text))
    except ValueError:
        return text
    if not abs(number) <= LARGEST_NUMBER:  # nor not a number
        return text
    return int(number) if number.is_integer() else number


def _check_parameter(space: SearchSpace, path: str, parameter: Parameter) -> None:
    for value in parameter.examples():
        try:
            set_path(ModelConfig(), path, value)
        except SpaceError as error:
            raise SpaceError(f"{space.place(path)}: {error}") from error
