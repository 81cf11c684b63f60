"""Readers of what is written on the command line, in an environment variable, or in Python."""

import contextlib
import io
import os
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import typer

from tuner import units
from tuner.cli.parameters import command
from tuner.commands.options import (
    COMPARE_WITHOUT,
    MEASURE_WITHOUT,
    CompareOptions,
    MeasureOptions,
    SearchOptions,
    SimulateOptions,
    parse_changes,
)
from tuner.commands.selection import Selection
from tuner.cores import parse_cores
from tuner.errors import SpaceError, TunerError, UnitError
from tuner.experiment.fields import parse_shape
from tuner.experiment.model import Experiment
from tuner.experiment.options import takes_several
from tuner.experiment.resolve import PREFIX, resolve
from tuner.goals.constraints import parse_constraints
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.batches import BatchMix
from tuner.model.config import ModelConfig, parse_config, render
from tuner.model.parameter import Value
from tuner.model.paths import get_path, set_path, states
from tuner.model.space import Candidate, check_settings
from tuner.optimizer.storage import hide_password
from tuner.security import PLAIN, parse_header
from tuner.servers.address import attach

_QUANTITIES = (
    (units.parse_duration, units.exact_duration, units.format_duration),
    (units.parse_size, units.exact_size, units.format_size),
    (units.parse_share, units.exact_share, units.format_number),
    (units.parse_power, units.exact_power, units.format_number),
    (units.parse_energy, units.exact_energy, units.format_energy),
    (units.parse_temperature, units.exact_temperature, units.format_number),
    (units.parse_cores, units.exact_cores, units.format_cores),
)
CONFIG = """
name: "m" platform: "onnxruntime_onnx" max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: 4 }
output { name: "OUT" data_type: TYPE_FP32 dims: 4 }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100 }
parameters { key: "threads" value { string_value: "2" } }
"""
_PATHS = (
    *("max_batch_size", "dynamic_batching", "dynamic_batching.max_queue_delay_microseconds"),
    *("dynamic_batching.preferred_batch_size", "instance_group.count", "instance_group.kind"),
    *("instance_group", "instance_group.profile", "parameters", "parameters[threads]"),
    *(
        "optimization.graph.level",
        "optimization.cuda.graph_spec.input[x].dim",
        "cc_model_filenames",
    ),
    *("optimization.execution_accelerators.gpu_execution_accelerator[tensorrt]", "model_warmup"),
    *("optimization.execution_accelerators.gpu_execution_accelerator[a].parameters[b]", "version"),
    *("dynamic_batching.priority_queue_policy[1]", "model_warmup[x].inputs[y]", "metric_tags[a]"),
    *("ensemble_scheduling.step.input_map[a]", "sequence_batching.oldest", "input[IN].dims"),
    *(
        "version_policy.latest.num_versions",
        "response_cache.enable",
        "runtime",
        "input[IN].reshape",
    ),
)


def text_of(raw: bytes) -> str:
    """As Python has the words of a command line: what is not UTF-8 are surrogates."""
    return raw.decode("utf-8", errors="surrogateescape")


def _units(raw: bytes, folder: Path) -> object:
    """Whichever quantity it is; what is printed exactly is the very same quantity."""
    text, value = text_of(raw), None
    for parse, exact, show in _QUANTITIES:
        try:
            value = parse(text)
        except UnitError:
            continue
        if parse(exact(value)) != value:  # type: ignore[operator]
            raise AssertionError(f"{value!r} is printed as {exact(value)}")  # type: ignore[operator]
        show(value)  # type: ignore[operator]
    if value is None:
        raise UnitError("no quantity")
    return value


def _batches(raw: bytes, folder: Path) -> object:
    mix = BatchMix.parse(text_of(raw))
    if BatchMix.parse(str(mix)) != mix:
        raise AssertionError(f"{mix!r} is printed as {mix}")
    return mix.mean, mix.draw(128, np.random.default_rng(0))


def _constraints(raw: bytes, folder: Path) -> object:
    parsed = parse_constraints(text_of(raw))
    if parse_constraints(",".join(map(str, parsed))) != parsed:
        raise AssertionError(f"{parsed!r} is printed otherwise")
    return parsed


def _sla(raw: bytes, folder: Path) -> object:
    sla = Sla.parse(text_of(raw))
    if not Sla.parse(sla.text) == Sla.parse(str(sla)) == sla:
        raise AssertionError(f"{sla!r} is printed as {sla.text} and {sla}")
    return sla


