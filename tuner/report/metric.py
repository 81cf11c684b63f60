"""What candidates are compared by: the capacity, or a cost at a given rate."""

from collections.abc import Iterable
from dataclasses import dataclass

from tuner.goals.objective import Objective
from tuner.records.costs import objective_of
from tuner.records.results import Evaluation
from tuner.units import format_rate

_BYTES_PER_GIB = 2.0**30


@dataclass(frozen=True)
class Metric:
    """Of a run that minimised ``objective`` at a rate; None: one that looked for the capacity."""

    objective: Objective | None = None

    @classmethod
    def of(cls, evaluations: Iterable[Evaluation]) -> "Metric":
        return cls(objective_of(evaluations))

    @property
    def name(self) -> str:
        return "capacity" if self.objective is None else self.objective.title

    @property
    def short_name(self) -> str:
        return "capacity" if self.objective is None else str(self.objective)

    @property
    def axis(self) -> str:
        """With the unit of ``drawn``."""
        if self.objective is None:
            return "capacity (requests/s)"
        unit = self._unit[0]
        return f"{self.name} ({unit})" if unit else self.name

    @property
    def _unit(self) -> tuple[str, float]:
        """The unit of figures, and how much of the base unit it is."""
        if self.objective is None or not self.objective.has_unit:
            return "", 1.0
        term = self.objective.terms[0]
        if term.is_latency or term.name == "queue":
            return "ms", 1e-3
        if term.name in ("memory", "gpu_memory"):
            return "GiB", _BYTES_PER_GIB
        units = {"energy": ("mJ", 1e-3), "gpu_power": ("W", 1.0), "cpu": ("cores", 1.0)}
        units |= {"gpu_utilisation": ("%", 0.01), "gpu_temperature": ("°C", 1.0)}
        return units.get(term.name, ("", 1.0))

    @property
    def smaller_is_better(self) -> bool:
        return self.objective is not None

    def value(self, evaluation: Evaluation) -> float | None:
        """None where the SLA is not kept."""
        if self.objective is None or evaluation.capacity is None:
            return evaluation.capacity
        return None if evaluation.cost is None else evaluation.cost.value

    def range(self, evaluation: Evaluation) -> tuple[float | None, float | None]:
        """The 95 % interval."""
        if self.objective is None:
            return evaluation.low, evaluation.high
        cost = evaluation.cost if evaluation.capacity is not None else None
        return (None, None) if cost is None else (cost.low, cost.high)

    def estimate(self, evaluation: Evaluation) -> float | None:
        """The value, also of what was eliminated."""
        return evaluation.estimate if self.objective is None else self.value(evaluation)

    def show(self, value: float | None) -> str:
        return format_rate(value) if self.objective is None else self.objective.show(value)

    def drawn(self, value: float | None) -> float:
        """In the unit of figures."""
        return (value or 0.0) / self._unit[1]
