"""The search space: which fields of config.pbtxt may vary, and over what.

A parameter is named by its path in Triton's ModelConfig message, as in
``dynamic_batching.max_queue_delay_microseconds``. A path that names a message is switched on and
off by true and false, and everything below it varies only while it is on.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictInt,
    ValidationError,
    model_validator,
)

from tuner.errors import SpaceError

Value = bool | int | float | str | tuple[int, ...]
Point = dict[str, Value | None]
"""A value for each parameter; None leaves a field as it is."""

MAX_BATCH_SIZE = "max_batch_size"
DYNAMIC_BATCHING = "dynamic_batching"
PREFERRED = "dynamic_batching.preferred_batch_size"
QUEUE_DELAY = "dynamic_batching.max_queue_delay_microseconds"
INSTANCE_COUNT = "instance_group.count"
SIMULATED = (MAX_BATCH_SIZE, DYNAMIC_BATCHING, PREFERRED, QUEUE_DELAY, INSTANCE_COUNT)
"""What the simulator knows the effect of."""
MOST_VALUES = 1000  # of one parameter: a range with more is drawn from, not listed
MOST_POINTS = 100_000  # of a space: one with more is sampled, not listed
SHORT_NAMES = {
    "preferred_batch_size": PREFERRED,
    "max_queue_delay_microseconds": QUEUE_DELAY,
    "instance_count": INSTANCE_COUNT,
}


@dataclass(frozen=True)
class Candidate:
    """One point of a space: values by path, sorted by path. The empty one is the model as found."""

    settings: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, settings: dict[str, Value]) -> "Candidate":
        """The canonical candidate: settings that cannot make a difference are left out.

        Without dynamic batching nothing below it counts, and with batches of one no preferred size
        or delay; preferred sizes above max_batch_size are refused by Triton, and one that equals it
        is what Triton assumes.
        """
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
        return cls(
            tuple(
                sorted(
                    (path, value)
                    for path, value in effective.items()
                    if not any(is_below(path, parent) for parent in off)
                )
            )
        )

    def get(self, path: str) -> Value | None:
        return dict(self.settings).get(path)

    def __str__(self) -> str:
        """Short and complete: ``batch 16, preferred 4 8, delay 500 µs, instances 2``."""
        settings = dict(self.settings)
        parts = []
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
        parts += [f"{short_name(path)} {format_value(v)}" for path, v in settings.items()]
        return ", ".join(parts) or "as found"


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
    if path.endswith("]"):
        return path[path.rindex("[") + 1 : -1]
    return "instance count" if path == INSTANCE_COUNT else path.rpartition(".")[2]


def is_below(path: str, parent: str) -> bool:
    return path.startswith((parent + ".", parent + "["))


def _as_value(raw: Any) -> Any:
    return tuple(raw) if isinstance(raw, list) else raw


ValueField = Annotated[Value, BeforeValidator(_as_value)]


class Parameter(BaseModel):
    """What one field may be: a list of ``values``, or a ``range`` of numbers, both ends included.

    The value null leaves the field as the model's configuration has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: tuple[ValueField | None, ...] | None = None
    range: tuple[StrictInt, StrictInt] | tuple[float, float] | None = None
    step: StrictInt | float | None = Field(default=None, gt=0)
    log: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, raw: Any) -> Any:
        return {"values": raw} if isinstance(raw, list) else raw

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.values is None) == (self.range is None):
            raise ValueError("give either a list of values or a range: [low, high]")
        if self.values is not None:
            if not self.values:
                raise ValueError("the list of values is empty")
            if self.step is not None or self.log:
                raise ValueError("step and log go with a range, not with values")
        elif self.range is not None:
            if self.range[0] > self.range[1]:
                raise ValueError(f"the range is empty: {self.range[0]} > {self.range[1]}")
            if isinstance(self.step, float) and isinstance(self.range[0], int):
                raise ValueError("a range of whole numbers takes a whole step")
            if self.log and (self.step is not None or self.range[0] <= 0):
                raise ValueError("log needs a range above zero and no step")
        return self

    def including(self, value: Value | None) -> "Parameter":
        """The same with that value made possible, so that the model's own belongs to the space."""
        values = self.values
        if values is None and value is None:
            values = self.points()
        if values is not None:
            if any(value == v and type(value) is type(v) for v in values):
                return self
            return Parameter(values=(*values, value))
        assert self.range is not None
        low, high = self.range
        if not isinstance(value, int | float):
            return self
        if self.step is not None and (self.size or 0) <= MOST_VALUES:
            return self if value in self.points() else Parameter(values=(*self.points(), value))
        if low <= value <= high:
            return self
        return Parameter(
            range=(min(low, value), max(high, value)),
            step=self.step,
            log=self.log and value > 0,
        )

    def examples(self) -> tuple[Value, ...]:
        """Values that show whether the field takes them: all of a list, both ends of a range."""
        listed = self.values if self.values is not None else (self.range or ())
        return tuple(value for value in listed if value is not None)

    @property
    def size(self) -> int | None:
        """How many values there are; None for a continuum."""
        if self.values is not None:
            return len(self.values)
        assert self.range is not None
        low, high = self.range
        if isinstance(low, float) or isinstance(high, float):
            return None if self.step is None else math.floor((high - low) / self.step + 1e-9) + 1
        return int((high - low) // (self.step or 1)) + 1

    def draw(self, rng: np.random.Generator) -> Value | None:
        """A random value, of all alike."""
        if self.size is not None and self.size <= MOST_VALUES:
            return self.points()[int(rng.integers(self.size))]
        assert self.range is not None
        low, high = self.range
        share = float(rng.random())
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        if self.step is not None:
            value = low + round((value - low) / self.step) * self.step
        return round(value) if isinstance(low, int) and isinstance(high, int) else value

    def points(self) -> tuple[Value | None, ...]:
        """All values; SpaceError for a continuum or more than MOST_VALUES."""
        if self.values is not None:
            return self.values
        assert self.range is not None
        if self.size is None or self.size > MOST_VALUES:
            raise SpaceError(f"the range {list(self.range)} has no list of values; give a step")
        step = self.step or 1
        return tuple(self.range[0] + i * step for i in range(self.size))


class SearchSpace(BaseModel):
    """Parameters by path; parents come before what is below them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
            named = {SHORT_NAMES.get(str(k), str(k)): v for k, v in raw["parameters"].items()}
            return {**raw, "parameters": dict(sorted(named.items()))}
        return raw

    @model_validator(mode="after")
    def _legal_values(self) -> Self:
        for path, least in ((MAX_BATCH_SIZE, 1), (QUEUE_DELAY, 0), (INSTANCE_COUNT, 1)):
            if path in self.parameters:
                _check_at_least(path, self.parameters[path], least)
        if PREFERRED in self.parameters:
            for sizes in self.parameters[PREFERRED].examples():
                if not isinstance(sizes, tuple) or any(size < 1 for size in sizes):
                    raise ValueError(
                        f"{PREFERRED}: {format_value(sizes)} is not a list of sizes above zero, "
                        "such as [4, 8]; [] leaves the choice to Triton"
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
            path: parameter.including(settings.get(path))
            if self.parent_is_on(path, settings)
            else parameter
            for path, parameter in self.parameters.items()
        }
        return self.model_copy(update={"parameters": widened})

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


def _check_at_least(path: str, parameter: Parameter, least: int) -> None:
    for value in parameter.examples():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{path}: {value!r} must be a whole number of at least {least}")


def check_settings(settings: dict[str, Value]) -> None:
    """Raise SpaceError for values that no candidate may have, such as no instances at all."""
    try:
        for path, value in settings.items():
            SearchSpace(parameters={path: Parameter(values=(value,))})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise SpaceError(message) from error


def did_you_mean(word: str, known: list[str]) -> str:
    """``; did you mean X?`` or, with nothing close, the list of what is known."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