def _objective(raw: bytes, folder: Path) -> object:
    objective = Objective.parse(text_of(raw), 100.0)
    if Objective.parse(str(objective), 100.0) != objective:
        raise AssertionError(f"{objective!r} is printed as {objective}")
    return objective.title


def _arrivals(raw: bytes, folder: Path) -> object:
    arrivals = Arrivals.parse(text_of(raw))
    arrivals.least_seconds(100.0)
    return schedule(arrivals, 100.0, 0.5, np.random.default_rng(0))


def _paths(raw: bytes, folder: Path) -> object:
    """With a value of every kind; a path of which any value is taken can be read again."""
    path, config, taken = text_of(raw), parse_config(CONFIG, "config.pbtxt"), 0
    values: tuple[Value, ...] = (True, False, 2, -1, 2**70, 0.5, "x", "KIND_CPU", (), (2, 4))
    for value in values:
        try:
            set_path(ModelConfig(), path, value)
        except SpaceError:
            continue
        taken += 1
        render(config, Candidate.of({path: value}))
        states(config, path, value)
    return get_path(config, path), taken


def _changes(raw: bytes, folder: Path) -> object:
    changes = parse_changes([text_of(each) for each in raw.split(b" ")])
    check_settings(changes)
    candidate = Candidate.of(changes)
    return str(candidate), render(parse_config(CONFIG, "config.pbtxt"), candidate)


def _shape(raw: bytes, folder: Path) -> object:
    return parse_shape(text_of(raw))


def _pin(raw: bytes, folder: Path) -> object:
    return parse_cores(text_of(raw), frozenset(range(16)))


def _header(raw: bytes, folder: Path) -> object:
    return parse_header(text_of(raw))


def _address(raw: bytes, folder: Path) -> object:
    return attach(text_of(raw), text_of(raw), PLAIN).root("http")


def _storage(raw: bytes, folder: Path) -> object:
    return hide_password(text_of(raw))


def _options(raw: bytes, folder: Path) -> object:
    """Lines ``field=text`` as options; texts of a field that holds several stand for themselves."""
    given: dict[str, Any] = {}
    for line in text_of(raw).split("\n"):
        name, _, text = line.partition("=")
        field = Experiment.model_fields.get(name)
        if field is not None and takes_several(field):
            given[name] = (*given.get(name, ()), text)
        elif field is not None or name == "sla_p99":
            given[name] = text
    experiment = resolve(given, folder / "none.yaml" if not given else None)
    return Experiment.recorded(experiment.model_dump(mode="json")), experiment.identity()


def _environment(raw: bytes, folder: Path) -> object:
    lines = (line.partition("=") for line in text_of(raw).replace("\0", "").split("\n"))
    known = {PREFIX + name.upper() for name in Experiment.model_fields}
    variables = {name: text for name, _, text in lines if name in known}
    with patch.dict(os.environ, variables):
        return resolve({})


_app = typer.Typer(pretty_exceptions_enable=False)


@command(_app)
def search(experiment: Experiment, options: SearchOptions) -> None:
    """As the command of that name, up to its work."""


@command(_app)
def measure(experiment: Annotated[Experiment, MEASURE_WITHOUT], options: MeasureOptions) -> None:
    """The same."""


@command(_app)
def simulate(options: SimulateOptions) -> None:
    """The same."""


@command(_app)
def compare(experiment: Annotated[Experiment, COMPARE_WITHOUT], options: CompareOptions) -> None:
    """The same."""
    Selection.of(options)


_commands = typer.main.get_command(_app)
_USAGE, _SCREEN = 2, 2000


def _command_line(raw: bytes, folder: Path) -> object:
    """One word a line."""
    words = text_of(raw).replace("\0", "").split("\n")
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            _commands.main(words, prog_name="tuner")
        except SystemExit as ended:
            code = int(ended.code or 0)
    if code == _USAGE:  # Typer quotes a word whole, however long it is
        raise UsageRefused(said.getvalue()[:_SCREEN])
    if code:
        raise AssertionError(f"exit code {code}: {said.getvalue()}")
    return words


class UsageRefused(TunerError):
    """The command line was refused with a message and the exit code of usage."""


