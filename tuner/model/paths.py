"""Reading and writing one field of a ModelConfig by its path.

A path is written as in a search space: ``dynamic_batching.preserve_ordering``, or with a key in
brackets, ``optimization.execution_accelerators.gpu_execution_accelerator[tensorrt]``.
"""

import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tuner.errors import SpaceError
from tuner.model.parameter import Value
from tuner.model.space import INSTANCE_COUNT, did_you_mean
from tuner.text import shortened, shown

_SEGMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:\[(?P<key>[^\]]+)\])?")
_NOT_TAKEN = (TypeError, ValueError, AttributeError, OverflowError)
"""What protobuf raises if a field rejects a value."""


def get_path(config: Message, path: str) -> Value | None:
    """The value at a path; None if the configuration does not set it, or sets several."""
    owners, field, key = _walk(config, path, create=False)
    _check_readable(path, field, key)
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
        counts = {max(1, int(each.count)) for each in owners}
        return counts.pop() if len(counts) == 1 else None
    if field.has_presence and not owner.HasField(field.name):
        return None
    value: Value = getattr(owner, field.name)
    return value


def states(config: Message, path: str, value: Value) -> bool:
    """Whether the configuration says this, in every place that the path names; a number that is
    left to the server's default is not said.
    """
    owners, field, key = _walk(config, path, create=False)
    if not owners or get_path(config, path) != value:
        return False
    if field.is_repeated or _is_switch(field, key) or _is_map(field) or field.has_presence:
        return len(owners) == 1
    return all(getattr(owner, field.name) == value for owner in owners)


def set_path(config: Message, path: str, value: Value) -> None:
    """Set the field at a path, creating what lies on the way.

    Raises SpaceError if ModelConfig has no such path, or the field rejects the value.
    """
    owners, field, key = _walk(config, path, create=True)
    for owner in owners:
        try:
            _assign(owner, field, key, value)
        except _NOT_TAKEN as error:
            raise SpaceError(
                f"{shortened(path)} does not accept {shown(value)}: {shortened(str(error))}"
            ) from error


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
            raise ValueError(f"it must be one of {', '.join(known)}")
        setattr(owner, field.name, known[value].number)
    else:
        if isinstance(value, bool) and field.type != FieldDescriptor.TYPE_BOOL:
            raise TypeError("true and false switch a message on or off; this field is a number")
        setattr(owner, field.name, value)


def _switch(owner: Any, field: FieldDescriptor, key: str | None, value: Value) -> None:
    if not isinstance(value, bool):
        raise TypeError("a message is switched on or off by true or false; name a field of it")
    if key is None:
        if value:
            getattr(owner, field.name).SetInParent()
        else:
            owner.ClearField(field.name)
        return
    if value and not _named(owner, field, key):
        getattr(owner, field.name).add().name = key
    elif not value:
        others = [m for m in getattr(owner, field.name) if m.name != key]
        owner.ClearField(field.name)
        getattr(owner, field.name).extend(others)


def _walk(config: Any, path: str, create: bool) -> tuple[list[Any], FieldDescriptor, str | None]:
    """The messages that hold the path's last field, that field, and its key in brackets if any."""
    segments = _segments(path)
    owners, descriptor = [config], config.DESCRIPTOR
    for position, (name, key) in enumerate(segments):
        field = descriptor.fields_by_name.get(name)
        if field is None:
            known = sorted(descriptor.fields_by_name)
            raise SpaceError(
                f"config.pbtxt has no field {shown(path)}: {descriptor.name} has no {shown(name)}"
                + did_you_mean(name, known)
            )
        if key is not None and not (_is_map(field) or _has_names(field)):
            raise SpaceError(
                f"{shown(path)}: {shown(name)} has no entries, so [{shortened(key)}] does not apply"
            )
        if position == len(segments) - 1:
            return owners, field, key
        if field.message_type is None or _is_map(field):
            raise SpaceError(f"{shown(path)}: {shown(name)} has no fields below it")
        owners = [child for owner in owners for child in _children(owner, field, key, create)]
        descriptor = field.message_type
    raise AssertionError("a path needs at least one segment")


def _check_readable(path: str, field: FieldDescriptor, key: str | None) -> None:
    """SpaceError if what is there has no form that a candidate's values have."""
    if field.message_type is None or not (_is_map(field) or field.is_repeated):
        return
    if key is None:
        raise SpaceError(f"{shown(path)}: name the entry, as in {field.name}[key]")
    if _is_map(field):
        of_key, of_value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        message = of_value.message_type
        is_text = of_value.type == FieldDescriptor.TYPE_STRING or (
            message is not None and "string_value" in message.fields_by_name
        )
        if of_key.type != FieldDescriptor.TYPE_STRING or not is_text:
            raise SpaceError(f"{shown(path)}: the entries of {field.name} are not text")


def _segments(path: str) -> list[tuple[str, str | None]]:
    if not path.isprintable():
        raise SpaceError(f"the path {shown(path)} contains characters that no field name has")
    segments: list[tuple[str, str | None]] = []
    position = 0
    while position < len(path) or not segments:
        match = _SEGMENT.match(path, position)
        end = match.end() if match else position
        if match is None or (end < len(path) and path[end] != "."):
            raise SpaceError(f"{shown(path)} is not a path like dynamic_batching.preserve_ordering")
        segments.append((match["name"], match["key"]))
        position = end + 1
        if position == len(path):  # it ends in a dot
            raise SpaceError(f"{shown(path)} is not a path like dynamic_batching.preserve_ordering")
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
