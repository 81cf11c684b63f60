"""How candidates behave under this load in the simulation, and which of them behave alike.

Batch sizes that are never reached and preferred sizes that are never waited for make no difference:
such candidates are one, named by its simplest member.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tuner.model.space import MAX_BATCH_SIZE, PREFERRED, QUEUE_DELAY, Candidate
from tuner.optimizer.simulators import Seen
from tuner.stats.samples import Bools, Floats, Ints


@dataclass(frozen=True)
class BehaviourSettings:
    requests: int = 2000
    """Of a simulation that is compared: hundreds of batches, in a fraction of a millisecond."""
    step: float = 0.05
    """Ratio, less 1, between the rates at which candidates are compared: they have to be the same
    for both, and near the capacity of either."""
    alike: float = 0.015
    """Share by which the simulated capacities of such candidates may differ: a little more than
    they are searched to."""


SETTINGS = BehaviourSettings()
SHORT_LOOK = BehaviourSettings(requests=500)
"""For the mean batch of a candidate that is far from the best."""
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Behaviour:
    """Of one candidate near its capacity: the mean size of each model's batches (items), shape
    (models,), and what it did at the two highest rates of comparison up to the capacity, by their
    numbers.
    """

    batches: Floats
    traces: Mapping[int, bytes]


Play = Callable[[float, int], Seen]
"""Simulates a candidate at a rate (requests/s), with about so many requests."""


def observe(capacity: float, play: Play, settings: BehaviourSettings = SETTINGS) -> Behaviour:
    """What a candidate with this capacity (requests/s, above zero) does."""
    highest = math.floor(math.log(capacity) / math.log1p(settings.step))
    traces, batches = {}, np.ones(1)
    for number in (highest - 1, highest):
        played = play(math.exp(number * math.log1p(settings.step)), settings.requests)
        traces[number] = played.samples.latency.tobytes()
        batches = played.batches
    return Behaviour(batches, traces)


def classes(
    behaviours: Mapping[Key, tuple[float, Behaviour]], settings: BehaviourSettings = SETTINGS
) -> dict[Key, int]:
    """The number of the class of each, given its capacity (requests/s) and its behavior.

    Two are of one class if their capacities are alike and they answer the same requests in the same
    times, at the highest rate at which both were compared.
    """
    found: dict[Key, int] = {}
    known: dict[tuple[int, bytes], list[tuple[float, int]]] = {}
    for key, (capacity, behaviour) in sorted(behaviours.items(), key=lambda each: -each[1][0]):
        most = capacity * (1 + settings.alike)
        highest = max(behaviour.traces.items())
        alike = [number for rate, number in known.get(highest, ()) if rate <= most]
        found[key] = alike[0] if alike else len(found)
        for trace in behaviour.traces.items():
            known.setdefault(trace, []).append((capacity, found[key]))
    return found


def simplicity(candidate: Candidate) -> tuple[float, ...]:
    """Orders candidates that do the same, the simplest first: what Triton does unasked, and the
    smallest batches and the shortest delay that do.
    """
    parts = [candidate.part(model) for model in candidate.models]
    preferred = [part.get(PREFERRED) for part in parts]
    return (
        sum(len(sizes) for sizes in preferred if isinstance(sizes, tuple)),
        sum(_number(part.get(QUEUE_DELAY)) for part in parts),
        sum(_number(part.get(MAX_BATCH_SIZE)) for part in parts),
        len(candidate.settings),
    )


def simplest_of_each(candidates: Sequence[Candidate], numbers: Ints, among: Bools) -> Bools:
    """Which of the candidates ``among`` these is the simplest of its class; all of shape (n,)."""
    best: dict[int, int] = {}
    for i in sorted(np.flatnonzero(among).tolist(), key=lambda i: simplicity(candidates[i])):
        best.setdefault(int(numbers[i]), i)
    chosen = np.zeros(len(candidates), dtype=bool)
    chosen[list(best.values())] = True
    return chosen


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
