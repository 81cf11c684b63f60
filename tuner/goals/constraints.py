"""Limits on a candidate's resources besides latency: memory, cores, GPU, queue.

>>> str(Constraint.parse("gpu_memory < 20GiB"))
'gpu_memory<20GiB'
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import le, lt

from tuner.errors import UnitError, UsageError
from tuner.goals.quantities import ALIASES, QUANTITIES, Readings
from tuner.model.space import did_you_mean
from tuner.text import shown

_OPERATORS: dict[str, Callable[[float, float], bool]] = {"<=": le, "<": lt}
_SHAPE = re.compile(r"([A-Za-z_]\w*) ?(<=|>=|<|>) ?(.*)")
_EXAMPLE = "gpu_memory<20GiB"
_MOST = 100  # constraints: several on each quantity


@dataclass(frozen=True)
class Constraint:
    """One upper limit, in its quantity's base unit: bytes, a share 0..1, W, °C, cores, seconds."""

    name: str
    operator: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Constraint":
        """From ``gpu_memory<20GiB``; UnitError, with an example, if the text is invalid."""
        match = _SHAPE.fullmatch(" ".join(text.split()))
        if match is None:
            raise UnitError(f"constraint {shown(text)} is not valid; write it like {_EXAMPLE}")
        if match[2] not in _OPERATORS:
            raise UnitError(
                f"constraint {shown(text)} is not an upper limit; write it like {_EXAMPLE}"
            )
        name = ALIASES.get(match[1], match[1])
        if name not in QUANTITIES:
            hint = did_you_mean(match[1], [*QUANTITIES, *ALIASES])
            raise UnitError(
                f"constraint {shown(text)}: there is no quantity {shown(match[1])}{hint}"
            )
        try:
            limit = QUANTITIES[name].parse(match[3])
        except UnitError as error:
            raise UnitError(f"constraint {shown(text)}: {error}") from error
        return cls(name, match[2], limit)

    @property
    def static(self) -> bool:
        """Whether it hardly depends on the rate: one violation in any probe rules the candidate
        out.
        """
        return QUANTITIES[self.name].static

    def value(self, record: Readings) -> float | None:
        """The probe's reading in the unit of ``limit``; None if it has none."""
        reading = QUANTITIES[self.name].read(record)
        return None if reading is None or not math.isfinite(reading) else float(reading)

    def broken(self, record: Readings) -> bool | None:
        """Whether the probe violated it; None if there is no reading, which never counts as met."""
        value = self.value(record)
        return None if value is None else not _OPERATORS[self.operator](value, self.limit)

    def unknown(self, record: Readings) -> str | None:
        """Why the probe cannot decide, for the user; None if it can."""
        if self.value(record) is not None:
            return None
        source = QUANTITIES[self.name].source
        return f"this machine provides no {source} readings, so {self.name} cannot be checked"

    def describe(self, record: Readings) -> str:
        """``gpu_memory<20GiB: met (12.3 GiB)``, for people."""
        value = self.value(record)
        if value is None:
            return f"{self}: unknown, {self.unknown(record)}"
        state = "violated" if self.broken(record) else "met"
        return f"{self}: {state} ({QUANTITIES[self.name].show(value)})"

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{QUANTITIES[self.name].print(self.limit)}"


def parse_constraints(text: str) -> tuple[Constraint, ...]:
    """From ``gpu_memory<20GiB,cpu<=4``, one or several."""
    parts = text.split(",")
    if len(parts) > _MOST:
        raise UnitError(f"constraint {shown(text)} has more than {_MOST} limits")
    return tuple(map(Constraint.parse, parts))


def require_readings(constraints: Iterable[Constraint], record: Readings) -> None:
    """UsageError if a constraint cannot be checked with this probe."""
    missing = [why for constraint in constraints if (why := constraint.unknown(record))]
    if missing:
        remedy = "remove --constraint, or use a machine with these readings (see 'tuner doctor')"
        raise UsageError("\n".join(dict.fromkeys(missing)) + f"; {remedy}")
