"""Moves on the bottleneck of a pipeline whose steps are counted, but that is not simulated."""

from collections.abc import Iterator

from tuner.analysis.steps import step_uses
from tuner.model.parameter import MOST_VALUES, Value
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Point, SearchSpace, of_model
from tuner.records.results import Evaluation

_FIELDS = (INSTANCE_COUNT, MAX_BATCH_SIZE)


def moves(space: SearchSpace, leader: Evaluation) -> Iterator[Point]:
    """What might serve more than the leader: one instance more, or the next larger batches, of its
    busiest step; then those of the others, as they are busy. None for a single model.
    """
    probe = leader.at_capacity()
    uses = step_uses(probe) if probe is not None else []
    for use in sorted(uses, key=lambda each: each.utilization, reverse=True):
        for field in _FIELDS:
            path = of_model(use.model, field)
            larger = _next(space, path, leader.settings.get(path))
            if larger is not None:
                yield {**leader.settings, path: larger}


def _next(space: SearchSpace, path: str, own: Value | None) -> int | None:
    parameter = space.parameters.get(path)
    countless = parameter is None or not parameter.size or parameter.size > MOST_VALUES
    if parameter is None or countless or not isinstance(own, int):
        return None
    above = [each for each in parameter.points() if isinstance(each, int) and each > own]
    return min(above, default=None)
