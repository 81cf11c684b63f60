"""A share of ``python -m benchmarks.fuzz``: whatever it is given, a reader reads it, or refuses it
with an error of tuner's own.
"""

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.inputs import BOMBS, make
from benchmarks.fuzz.readers import Reader, readers
from benchmarks.fuzz.running import at_work, run
from tuner.errors import TunerError

LIMIT = 60.0
"""Seconds of an input, on a machine that may be busy."""
SHARE = 300
"""Changed inputs of each reader; a fifth of it of the slow ones."""
NAMES = tuple(readers())
PATHS = st.sampled_from(
    [
        *("max_batch_size", "instance_count", "max_queue_delay_microseconds", "dynamic_batching"),
        *("preferred_batch_size", "optimization.graph.level", "parameters[threads]", "x"),
        "optimization.execution_accelerators.gpu_execution_accelerator[tensorrt]",
    ]
)
NUMBERS = st.integers(-3, 40) | st.integers() | st.floats()
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.lists(NUMBERS, max_size=3)
ANYTHING = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
RANGES = st.fixed_dictionaries(
    {"range": st.tuples(NUMBERS, NUMBERS).map(list)},
    optional={"step": NUMBERS, "log": st.booleans(), "values": st.lists(VALUES, max_size=2)},
)
SPACES = st.fixed_dictionaries(
    {"parameters": st.dictionaries(PATHS, st.lists(VALUES, max_size=4) | RANGES, max_size=6)},
    optional={"name": VALUES, "description": VALUES},
)
TENSORS = st.fixed_dictionaries(
    {}, optional={"content": ANYTHING, "shape": ANYTHING, "b64": st.text("AQ=/", max_size=12)}
)
ENTRIES = st.dictionaries(st.sampled_from(["x", "text", "ids", "y"]), ANYTHING | TENSORS)
ENVIRONMENT = st.dictionaries(st.text(max_size=3), VALUES, max_size=2)
EXPERIMENTS = st.fixed_dictionaries(
    {"model": st.just("emulated_gpu") | ANYTHING, "sla": st.just("p99<20ms") | VALUES},
    optional={
        **{name: NUMBERS for name in ("timeout", "rate", "trials", "seed", "shm_size", "workers")},
        **{name: ANYTHING for name in ("constraints", "batch", "load", "pin", "model_version")},
        **{name: ENVIRONMENT | ANYTHING for name in ("env", "shapes", "headers", "server_args")},
    },
)
SERVICES = st.dictionaries(
    st.text(max_size=5),
    st.fixed_dictionaries(
        {"command": st.just(["serve", "{port}"])},
        optional={
            **{name: VALUES for name in ("title", "ready", "path", "content_type", "method")},
            **{name: ENVIRONMENT for name in ("env", "headers")},
            "body": ANYTHING,
        },
    ),
    min_size=1,
    max_size=2,
)


def read(reader: Reader, raw: bytes) -> None:
    with at_work() as folder, suppress(TunerError):
        reader.read(raw, folder)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_nearly_right(name: str) -> None:
    reader = readers()[name]
    first = len(reader.seeds) + len(BOMBS)
    numbers = range(first, first + round(SHARE * reader.share))
    outcome = run(reader, 0, numbers, LIMIT)
    assert outcome.failures == []
    assert outcome.inputs == len(numbers)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_hostile(name: str) -> None:
    reader = readers()[name]
    outcome = run(reader, 0, range(len(reader.seeds) + len(BOMBS)), LIMIT)
    assert outcome.failures == []
    assert outcome.peak - outcome.at_start < 512 << 20


@pytest.mark.parametrize("name", NAMES)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode()))
@settings(max_examples=30)
def test_any_bytes(name: str, raw: bytes) -> None:
    read(readers()[name], raw)


@given(SPACES)
def test_any_space(space: dict[str, Any]) -> None:
    read(readers()["spaces"], yaml.safe_dump(space).encode())


@given(EXPERIMENTS)
def test_any_experiment(experiment: dict[str, Any]) -> None:
    read(readers()["experiments"], yaml.safe_dump(experiment).encode())


@given(SERVICES)
def test_any_service(services: dict[str, Any]) -> None:
    read(readers()["services"], yaml.safe_dump(services).encode())


@given(st.lists(ENTRIES | st.lists(ENTRIES, max_size=2) | ANYTHING, max_size=4))
def test_any_input_data(entries: list[Any]) -> None:
    read(readers()["input data"], json.dumps({"data": entries}).encode())


@given(ANYTHING)
@pytest.mark.parametrize("name", ["first answer", "descriptions", "statistics", "HTTP replies"])
def test_any_json_of_a_server(name: str, value: Any) -> None:
    wrapped = {"outputs": value, "metadata": value, "config": value, "id": value}
    for content in (value, wrapped, [value, wrapped]):
        raw = json.dumps(content).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(raw)
        read(readers()[name], head + raw if name == "HTTP replies" else raw)


def test_an_input_follows_from_its_number() -> None:
    reader = readers()["spaces"]
    made = [make(reader.seeds, reader.words, 3, number) for number in range(300)]
    again = [make(reader.seeds, reader.words, 3, number) for number in reversed(range(300))]
    assert made == again[::-1]
    assert len(set(made)) > 250
    assert made[-1] != make(reader.seeds, reader.words, 4, 299)
