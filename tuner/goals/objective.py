"""The cost that a search minimizes at a given rate, instead of maximizing the capacity.

>>> str(Objective.parse("p99/10ms + 0.5 * instances", 1000.0))
'p99/10ms + 0.5*instances'
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import tuner.units as units
from tuner.errors import UnitError, UsageError
from tuner.goals.quantities import ALIASES, QUANTITIES, Readings
from tuner.model.space import did_you_mean
from tuner.stats.estimators import INTERVAL_WIDTH, PERCENTILES
from tuner.text import shown

INSTANCES = "instances"
_MEAN = "mean"
_TERM = re.compile(
    r"(?:(?P<weight>[0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?\* ?)?"
    r"(?P<name>[A-Za-z_][\w.]*)(?: ?/ ?(?P<scale>[^*/+]+))?"
)
_MOST_TERMS = 20  # there are hardly as many quantities
_NAMES = (INSTANCES, _MEAN, *PERCENTILES, *QUANTITIES)
_EXAMPLE = "p99, instances, gpu_memory, energy, or a sum like p99/10ms + 0.5*instances"


class Estimate(Protocol):
    """The 95 % interval of a value, as ``tuner.records.results.Cost`` has it."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True)
class ObjectiveSettings:
    unread_error: float = 0.01  # standard error of readings without an interval, as a share
    tail_requests: int = 20  # beyond a percentile: its relative error is below 1/4 then
    factors: tuple[float, float] = (1e-20, 1e20)  # of readings: sums are far from overflowing


_SETTINGS = ObjectiveSettings()


@dataclass(frozen=True)
class Term:
    """``weight`` times a quantity, in units of ``scale``, or in its base unit.

    ``name`` is one of the latencies (``mean``, ``p50`` to ``p99.9``, in seconds), ``instances`` or
    a name out of ``QUANTITIES``.
    """

    name: str
    weight: float = 1.0
    scale: float | None = None

    @property
    def is_latency(self) -> bool:
        return self.name == _MEAN or self.name in PERCENTILES

    @property
    def factor(self) -> float:
        """By what a reading in its base unit is to be multiplied."""
        return self.weight / (self.scale or 1.0)

    def read(self, record: Readings, instances: int) -> float | None:
        """The probe's reading in the base unit; None if it has none."""
        if self.name == INSTANCES:
            return float(instances)
        if self.name == _MEAN:
            return record.mean
        if self.name in PERCENTILES:
            return record.latency.get(self.name)
        return QUANTITIES[self.name].read(record)

    @property
    def source(self) -> str:
        return QUANTITIES[self.name].source if self.name in QUANTITIES else "latency"

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"{units.exact_cores(self.weight)}*"
        scale = "" if self.scale is None else f"/{_exact(self.name, self.scale)}"
        return weight + self.name + scale


