"""Candidate <-> config.pbtxt, through Triton's own protobuf and text_format."""

import re
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2

from tuner.errors import ModelConfigError, RepositoryError, SpaceError
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    Candidate,
    Parameter,
    SearchSpace,
    Value,
    did_you_mean,
)

ModelConfig = model_config_pb2.ModelConfig
_FILLED_IN = (
    *("name", "platform", "backend", "runtime", "version_policy", "default_model_filename"),
    *("instance_group", "optimization"),
)
_SEGMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:\[(?P<key>[^\]]+)\])?")


def read_config(model: Path) -> Any:
    """The ModelConfig of a model's folder, checked against what Triton refuses at load.

    A missing name is filled in from the folder's name, as Triton does.
    """
    path = model / "config.pbtxt"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RepositoryError(
            f"{model} has no config.pbtxt; tuner needs the model's own configuration as a start"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelConfigError(f"cannot read {path}: {error}") from error
    config = parse_config(text, str(path))
    config.name = config.name or model.name
    if config.name != model.name:
        raise ModelConfigError(
            f"{path}: the model's name {config.name!r} must equal its folder's name {model.name!r}"
        )
    check_config(config, str(path))
    return config


def parse_config(text: str, source: str) -> Any:
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise ModelConfigError(f"{source}:{error}") from error


def to_text(config: Any) -> str:
    """The configuration as config.pbtxt."""
    return str(text_format.MessageToString(config, as_utf8=True))


def to_json(config: Any) -> str:
    """The configuration in the JSON form that the model control API takes."""
    return json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)


def from_json(config: dict[str, Any]) -> Any:
    """The ModelConfig of a ``GET v2/models/M/config`` reply; fields unknown here are left out."""
    return json_format.ParseDict(config, ModelConfig(), ignore_unknown_fields=True)


def completed(asked: Any, in_force: Any) -> bool:
    """Whether the server added to what was asked of it, beyond the defaults it fills in always."""
    return bool(_essence(asked) != _essence(in_force))


def _essence(config: Any) -> Any:
    kept = ModelConfig()
    kept.CopyFrom(config)
    for name in _FILLED_IN:
        kept.ClearField(name)
    if kept.HasField(DYNAMIC_BATCHING):
        kept.dynamic_batching.Clear()
        kept.dynamic_batching.SetInParent()
    return kept


def render(config: Any, candidate: Candidate) -> Any:
    """A copy of the configuration with the candidate's settings; all else survives.

    Preferred sizes above max_batch_size are dropped, also those that the model had: Triton would
    refuse to load it.
    """
    rendered = ModelConfig()
    rendered.CopyFrom(config)
    for path, value in candidate.settings:
        set_path(rendered, path, value)
    if rendered.HasField(DYNAMIC_BATCHING):
        batching, largest = rendered.dynamic_batching, max(1, rendered.max_batch_size)
        kept = [size for size in batching.preferred_batch_size if size <= largest]
        batching.preferred_batch_size[:] = kept
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
        problems.append("response_cache does not go with sequence_batching")
    if config.response_cache.enable and config.model_transaction_policy.decoupled:
        problems.append("response_cache does not go with a decoupled model")
    if problems:
        raise ModelConfigError(f"{source}: {'; '.join(problems)}")


