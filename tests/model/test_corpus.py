"""Configurations that between them have every field of Triton's ModelConfig: candidates change what
their settings name, and nothing else.

There is one for each field, however deep it lies, added to a model that can be served; so a field
that a later protobuf brings is covered, too.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tuner.errors import ModelConfigError, ServerFailed
from tuner.model.config import (
    ModelConfig,
    check_config,
    check_measurable,
    fit_space,
    from_json,
    own_settings,
    parse_config,
    render,
    to_json,
    to_text,
)
from tuner.model.parameter import Value
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
    is_below,
)
from tuner.model.space_file import load_space
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

SERVED = """
name: "served" backend: "python" max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: 4 }
output { name: "OUT" data_type: TYPE_FP32 dims: 4 }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { }
"""
ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(each, "IN") for each in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", each.as_numpy())])
            for each in tensors
        ]
"""
CANDIDATES: tuple[dict[str, Value], ...] = (
    {},
    {MAX_BATCH_SIZE: 1},
    {MAX_BATCH_SIZE: 4},
    {MAX_BATCH_SIZE: 64},
    {INSTANCE_COUNT: 3},
    {DYNAMIC_BATCHING: False},
    {DYNAMIC_BATCHING: True, QUEUE_DELAY: 500},
    {DYNAMIC_BATCHING: True, PREFERRED: (2, 4)},
    {MAX_BATCH_SIZE: 2, DYNAMIC_BATCHING: True, PREFERRED: (), INSTANCE_COUNT: 2},
    {"parameters[threads]": 2, "dynamic_batching.preserve_ordering": True},
)
FOLLOWS = ("dynamic_batching.preferred_batch_size", "sequence_batching.oldest", "model_warmup")
"""What depends on max_batch_size, and becomes smaller with it."""
SCHEDULERS = ("sequence_batching", "ensemble_scheduling")
"""A model has one scheduler: to ask for the dynamic batcher is to ask for these to go."""
NUMBER, TEXT, SWITCH = 1, "x", True
Chain = tuple[FieldDescriptor, ...]


def chains(descriptor: Descriptor, before: Chain = ()) -> Iterator[Chain]:
    """The way to each field that holds no further ones."""
    for field in descriptor.fields:
        chain = (*before, field)
        if (
            field.message_type is None
            or field.message_type.GetOptions().map_entry
            or not field.message_type.fields
        ):
            yield chain
        else:
            yield from chains(field.message_type, chain)


def set_leaf(message: Any, chain: Chain) -> None:
    for field in chain[:-1]:
        child = getattr(message, field.name)
        if field.is_repeated:
            message = child[0] if child else child.add()
        else:
            child.SetInParent()
            message = child
    field = chain[-1]
    if field.message_type is not None:
        entry = field.message_type
        if not entry.GetOptions().map_entry:
            getattr(message, field.name).SetInParent()
            return
        key: Any = TEXT if entry.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING else 1
        values = getattr(message, field.name)
        inner = entry.fields_by_name["value"].message_type
        if inner is None:
            values[key] = TEXT
        else:
            set_leaf(values[key], next(chains(inner)))
        return
    value = _value(field)
    if field.is_repeated:
        getattr(message, field.name)[:] = [value]
    else:
        setattr(message, field.name, value)


def _value(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[min(1, len(field.enum_type.values) - 1)].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    return {
        FieldDescriptor.CPPTYPE_STRING: TEXT,
        FieldDescriptor.CPPTYPE_BOOL: SWITCH,
    }.get(field.cpp_type, NUMBER)


def corpus() -> dict[str, Any]:
    """A configuration by the field that it has besides those of the served model."""
    found = {}
    for chain in chains(ModelConfig.DESCRIPTOR):
        config = parse_config(SERVED, "corpus")
        if chain[0].name not in ("name", "backend", "platform", "max_batch_size"):
            set_leaf(config, chain)
        found[".".join(field.name for field in chain)] = config
    return found


CORPUS = corpus()


def flat(message: Any, prefix: str = "") -> dict[str, str]:
    """Every value by its path; those of repeated fields by their places."""
    found = {}
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.message_type is None:
            found[path] = repr(value)
        elif field.message_type.GetOptions().map_entry:
            found |= {f"{path}[{key}]": repr(value[key]) for key in value}
        elif field.is_repeated:
            for place, each in enumerate(value):
                found |= flat(each, f"{path}.{place}.")
        else:
            found[path] = "there"
            found |= flat(value, f"{path}.")
    return found


def changed(one: Any, other: Any) -> set[str]:
    """Paths at which they differ, without the places in repeated fields."""
    first, second = flat(one), flat(other)
    paths = {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)}
    return {".".join(part for part in path.split(".") if not part.isdigit()) for path in paths}


def is_asked(path: str, settings: dict[str, Value]) -> bool:
    follows = MAX_BATCH_SIZE in settings and path.startswith(FOLLOWS)
    batches = any(asked.startswith(DYNAMIC_BATCHING) for asked in settings)
    if follows or (batches and path.startswith(SCHEDULERS)):
        return True
    return any(
        path == asked or is_below(path, asked) or is_below(asked, path) for asked in settings
    )


def candidate_of(config: Any, settings: dict[str, Value]) -> Candidate:
    """As ``tuner measure --set`` makes it of the model's own settings and these."""
    space = fit_space(load_space("default"), config, may_be_empty=True)
    return Candidate.of({**own_settings(space, config), **settings})


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 100


@pytest.mark.parametrize("field", CORPUS)
def test_candidates_change_what_their_settings_name(field: str) -> None:
    config = CORPUS[field]
    for settings in CANDIDATES:
        rendered = render(config, candidate_of(config, settings))
        extra = {path for path in changed(config, rendered) if not is_asked(path, settings)}
        assert not extra, settings


@pytest.mark.parametrize("field", CORPUS)
def test_nothing_is_lost_on_the_way_to_a_file_or_a_server(field: str) -> None:
    config = CORPUS[field]
    assert parse_config(to_text(config), "again") == config
    assert from_json(json.loads(to_json(config))) == config


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_what_the_server_takes_of_a_model_it_takes_of_its_candidates(tmp_path: Path) -> None:
    place = tmp_path / "models" / "served"
    (place / "1").mkdir(parents=True)
    (place / "1" / "model.py").write_text(ECHO)
    (place / "config.pbtxt").write_text(SERVED)
    spec = ServerSpec(place.parent, "served", tmp_path / "log")
    left, taken = list(CORPUS.items())[::5], 0  # each takes the server three seconds
    with LocalLauncher() as launcher:
        while left:  # some configurations crash the server
            with launcher.launch(spec) as server, Control(server) as control:
                while left and server.exit_reason() is None:
                    taken += is_taken(control, *left.pop(0), CANDIDATES[2 + taken % 8])
    assert taken >= 12


def is_taken(control: Control, field: str, config: Any, settings: dict[str, Value]) -> bool:
    """Whether the server loads it; then a candidate of it has only what was asked for."""
    try:
        check_measurable(config)
        check_config(config, field)
        control.load("served", to_json(config), 10)
    except (ModelConfigError, ServerFailed):
        return False
    found = control.in_force("served")
    asked = render(config, candidate_of(config, settings))
    control.load("served", to_json(asked), 10)
    extra = changed(found, control.in_force("served"))
    assert not {path for path in extra if not is_asked(path, settings)}, field
    return True
