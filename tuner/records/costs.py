"""The objective of a search out of its records, which keep it as text."""

from collections.abc import Iterable

from tuner.goals.objective import Objective
from tuner.records.results import Cost, Evaluation
from tuner.units import format_rate


def objective_of(evaluations: Iterable[Evaluation]) -> Objective | None:
    """What the search minimised; None where it looked for the capacity."""
    costs = (each.cost for each in evaluations if each.cost is not None)
    return next((Objective.parse(cost.objective, cost.rate) for cost in costs), None)


def describe_cost(cost: Cost) -> str:
    """``p99 8.1 ms at 1,000/s (95 %: 7.9 ms to 8.4 ms)``."""
    objective = Objective.parse(cost.objective, cost.rate)
    at = f"{objective} {objective.show(cost.value)} at {format_rate(cost.rate)}"
    return at + objective.between(cost)
