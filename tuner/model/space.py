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
from tuner.text import shortened, shown
from tuner.units import LARGEST_NUMBER

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


@dataclass(frozen=True)
class SpaceLimits:
    """What a space may hold, beyond what any search can tell apart."""

    parameters: int = 100
    listed: int = 2000
    """Values of a list; a range may have more, which are drawn from."""
    sizes: int = 100
    """Numbers of a value that is a list itself."""
    instances: int = 1024
    """Of one group; servers have fewer cores, and GPUs far less memory."""
    batch: int = 2**31 - 1
    """What max_batch_size can say."""
    least_log: float = 1e-12
    """The lower end of a logarithmic range: ratios of ends are far from overflowing."""


LIMITS = SpaceLimits()
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
        return path.rpartition("[")[2][:-1]
    return "instance count" if path == INSTANCE_COUNT else path.rpartition(".")[2]


def is_below(path: str, parent: str) -> bool:
    return path.startswith((parent + ".", parent + "["))


def _as_value(raw: Any) -> Any:
    if not isinstance(raw, list):
        return raw
    if len(raw) > LIMITS.sizes:
        raise ValueError(f"a value has at most {LIMITS.sizes} numbers, not {len(raw):,}")
    return tuple(raw)


ValueField = Annotated[Value, BeforeValidator(_as_value)]


class Parameter(BaseModel):
    """What one field may be: a list of ``values``, or a ``range`` of numbers, both ends included.

    The value null leaves the field as the model's configuration has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    values: tuple[ValueField | None, ...] | None = Field(default=None, fail_fast=True)
    range: tuple[StrictInt, StrictInt] | tuple[float, float] | None = None
    step: StrictInt | float | None = Field(default=None, gt=0)
    log: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, raw: Any) -> Any:
        fields = {"values": raw} if isinstance(raw, list) else raw
        listed = fields.get("values") if isinstance(fields, dict) else None
        if isinstance(listed, list) and len(listed) > LIMITS.listed:
            raise ValueError(
                f"the list has {len(listed):,} values, more than {LIMITS.listed:,}; write a range"
            )
        return fields

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
            self._check_range(*self.range)
        return self

    def _check_range(self, low: float, high: float) -> None:
        if low > high:
            raise ValueError(f"the range is empty: {shown(low)} > {shown(high)}")
        if max(abs(low), abs(high), self.step or 0) > LARGEST_NUMBER:
            raise ValueError(f"ends and step of a range are at most {LARGEST_NUMBER:,}")
        if isinstance(self.step, float) and isinstance(low, int):
            raise ValueError("a range of whole numbers takes a whole step")
        if self.step is not None and (high - low) / self.step > LARGEST_NUMBER:
            raise ValueError(f"the step {self.step} is too small for the range")
        if self.log and (self.step is not None or low < LIMITS.least_log):
            raise ValueError("log needs a range above zero and no step")

    def including(self, value: Value | None) -> "Parameter":
        """The same with that value made possible, so that the model's own belongs to the space."""
        values = self.values
        if values is None and value is None:
            if self.size is None or self.size > MOST_VALUES:
                raise SpaceError(
                    "the model does not state it, so to leave it as it is would be one value more "
                    f"of the range {list(self.range or ())}, which cannot be listed: give a step "
                    f"that leaves at most {MOST_VALUES:,} values, or a list"
                )
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
        if self.values is not None:
            return self.values[int(rng.integers(len(self.values)))]
        assert self.range is not None
        (low, high), size = self.range, self.size
        if size is not None and size <= MOST_VALUES:
            return low + int(rng.integers(size)) * (self.step or 1)
        share = float(rng.random())
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        if self.step is not None:
            steps = round((value - low) / self.step)
            value = low + (steps if size is None else min(steps, size - 1)) * self.step
        if isinstance(low, int) and isinstance(high, int):
            return min(max(round(value), low), high)  # a product of floats may round beyond
        return min(max(value, low), high)

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
                path = SHORT_NAMES.get(str(name), str(name))
                if path in named:
                    raise ValueError(f"{shortened(path)}: it is there twice, by both its names")
                named[path] = value
            if len(named) > LIMITS.parameters:
                raise ValueError(
                    f"there are {len(named):,} parameters, and at most {LIMITS.parameters} can be "
                    "told apart"
                )
            return {**raw, "parameters": dict(sorted(named.items()))}
        return raw

    @model_validator(mode="after")
    def _legal_values(self) -> Self:
        for path, parameter in self.parameters.items():
            _check_number(path, parameter)
        if PREFERRED in self.parameters:
            for sizes in self.parameters[PREFERRED].examples():
                if not isinstance(sizes, tuple) or any(size < 1 for size in sizes):
                    raise ValueError(
                        f"{PREFERRED}: {shortened(format_value(sizes))} is not a list of sizes "
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
                f"{self.place(path)}: the space cannot hold the model's own value {shown(value)}: "
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
}
"""The least and the largest value of parameters that are whole numbers."""


def _check_number(path: str, parameter: Parameter) -> None:
    """ValueError where the parameter is a number and may be one that no server takes."""
    if path not in _NUMBERS:
        return
    least, most = _NUMBERS[path]
    for value in parameter.examples():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(
                f"{path}: {shown(value)} must be a whole number from {least} to {most:,}"
            )


def check_settings(settings: dict[str, Value]) -> None:
    """Raise SpaceError for values that no candidate may have, such as no instances at all."""
    try:
        for path, value in settings.items():
            SearchSpace(parameters={path: Parameter(values=(value,))})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise SpaceError(message) from error


_MOST_NAMED = 30


def did_you_mean(word: str, known: list[str]) -> str:
    """``; did you mean X?`` or, with nothing close, the list of what is known."""
    close = difflib.get_close_matches(word[:100], known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {shown(close[0])}?"
    more = ", …" if len(known) > _MOST_NAMED else ""
    return f"; known are {', '.join(map(shortened, known[:_MOST_NAMED]))}{more}"
