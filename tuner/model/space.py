"""The search space: which fields of config.pbtxt may vary, and over what.

A parameter is named by its path in Triton's ModelConfig message, as in
``dynamic_batching.max_queue_delay_microseconds``. A path that names a message is switched on and
off by true and false, and everything below it varies only while it is on. Where several models are
tuned together, a path begins with the model's name, as in ``detector/max_batch_size``.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, model_validator

from tuner.errors import SpaceError
from tuner.model.parameter import MOST_VALUES, Parameter, Value
from tuner.text import shortened, shown
from tuner.units import LARGEST_NUMBER

_Kind = TypeVar("_Kind")
Point = dict[str, Value | None]
"""A value for each parameter; None leaves a field as it is."""

MAX_BATCH_SIZE = "max_batch_size"
DYNAMIC_BATCHING = "dynamic_batching"
PREFERRED = "dynamic_batching.preferred_batch_size"
QUEUE_DELAY = "dynamic_batching.max_queue_delay_microseconds"
INSTANCE_COUNT = "instance_group.count"
RATE_LIMIT = "rate_limit"
"""Executions at once, of all models of a server together (Triton's rate limiter); 0: any number.
Not a field of ModelConfig: it takes flags of the server, and a resource in each model."""
SIMULATED = (MAX_BATCH_SIZE, DYNAMIC_BATCHING, PREFERRED, QUEUE_DELAY, INSTANCE_COUNT, RATE_LIMIT)
"""What the simulator knows the effect of."""
MOST_POINTS = 100_000  # of a space: one with more is sampled, not listed


@dataclass(frozen=True)
class SpaceLimits:
    """What a space may hold, beyond what any search can tell apart."""

    parameters: int = 100
    instances: int = 1024
    """Of one group; servers have fewer cores, and GPUs far less memory."""
    batch: int = 2**31 - 1
    """What max_batch_size can say."""


LIMITS = SpaceLimits()
SHORT_NAMES = {
    "preferred_batch_size": PREFERRED,
    "max_queue_delay_microseconds": QUEUE_DELAY,
    "instance_count": INSTANCE_COUNT,
}


@dataclass(frozen=True)
class Candidate:
    """One point of a space: values by path, sorted by path. The empty one is the model's own
    configuration, or that of all models.
    """

    settings: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, settings: dict[str, Value]) -> "Candidate":
        """The canonical candidate: settings that cannot make a difference are left out.

        Without dynamic batching nothing below it counts, and with batches of one no preferred size
        or delay; preferred sizes above max_batch_size are refused by Triton, and one that equals it
        is what Triton assumes.
        """
        if not any(model_of(path) for path in settings):
            return cls(tuple(sorted(_canonical(settings).items())))
        return cls.together({m: cls.of(own) for m, own in by_model(settings).items()})

    @classmethod
    def together(cls, candidates: Mapping[str, "Candidate"]) -> "Candidate":
        """One of several models, from that of each by its name."""
        joined = {
            of_model(model, path): value
            for model, candidate in candidates.items()
            for path, value in candidate.settings
        }
        return cls(tuple(sorted(joined.items())))

    def part(self, model: str) -> "Candidate":
        """What it says of one of several models."""
        return Candidate(tuple(sorted(by_model(dict(self.settings)).get(model, {}).items())))

    @property
    def models(self) -> tuple[str, ...]:
        """Those that it says something of; one without a name where there is a single model."""
        return tuple(by_model(dict(self.settings)))

    def get(self, path: str) -> Value | None:
        return dict(self.settings).get(path)

    def __str__(self) -> str:
        """Short and complete: ``batch 16, preferred 4 8, delay 500 µs, instances 2``."""
        parts = by_model(dict(self.settings))
        named = (
            f"{model}: {_shown(own)}" if model else _shown(own) for model, own in parts.items()
        )
        return "; ".join(named) or "unchanged"


def _canonical(settings: Mapping[str, Value]) -> dict[str, Value]:
    effective = dict(settings)
    largest = effective.get(MAX_BATCH_SIZE)
    if isinstance(largest, int) and largest <= 1:
        effective.pop(PREFERRED, None)
        effective.pop(QUEUE_DELAY, None)
    if effective.get(DYNAMIC_BATCHING) is False:
        effective.pop(MAX_BATCH_SIZE, None)
    preferred = effective.get(PREFERRED)
    if isinstance(preferred, tuple) and isinstance(largest, int):
        sizes = tuple(sorted({size for size in preferred if size <= largest}))
        effective[PREFERRED] = () if sizes == (largest,) else sizes
    off = [path for path, value in effective.items() if value is False]
    return {
        path: value
        for path, value in effective.items()
        if not any(is_below(path, parent) for parent in off)
    }


def _shown(own: Mapping[str, Value]) -> str:
    settings, parts = dict(own), []
    if settings.pop(DYNAMIC_BATCHING, None) is False:
        parts.append("no dynamic batching")
    if (size := settings.pop(MAX_BATCH_SIZE, None)) is not None:
        parts.append(f"batch {size}")
    if preferred := settings.pop(PREFERRED, ()):
        parts.append(f"preferred {format_value(preferred)}")
    if (delay := settings.pop(QUEUE_DELAY, None)) is not None:
        parts.append(f"delay {delay} µs")
    if (count := settings.pop(INSTANCE_COUNT, None)) is not None:
        parts.append(f"instances {count}")
    if (limit := settings.pop(RATE_LIMIT, None)) is not None:
        parts.append(f"at most {limit} at once" if limit else "no rate limit")
    parts += [f"{short_name(path)} {format_value(v)}" for path, v in settings.items()]
    return ", ".join(parts)


def model_of(path: str) -> str:
    """The model that a path begins with; empty where there is none."""
    return path.partition("[")[0].rpartition("/")[0]


def field_of(path: str) -> str:
    """The path without the model."""
    model = model_of(path)
    return path[len(model) + 1 :] if model else path


def of_model(model: str, path: str) -> str:
    """The path of a field of one of several models."""
    return f"{model}/{path}" if model else path


def by_model(settings: Mapping[str, _Kind]) -> dict[str, dict[str, _Kind]]:
    """Settings of each model, by its name, with paths that have none."""
    parts: dict[str, dict[str, _Kind]] = {}
    for path, value in settings.items():
        parts.setdefault(model_of(path), {})[field_of(path)] = value
    return parts


def full_path(name: str) -> str:
    """A path from a name that may be short, as in ``detector/instance_count``."""
    return of_model(model_of(name), SHORT_NAMES.get(field_of(name), field_of(name)))


def stated(settings: Mapping[str, Value | None]) -> dict[str, Value]:
    """The settings less those that leave a field as it is."""
    return {path: value for path, value in settings.items() if value is not None}


def format_value(value: Value | None) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else str(value)


def queue_delay(candidate: Candidate) -> float:
    """Seconds that the batcher may wait for more requests."""
    delay = candidate.get(QUEUE_DELAY)
    return delay * 1e-6 if isinstance(delay, int) else 0.0


def short_name(path: str) -> str:
    """The last part of a path: what a table's heading shows."""
    model, field = model_of(path), field_of(path)
    if model:
        return f"{model} {short_name(field)}"
    if path.endswith("]"):
        return path.rpartition("[")[2][:-1]
    return "instance count" if path == INSTANCE_COUNT else path.rpartition(".")[2]


def is_below(path: str, parent: str) -> bool:
    return path.startswith((parent + ".", parent + "["))


class SearchSpace(BaseModel):
    """Parameters by path; parents come before what is below them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = "custom"
    description: str = ""
    parameters: dict[str, Parameter]
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def place(self, path: str) -> str:
        """Where a parameter was written, as ``file:line``; the space's name if that is unknown."""
        return self._places.get(path, f"search space {self.name!r}")

    @model_validator(mode="before")
    @classmethod
    def _full_paths(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("parameters"), dict):
            named: dict[str, Any] = {}
            for name, value in raw["parameters"].items():
                path = full_path(str(name))
                if path in named:
                    raise ValueError(
                        f"{shortened(path)}: it appears twice, under both of its names"
                    )
                named[path] = value
            if len(named) > LIMITS.parameters:
                raise ValueError(
                    f"there are {len(named):,} parameters, and at most {LIMITS.parameters} are "
                    "supported"
                )
            return {**raw, "parameters": dict(sorted(named.items()))}
        return raw

    @model_validator(mode="after")
    def _legal_values(self) -> Self:
        for path, parameter in self.parameters.items():
            _check_number(path, parameter)
        for path in self.parameters:
            if field_of(path) != PREFERRED:
                continue
            for sizes in self.parameters[path].examples():
                if not isinstance(sizes, tuple) or any(size < 1 for size in sizes):
                    raise ValueError(
                        f"{path}: {shortened(format_value(sizes))} must be a list of sizes "
                        "above zero, such as [4, 8]; [] leaves the choice to Triton"
                    )
        return self

    def without(self, parents: set[str]) -> "SearchSpace":
        """The space less some paths and all that is below them."""
        parameters = {
            path: parameter
            for path, parameter in self.parameters.items()
            if path not in parents and not any(is_below(path, parent) for parent in parents)
        }
        return self.model_copy(update={"parameters": parameters})

    def including(self, settings: dict[str, Value]) -> "SearchSpace":
        """The space widened so that these settings lie in it, absent ones included."""
        widened = {
            path: self._including(path, settings.get(path))
            if self.parent_is_on(path, settings)
            else parameter
            for path, parameter in self.parameters.items()
        }
        return self.model_copy(update={"parameters": widened})

    def _including(self, path: str, value: Value | None) -> Parameter:
        try:
            widened = self.parameters[path].including(value)
            _check_number(path, widened)
        except ValueError as error:  # also pydantic's
            raise SpaceError(
                f"{self.place(path)}: cannot add the model's own value {shown(value)}: "
                + shortened(str(error))
            ) from error
        except SpaceError as error:
            raise SpaceError(f"{self.place(path)}: {error}") from error
        return widened

    def parent_is_on(self, path: str, settings: Mapping[str, Value | None]) -> bool:
        """Whether nothing that the path lies below is switched off."""
        return all(
            settings.get(parent) is not False
            for parent in self.parameters
            if is_below(path, parent)
        )

    def count(self, limit: int = MOST_POINTS) -> int | None:
        """How many different candidates there are; None for a continuum or more than the limit."""
        candidates = self.candidates(limit)
        return None if candidates is None else len(candidates)

    def candidates(self, limit: int = MOST_POINTS) -> dict[Candidate, Point] | None:
        """All different candidates, each with a point that it stands for; None for a continuum or
        more points than the limit.
        """
        total = 1
        for parameter in self.parameters.values():
            size = parameter.size
            if size is None or size > MOST_VALUES or total * size > limit:
                return None
            total *= size
        axes = [parameter.points() for parameter in self.parameters.values()]
        return _distinct(dict(zip(self.parameters, point, strict=True)) for point in product(*axes))

    def sample(self, count: int, rng: np.random.Generator) -> dict[Candidate, Point]:
        """The candidates that so many random points stand for."""
        return _distinct(
            {path: parameter.draw(rng) for path, parameter in self.parameters.items()}
            for _ in range(count)
        )


def _distinct(points: Iterable[Point]) -> dict[Candidate, Point]:
    candidates: dict[Candidate, Point] = {}
    for point in points:
        candidates.setdefault(Candidate.of(stated(point)), point)
    return candidates


_NUMBERS = {
    MAX_BATCH_SIZE: (1, LIMITS.batch),
    QUEUE_DELAY: (0, LARGEST_NUMBER),
    INSTANCE_COUNT: (1, LIMITS.instances),
    RATE_LIMIT: (0, LIMITS.instances),
}
"""The least and the largest value of parameters that are whole numbers."""


def _check_number(path: str, parameter: Parameter) -> None:
    """ValueError if the parameter is a number and may be one that no server takes."""
    field = field_of(path)
    if field not in _NUMBERS:
        return
    least, most = _NUMBERS[field]
    for value in parameter.examples():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(
                f"{path}: {shown(value)} must be a whole number from {least} to {most:,}"
            )


def check_settings(settings: dict[str, Value]) -> None:
    """Raise SpaceError for values that no candidate can have, such as zero instances."""
    try:
        for path, value in settings.items():
            SearchSpace(parameters={path: Parameter(values=(value,))})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise SpaceError(message) from error


_MOST_NAMED = 30


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that is spelled most like it; None with nothing close."""
    return next(iter(difflib.get_close_matches(word[:100], known, n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: list[str]) -> str:
    """``; did you mean X?`` or, with nothing close, the list of what is known."""
    close = nearest(word, known)
    if close is not None:
        return f"; did you mean {shown(close)}?"
    more = ", …" if len(known) > _MOST_NAMED else ""
    return f"; choose from {', '.join(map(shortened, known[:_MOST_NAMED]))}{more}"
