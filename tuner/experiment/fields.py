"""Fields that are written as text and hold types; parsed once, at the edge."""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator, ValidationInfo

from tuner.cores import Pin
from tuner.errors import UsageError
from tuner.goals.constraints import Constraint, parse_constraints
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.load.arrivals import CLOSED, Arrivals, ClosedLoop
from tuner.load.batches import BatchMix
from tuner.load.mix import Mix, mix_of_log, parse_rates
from tuner.security import Header, hide_variable, parse_header
from tuner.text import shown
from tuner.units import whole_number

RECORDED: Final = {"recorded": True}
"""The context for reading a recorded experiment, perhaps from another machine: files and cores that
it names need not exist here.
"""


def is_recorded(info: ValidationInfo) -> bool:
    return bool((info.context or {}).get("recorded"))


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("Input should be a valid string")
    return raw


def _texts(raw: Any) -> tuple[str, ...]:
    """One text or several."""
    texts = (raw,) if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple):
        raise ValueError("Input should be a list of texts")
    return tuple(map(_text, texts))


def _sla(raw: Any) -> Sla:
    return raw if isinstance(raw, Sla) else Sla.parse(",".join(_texts(raw)))


def split_names(raw: Any) -> Any:
    """Names with commas between them, in one text or several."""
    texts = (raw,) if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        return raw  # which is refused
    parts = (part.strip() for text in texts for part in text.split(","))
    return tuple(part for part in parts if part)


def _mix(raw: Any) -> Mix | None:
    """Weights as text or by model; a text without a weight is a log with a column ``model``."""
    if raw is None or isinstance(raw, Mix):
        return raw
    if isinstance(raw, Mapping):
        raw = ",".join(f"{_text(name)}={weight}" for name, weight in raw.items())
    text = _text(raw)
    return Mix.parse(text) if "=" in text else mix_of_log(text)


def _rates(raw: Any) -> Mapping[str, float]:
    """Texts ``classifier=200``, or rates by model as in YAML and the Python API."""
    if isinstance(raw, Mapping):
        raw = tuple(f"{_text(name)}={rate}" for name, rate in raw.items())
    texts = _texts(raw)
    return parse_rates(",".join(texts)) if texts else {}


def _constraints(raw: Any) -> tuple[Constraint, ...]:
    if isinstance(raw, tuple) and all(isinstance(each, Constraint) for each in raw):
        return raw
    return tuple(each for text in _texts(raw) for each in parse_constraints(text))


def _objective(raw: Any, info: ValidationInfo) -> Objective | None:
    """At the ``rate`` of the same model, which has to be declared before it."""
    if raw is None or isinstance(raw, Objective):
        return raw
    rate = info.data.get("rate", 1.0)  # a rate that is wrong is told of by itself
    objective = Objective.parse(_text(raw), rate or 1.0)
    if rate is None:
        raise UsageError("--minimize needs a rate to compare at: add --rate, in requests/s")
    return objective


def _load(raw: Any, info: ValidationInfo) -> Arrivals | ClosedLoop:
    if isinstance(raw, Arrivals):
        return raw
    if raw == CLOSED:
        return CLOSED
    return Arrivals.parse(_text(raw), here=not is_recorded(info))


def _batch(raw: Any) -> BatchMix:
    if isinstance(raw, BatchMix):
        return raw
    is_number = isinstance(raw, int) and not isinstance(raw, bool)
    return BatchMix.parse(str(raw) if is_number else _text(raw))


def _pin(raw: Any, info: ValidationInfo) -> Pin:
    if isinstance(raw, Pin):
        return raw
    return Pin(_text(raw)) if is_recorded(info) else Pin.parse(_text(raw))


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``name:3,224,224`` as in --shape."""
    name, separator, dims = text.rpartition(":")
    sizes = [whole_number(size.strip(), _LARGEST_DIM) for size in dims.split(",")]
    if not separator or not name or not all(sizes) or len(sizes) > _MOST_DIMS:
        raise UsageError(
            f"--shape {shown(text)} is not valid; write it like name:3,224,224, with at most "
            f"{_MOST_DIMS} dimensions"
        )
    return name, tuple(size for size in sizes if size)


def _shapes(raw: Any) -> Mapping[str, tuple[int, ...]]:
    """Texts, or dimensions by name as in YAML and the Python API."""
    if not isinstance(raw, Mapping):
        return dict(map(parse_shape, _texts(raw)))
    found: dict[str, tuple[int, ...]] = {}
    for name, dims in raw.items():
        sizes = tuple(dims) if isinstance(dims, list | tuple) else (dims,)
        if not all(type(size) is int for size in sizes):
            raise ValueError(f"the shape of {shown(name)} must be a list of whole numbers")
        text = ",".join(map(str, sizes))
        found.update([parse_shape(f"{_text(name)}:{text}")])
    return found


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"env: {shown(text)} is not valid; write it like NAME=value")
    try:
        can_be = bool(name) and b"\0" not in os.fsencode(text)
    except UnicodeError:
        can_be = False
    if not can_be:  # its value may be a secret
        raise UsageError("env: a variable needs a name, and must not contain a null character")
    return name, value


def _variables(raw: Any) -> Mapping[str, str]:
    """Texts ``NAME=value``, or values by name as in YAML and the Python API."""
    if not isinstance(raw, Mapping):
        return dict(map(_variable, _texts(raw)))
    for value in raw.values():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise UsageError("env: the value of a variable must be text; put it in quotes")
    return dict(_variable(f"{_text(name)}={value}") for name, value in raw.items())


def _headers(raw: Any) -> tuple[Header, ...]:
    """Texts ``Name: value`` or, as YAML makes of them without quotes, mappings."""
    headers: list[Header] = []
    for entry in raw if isinstance(raw, list | tuple) else [raw]:
        if isinstance(entry, tuple):
            name, value = entry if len(entry) == 2 else ("", "")
            headers.append(parse_header(f"{name}: {value}"))
        elif isinstance(entry, dict):
            headers += [parse_header(f"{name}: {value}") for name, value in entry.items()]
        else:
            headers.append(parse_header(str(entry)))
    return tuple(headers)


def _version(raw: Any) -> str:
    """Triton's versions are whole numbers above zero; none chosen is empty."""
    text = "" if raw is None else str(raw)
    if isinstance(raw, bool) or (text and not _VERSION.fullmatch(text)):
        raise ValueError("a version must be a whole number above zero")
    return text