@dataclass(frozen=True)
class Objective:
    """A sum of terms, to be as small as can be while ``rate`` requests/s are offered."""

    terms: tuple[Term, ...]
    rate: float

    @classmethod
    def parse(cls, text: str, rate: float) -> "Objective":
        """UnitError, with an example, if the text is invalid."""
        parts = text.split("+")
        if len(parts) > _MOST_TERMS:
            raise UnitError(f"objective {shown(text.strip())} has more than {_MOST_TERMS} terms")
        terms = tuple(map(_parse_term, parts))
        if len(terms) > 1:
            for term in terms:
                if term.scale is None and term.name != INSTANCES:
                    raise UnitError(
                        f"objective {shown(text.strip())}: in a sum, scale {term.name}, as in "
                        f"{term.name}/{_example(term.name)}"
                    )
        return cls(terms, rate)

    def value(self, record: Readings, instances: int) -> float | None:
        """The sum for one probe; +inf where failures reach a percentile, None if a reading is
        missing.
        """
        values = [term.read(record, instances) for term in self.terms]
        if any(value is None for value in values):
            return None
        pairs = zip(self.terms, values, strict=True)
        return sum(term.factor * (value or 0.0) for term, value in pairs)

    def error(self, record: Readings, instances: int) -> float:
        """The standard error of ln(value), as far as it is known: that of latencies from their
        intervals, wide where the probe is too short for one; none of the number of instances.
        """
        total, variance = 0.0, 0.0
        for term in self.terms:
            value = term.read(record, instances) or 0.0
            total += term.factor * value
            low, high = record.latency_interval.get(term.name, (None, None))
            if term.name == INSTANCES:
                error = 0.0
            elif low is None:
                error = _SETTINGS.unread_error * value
            else:
                end = value + 2 * (value - low) if high is None else high
                error = (end - low) / INTERVAL_WIDTH
            variance += (term.factor * error) ** 2
        return math.sqrt(variance) / total if 0 < total < math.inf else 0.0

    @property
    def requests(self) -> int:
        """The number of requests that its highest percentile needs; 0 if it has no percentile."""
        shares = [PERCENTILES[term.name] for term in self.terms if term.name in PERCENTILES]
        return max((round(_SETTINGS.tail_requests / (1 - share)) for share in shares), default=0)

    def require_readings(self, record: Readings) -> None:
        """UsageError if a term cannot be read from this probe."""
        for term in self.terms:
            if term.read(record, 1) is None:
                raise UsageError(
                    f"this machine provides no {term.source} readings, so {term.name} cannot be "
                    "minimized; use a machine with these readings (see 'tuner doctor')"
                )

    def show(self, value: float | None) -> str:
        """A value for people: with its unit, where there is only one term."""
        if value is None:
            return "-"
        if not self.has_unit:
            return units.format_number(value) if math.isfinite(value) else "no answer"
        name = self.terms[0].name
        if self.terms[0].is_latency:
            return units.format_duration(value)
        return f"{value:g}" if name == INSTANCES else QUANTITIES[name].show(value)

    def between(self, cost: Estimate) -> str:
        """`` (95 %: 7.9 ms to 8.4 ms)``, as far as the interval is known."""
        if cost.low is None or cost.high is None or cost.low == cost.high:
            return ""
        return f" (95 %: {self.show(cost.low)} to {self.show(cost.high)})"

    @property
    def has_unit(self) -> bool:
        """Whether its value is that of one quantity, in its base unit."""
        (first, *rest) = self.terms
        return not rest and first.weight == 1 and first.scale is None

    @property
    def title(self) -> str:
        """``p99 at 1,000/s``."""
        return f"{self} at {units.format_rate(self.rate)}"

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))


def _parse_term(text: str) -> Term:
    match = _TERM.fullmatch(" ".join(text.split()))
    if match is None:
        raise UnitError(f"objective {shown(text.strip())} is not valid; write {_EXAMPLE}")
    name = ALIASES.get(match["name"], match["name"])
    if name not in _NAMES:
        hint = did_you_mean(name, list(_NAMES)) or f"; write {_EXAMPLE}"
        raise UnitError(
            f"objective {shown(text.strip())}: there is no quantity {shown(name)}{hint}"
        )
    weight = float(match["weight"] or 1.0)
    scale = None if match["scale"] is None else float(_parser(name)(match["scale"]))
    term = Term(name, weight, scale)
    least, most = _SETTINGS.factors
    if scale == 0 or not least <= term.factor <= most:
        raise UnitError(
            f"objective {shown(text.strip())}: weight and scale must be above zero and not "
            "extremely large"
        )
    return term


def _parser(name: str) -> Callable[[str], float]:
    if name == INSTANCES:
        return units.parse_cores
    return QUANTITIES[name].parse if name in QUANTITIES else units.parse_duration


def _exact(name: str, scale: float) -> str:
    if name == INSTANCES:
        return units.exact_cores(scale)
    return QUANTITIES[name].print(scale) if name in QUANTITIES else units.exact_duration(scale)


def _example(name: str) -> str:
    examples = {"gpu_memory": "4GiB", "memory": "1GiB", "energy": "80mJ", "gpu_power": "100W"}
    examples |= {"cpu": "2", "gpu_utilisation": "50%", "gpu_temperature": "60C"}
    return examples.get(name, "10ms")
