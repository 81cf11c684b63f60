"""Where candidates die, and so where not to go."""

from collections.abc import Sequence

import numpy as np

from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
    Value,
)
from tuner.records.results import Cause, Evaluation, State
from tuner.stats.samples import Floats

_GROWING: tuple[Cause, ...] = ("out of memory", "timed out")
_NEVER_ALIVE = 3.0
_HARMLESS = (MAX_BATCH_SIZE, INSTANCE_COUNT, DYNAMIC_BATCHING, PREFERRED, QUEUE_DELAY)


def survival(
    candidates: Sequence[Candidate],
    evaluations: Sequence[Evaluation],
    also: Sequence[tuple[Candidate, Cause | None]] = (),
) -> Floats:
    """The probability that each candidate can be measured at all; shape (n,). ``also`` are more of
    those that failed.

    What ran out of memory or time does so with larger batches and more instances, too. Any other
    failure is held against the settings that it had: for each of them, how many of the candidates
    with it failed, and the worst of these counts.
    """
    failed = [(e.candidate, e.cause) for e in evaluations if e.state is State.FAILED]
    failed += also
    if not failed:
        return np.ones(len(candidates))
    grown = [candidate for candidate, cause in failed if cause in _GROWING]
    alive = _tally([e.candidate for e in evaluations if e.state is not State.FAILED])
    dead = _tally([candidate for candidate, cause in failed if cause not in _GROWING])
    return np.array(
        [
            0.0 if any(_exceeds(c, g) for g in grown) else _least_alive(c, alive, dead)
            for c in candidates
        ]
    )


def _tally(candidates: Sequence[Candidate]) -> dict[tuple[str, Value], int]:
    counts: dict[tuple[str, Value], int] = {}
    for candidate in candidates:
        for setting in candidate.settings:
            counts[setting] = counts.get(setting, 0) + 1
    return counts


def _least_alive(
    candidate: Candidate,
    alive: dict[tuple[str, Value], int],
    dead: dict[tuple[str, Value], int],
) -> float:
    shares = []
    for setting in candidate.settings:
        lived, died = alive.get(setting, 0), dead.get(setting, 0)
        weight = 1.0 if lived else _NEVER_ALIVE
        shares.append((lived + 1) / (lived + 1 + weight * died))
    return min(shares, default=1.0)


def _exceeds(candidate: Candidate, other: Candidate) -> bool:
    """Whether it has at least as large batches on as many instances, and the rest that matters."""
    rest = [tuple(s for s in c.settings if s[0] not in _HARMLESS) for c in (candidate, other)]
    if rest[0] != rest[1]:
        return False
    sized = (MAX_BATCH_SIZE, INSTANCE_COUNT)
    return all(_number(candidate.get(path)) >= _number(other.get(path)) for path in sized)


def _number(value: Value | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
