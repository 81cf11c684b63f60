"""What one field of config.pbtxt may be: values, or a range of numbers."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    model_validator,
)

from tuner.errors import SpaceError
from tuner.text import shown
from tuner.units import LARGEST_NUMBER

Value = bool | int | float | str | tuple[int, ...]
MOST_VALUES = 1000
"""Of one parameter: a range with more is drawn from, not listed."""


@dataclass(frozen=True)
class ParameterLimits:
    """What a parameter may hold, beyond what any search can tell apart."""

    listed: int = 2000
    """Values of a list; a range may have more, which are drawn from."""
    sizes: int = 100
    """Numbers of a value that is a list itself."""
    least_log: float = 1e-12
    """The lower end of a logarithmic range: ratios of ends are far from overflowing."""


LIMITS = ParameterLimits()


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
                f"the list has {len(listed):,} values, more than {LIMITS.listed:,}; use a range "
                "instead"
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
                raise ValueError("step and log need a range, not a list of values")
        elif self.range is not None:
            self._check_range(*self.range)
        return self

    def _check_range(self, low: float, high: float) -> None:
        if low > high:
            raise ValueError(f"the range is empty: {shown(low)} > {shown(high)}")
        if max(abs(low), abs(high), self.step or 0) > LARGEST_NUMBER:
            raise ValueError(f"ends and step of a range are at most {LARGEST_NUMBER:,}")
        if isinstance(self.step, float) and isinstance(low, int):
            raise ValueError("a range of whole numbers needs a whole step")
        if self.step is not None and (high - low) / self.step > LARGEST_NUMBER:
            raise ValueError(f"the step {self.step} is too small for the range")
        if self.log and (self.step is not None or low < LIMITS.least_log):
            raise ValueError("log needs a range above zero, and no step")

    def including(self, value: Value | None) -> "Parameter":
        """The same with that value made possible, so that the model's own belongs to the space."""
        values = self.values
        if values is None and value is None:
            if self.size is None or self.size > MOST_VALUES:
                raise SpaceError(
                    "the model's configuration does not set it, so leaving it unset would be "
                    f"one more value of the range {list(self.range or ())}, which has too many "
                    f"values to list; set a step that leaves at most {MOST_VALUES:,} values, or "
                    "use a list"
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
            raise SpaceError(
                f"the range {list(self.range)} has too many values to list; set a step"
            )
        step = self.step or 1
        return tuple(self.range[0] + i * step for i in range(self.size))