_FIELDS = tuple(name.encode() for name in Experiment.model_fields)
_EXPERIMENT = (
    b"model=text_classifier\nsla=p50<5ms,p99<20ms,errors<0.1%\nconstraints=cpu<=4,memory<2GiB\n"
    b"timeout=3m\nuntil=1%\nshm_size=2GiB\nseed=7\nshapes=x:3,224,224\nenv=A=1\nbatch=1:0.7,4:0.3",
    b"model=emulated_gpu\nsla_p99=20ms\nrate=100\nminimize=p99/10ms + 0.5*instances\nload=gamma:3\n"
    b"server_args=--log-verbose=1\nmodel_version=2\npin=none\nsampler=tpe\nprotocol=grpc",
    b"model=emulated_gpu\nsla_p99=20ms\nurl=https://triton:8000\nheaders=X: abc\ntls_insecure=1",
)
_WORDS = (
    *(b"search\nemulated_gpu\n--sla-p99\n20ms\n--trials\n5\n--timeout\n3m\n--seed\n7\n-o\nx",),
    b"measure\nemulated_gpu\n--sla\np99<20ms\n--set\nmax_batch_size=8\n--rate\n300\n--batch\n1,4",
    b"simulate\n--set\ninstance_count=2\n--rate\n2000\n--load\ngamma:2\n--seed\n1\n--sla-p99\n1ms",
    b"compare\nemulated_gpu\n--sla-p99\n20ms\n--deployments\nfastapi,hybrid\n--rounds\n3\n--no-swaps",
)

READERS = {
    "units": (
        _units,
        [b"20ms", b"1.5s", b"3 min", b"512MiB", b"80%", b"0.8", b"250W", b"80mJ", b"80C", b"4"],
        [b"us", "µs".encode(), b"h", b"kB", b"GiB", b"kJ", "°C".encode(), b"cores", b"%"],
    ),
    "batches": (_batches, [b"8", b"1,4,16", b"1:0.7,4:0.2,16:0.1", b"1:7, 4:.2"], [b":", b","]),
    "constraints": (
        _constraints,
        [b"gpu_memory<20GiB,cpu<=4", b"gpu_power < 250W", b"energy<80mJ", b"queue<5ms"],
        [b"gpu_utilization", b"gpu_temperature<80C", b"memory", b"<=", b">", b","],
    ),
    "sla": (
        _sla,
        [b"p99<20ms", b"p50<5ms, p99.9 <= 0.02s and errors<0.1%", "p95≤1m".encode()],
        [b"errors<", b"%", b" and ", "≤".encode(), b"p"],
    ),
    "objective": (
        _objective,
        [b"p99", b"p99/10ms + 0.5*instances", b"gpu_memory/4GiB+energy/80mJ", b".5 * mean/1ms"],
        [b"instances", b"p99.9", b"queue", b"cpu", b"*", b"/", b"+"],
    ),
    "arrivals": (
        _arrivals,
        [b"poisson", b"gamma:3", b"piecewise:1x5s,3x1s", b"piecewise:1-3x10s,0x1s", b"trace:x"],
        [b"constant", b"closed", b"x", b"-", b":"],
    ),
    "paths": (_paths, [path.encode() for path in _PATHS], [b"[", b"]", b"."]),
    "changes": (
        _changes,
        [b"max_batch_size=16 instance_count=2", b"preferred_batch_size=4,8", b"x=[1]"],
        [b"=", b"dynamic_batching=false", b"max_queue_delay_microseconds=0", b"[]", b"true"],
    ),
    "shape": (_shape, [b"name:3,224,224", b"in:0:1"], [b":", b","]),
    "pin": (_pin, [b"auto", b"0-3:4-11:12-15", b"0,2:1", b"none"], [b"-", b":", b","]),
    "header": (_header, [b"Name: value", b"Authorization: Bearer abc"], [b":", b"Host"]),
    "address": (
        _address,
        [b"triton:8000", b"https://triton:8000/", b"grpcs://[::1]:8001", b"10.0.0.1:80"],
        [b"://", b"@", b"[", b"]", b":", b"http", b".", b"xn--", b"-"],
    ),
    "storage": (_storage, [b"sqlite:///a.db", b"mysql://me:pw@host:1/db?x=1"], [b"://", b"@"]),
    "options": (_options, list(_EXPERIMENT), [name + b"=" for name in _FIELDS]),
    "environment": (
        _environment,
        [
            b"\n".join(
                b"TUNER_" + name.upper() + b"=" + text
                for name, _, text in (line.partition(b"=") for line in each.split(b"\n"))
            )
            for each in _EXPERIMENT
        ],
        [b"TUNER_" + name.upper() + b"=" for name in _FIELDS],
    ),
    "command line": (
        _command_line,
        list(_WORDS),
        [b"\n--" + name.replace(b"_", b"-") + b"\n" for name in _FIELDS],
    ),
}