def fit_space(space: SearchSpace, config: Any) -> SearchSpace:
    """The part of a space that this model can vary, checked and widened by the model's own values.

    A model without a batch dimension (max_batch_size 0) has no batching to tune; a sequence or
    ensemble scheduler excludes the dynamic batcher.
    """
    for path, parameter in space.parameters.items():
        _check_parameter(space, path, parameter)
    if config.HasField("ensemble_scheduling"):
        raise SpaceError(
            f"{config.name} is an ensemble, which has no batcher or instances of its own; "
            "tune its composing models"
        )
    if config.max_batch_size == 0:
        space = space.without({MAX_BATCH_SIZE, DYNAMIC_BATCHING})
    elif config.HasField("sequence_batching"):
        space = space.without({DYNAMIC_BATCHING})
    if not space.parameters:
        raise SpaceError(
            f"nothing of the space {space.name!r} applies to {config.name}: "
            "it has max_batch_size 0 or a scheduler other than the dynamic batcher"
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
    return int(number) if number.is_integer() else number


def _check_parameter(space: SearchSpace, path: str, parameter: Parameter) -> None:
    for value in parameter.examples():
        try:
            set_path(ModelConfig(), path, value)
        except SpaceError as error:
            raise SpaceError(f"{space.place(path)}: {error}") from error


def get_path(config: Message, path: str) -> Value | None:
    """The value at a path; None where the configuration does not state it."""
    owners, field, key = _walk(config, path, create=False)
    if not owners and path == INSTANCE_COUNT:
        return 1
    if not owners:
        return False if _is_switch(field, key) and not _is_map(field) else None
    owner = owners[0]
    if _is_map(field):
        entries = getattr(owner, field.name)
        return str(_map_text(entries[key])) if key in entries else None
    if _is_switch(field, key):
        return owner.HasField(field.name) if key is None else bool(_named(owner, field, key))
    if field.is_repeated:
        return tuple(getattr(owner, field.name))
    if path == INSTANCE_COUNT:
        return max(1, int(getattr(owner, field.name)))
    if field.has_presence and not owner.HasField(field.name):
        return None
    value: Value = getattr(owner, field.name)
    return value


def set_path(config: Message, path: str, value: Value) -> None:
    """Set the field at a path, creating what lies on the way.

    Raises SpaceError for a path that ModelConfig lacks or a value that the field does not take.
    """
    owners, field, key = _walk(config, path, create=True)
    for owner in owners:
        try:
            _assign(owner, field, key, value)
        except (TypeError, ValueError, AttributeError) as error:
            raise SpaceError(f"{path} does not take {value!r}: {error}") from error


def _assign(owner: Any, field: FieldDescriptor, key: str | None, value: Value) -> None:
    if _is_map(field):
        if key is None:
            raise TypeError(f"name the entry, as in {field.name}[key]")
        _set_map_text(getattr(owner, field.name), key, value)
    elif _is_switch(field, key):
        _switch(owner, field, key, value)
    elif field.is_repeated:
        items = value if isinstance(value, tuple) else (value,)
        getattr(owner, field.name)[:] = items
    elif isinstance(value, str) and field.enum_type is not None:
        known = field.enum_type.values_by_name
        if value not in known:
            raise ValueError(f"it is one of {', '.join(known)}")
        setattr(owner, field.name, known[value].number)
    else:
        if isinstance(value, bool) and field.type != FieldDescriptor.TYPE_BOOL:
            raise TypeError("true and false switch messages, not numbers")
        setattr(owner, field.name, value)


def _switch(owner: Any, field: FieldDescriptor, key: str | None, value: Value) -> None:
    if not isinstance(value, bool):
        raise TypeError("a message is switched by true or false; name a field below it")
    if key is None:
        if value:
            getattr(owner, field.name).SetInParent()
        else:
            owner.ClearField(field.name)
        return
    if value and not _named(owner, field, key):
        getattr(owner, field.name).add().name = key
    elif not value:
        kept = [m for m in getattr(owner, field.name) if m.name != key]
        owner.ClearField(field.name)
        getattr(owner, field.name).extend(kept)


def _walk(config: Any, path: str, create: bool) -> tuple[list[Any], FieldDescriptor, str | None]:
    """The messages that hold the path's last field, that field, and its key in brackets if any."""
    segments = _segments(path)
    owners, descriptor = [config], config.DESCRIPTOR
    for position, (name, key) in enumerate(segments):
        field = descriptor.fields_by_name.get(name)
        if field is None:
            known = sorted(descriptor.fields_by_name)
            raise SpaceError(
                f"config.pbtxt has no field {path!r}: {descriptor.name} has no {name!r}"
                + did_you_mean(name, known)
            )
        if key is not None and not (_is_map(field) or _has_names(field)):
            raise SpaceError(f"{path!r}: {name!r} has no entries to choose from by [{key}]")
        if position == len(segments) - 1:
            return owners, field, key
        if field.message_type is None or _is_map(field):
            raise SpaceError(f"{path!r}: {name!r} has no fields below it")
        owners = [child for owner in owners for child in _children(owner, field, key, create)]
        descriptor = field.message_type
    raise AssertionError("a path has at least one segment")


def _segments(path: str) -> list[tuple[str, str | None]]:
    segments: list[tuple[str, str | None]] = []
    position = 0
    while position < len(path) or not segments:
        match = _SEGMENT.match(path, position)
        end = match.end() if match else position
        if match is None or (end < len(path) and path[end] != "."):
            raise SpaceError(f"{path!r} is not a path like dynamic_batching.preserve_ordering")
        segments.append((match["name"], match["key"]))
        position = end + 1
        if position == len(path):  # it ends in a dot
            raise SpaceError(f"{path!r} is not a path like dynamic_batching.preserve_ordering")
    return segments


def _children(owner: Any, field: FieldDescriptor, key: str | None, create: bool) -> list[Any]:
    if not field.is_repeated:
        child = getattr(owner, field.name)
        if not owner.HasField(field.name):
            if not create:
                return []
            child.SetInParent()
        return [child]
    children = list(getattr(owner, field.name)) if key is None else _named(owner, field, key)
    if not children and create:
        children = [getattr(owner, field.name).add()]
        if key is not None:
            children[0].name = key
    return children


def _named(owner: Any, field: FieldDescriptor, key: str) -> list[Any]:
    return [message for message in getattr(owner, field.name) if message.name == key]


def _has_names(field: FieldDescriptor) -> bool:
    return (
        field.message_type is not None
        and field.is_repeated
        and "name" in field.message_type.fields_by_name
    )


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_switch(field: FieldDescriptor, key: str | None) -> bool:
    if field.message_type is None or _is_map(field):
        return False
    return not field.is_repeated or key is not None


def _map_text(entry: Any) -> str:
    return entry if isinstance(entry, str) else entry.string_value


def _set_map_text(entries: Any, key: str, value: Value) -> None:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        entries[key] = text
    except (TypeError, ValueError):  # a map of messages, such as ModelConfig.parameters
        entries[key].string_value = text
