"""The objective of a search from its records, which keep it as text."""

from collections.abc import Iterable

from tuner.errors import RunError, UnitError
from tuner.goals.objective import Objective
from tuner.records.results import Cost, Evaluation
from tuner.units import format_rate


def objective_of(evaluations: Iterable[Evaluation]) -> Objective | None:
    """What the search minimized; None if it maximized the capacity."""
    costs = (each.cost for each in evaluations if each.cost is not None)
    return next(map(_objective, costs), None)


def describe_cost(cost: Cost) -> str:
    """``p99 8.1 ms at 1,000/s (95 %: 7.9 ms to 8.4 ms)``."""
    objective = _objective(cost)
    at = f"{objective} {objective.show(cost.value)} at {format_rate(cost.rate)}"
    return at + objective.between(cost)


def _objective(cost: Cost) -> Objective:
    try:
        return Objective.parse(cost.objective, cost.rate)
    except UnitError as error:
        raise RunError(f"a damaged record: {error}") from error