def _server_arguments(raw: Any, info: ValidationInfo) -> tuple[str, ...]:
    arguments = _texts(raw)
    for argument in () if is_recorded(info) else arguments:
        if "\0" in argument:
            raise ValueError("an argument must not contain a null character")
        flag = next(iter(argument.partition("=")[0].split()), "")
        if not flag.startswith("-"):
            raise ValueError(
                f"{shown(argument)} is not a flag; write it like --server-arg=--log-verbose=1"
            )
        for own, instead in _OWN_FLAGS.items():
            if re.fullmatch(own, flag):
                raise ValueError(f"tuner sets {flag} itself{instead}")
    return arguments


_MOST_DIMS = 32
"""Of a tensor: numpy knows no more."""
_LARGEST_DIM = 2**31 - 1
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_OWN_FLAGS = {
    r"--(model-repository|model-store)": "; pass the model's folder to tuner instead",
    r"--(model-control-mode|load-model|repository-poll-secs)": ": it loads models "
    "explicitly; use --load-model for others",
    r"--(http|grpc|metrics|sagemaker|vertex-ai)-(port|address)|--reuse-\w+-port": ": servers "
    "listen on free ports of the loopback address",
    r"--allow-(http|grpc|metrics)": ": it needs HTTP, gRPC and metrics",
    r"--(http-restricted-api|grpc-restricted-protocol)": ": it protects each server with its "
    "own secret",
    r"--metrics-interval-ms|--disable-auto-complete-config": "",
    r"--(backend|cache)-directory": " for the embedded server; put another tritonserver on the "
    "PATH to change it",
    r"--exit-on-error|--strict-model-config|-h|--help|--id": "",
}
"""Patterns of tritonserver flags that users cannot set, and the reason."""

SlaText = Annotated[
    Sla, PlainValidator(_sla), PlainSerializer(lambda sla: sla.text, return_type=str)
]
MixText = Annotated[
    Mix | None,
    PlainValidator(_mix),
    PlainSerializer(lambda mix: None if mix is None else str(mix), return_type=str | None),
]
HeldRates = Annotated[
    Mapping[str, float],
    PlainValidator(_rates),
    PlainSerializer(
        lambda held: [f"{name}={rate!r}" for name, rate in held.items()], return_type=list[str]
    ),
]
ConstraintTexts = Annotated[
    tuple[Constraint, ...],
    PlainValidator(_constraints),
    PlainSerializer(lambda all_: [str(each) for each in all_], return_type=list[str]),
]
ObjectiveText = Annotated[
    Objective | None,
    PlainValidator(_objective),
    PlainSerializer(lambda it: None if it is None else str(it), return_type=str | None),
]
LoadText = Annotated[
    Arrivals | ClosedLoop, PlainValidator(_load), PlainSerializer(str, return_type=str)
]
BatchText = Annotated[BatchMix, PlainValidator(_batch), PlainSerializer(str, return_type=str)]
PinText = Annotated[Pin, PlainValidator(_pin), PlainSerializer(str, return_type=str)]
ShapeTexts = Annotated[
    Mapping[str, tuple[int, ...]],
    PlainValidator(_shapes),
    PlainSerializer(
        lambda shapes: [f"{name}:{','.join(map(str, dims))}" for name, dims in shapes.items()],
        return_type=list[str],
    ),
]
VariableTexts = Annotated[
    Mapping[str, str],
    PlainValidator(_variables),
    PlainSerializer(
        lambda variables: [hide_variable(f"{name}={value}") for name, value in variables.items()],
        return_type=list[str],
    ),
]
ServerArguments = Annotated[
    tuple[str, ...],
    PlainValidator(_server_arguments),
    PlainSerializer(list, return_type=list[str]),
]
VersionText = Annotated[str, PlainValidator(_version)]
Headers = Annotated[tuple[Header, ...], PlainValidator(_headers)]
"""Never recorded: their values are secrets."""
