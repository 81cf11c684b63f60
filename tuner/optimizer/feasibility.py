"""Predicts which candidates fail."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.model.parameter import Value
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
    field_of,
    of_model,
)
from tuner.optimizer.measurement import Measurement
from tuner.records.results import Cause, State
from tuner.stats.samples import Floats


@dataclass(frozen=True)
class FeasibilitySettings:
    growing: tuple[Cause, ...] = ("out of memory", "timed out")
    """Causes that larger batches and more instances make worse."""
    never_measured_weight: float = 3.0
    """How many failures one counts for, of a setting with which nothing was ever measured: two
    failures in a row leave it 1/7, too little to be next while others are left."""
    harmless: tuple[str, ...] = (
        MAX_BATCH_SIZE,
        INSTANCE_COUNT,
        DYNAMIC_BATCHING,
        PREFERRED,
        QUEUE_DELAY,
    )
    """Settings that do not change what memory a batch and an instance need."""


_SETTINGS = FeasibilitySettings()


def success_probability(
    candidates: Sequence[Candidate],
    measurements: Sequence[Measurement],
    settings: FeasibilitySettings = _SETTINGS,
) -> Floats:
    """The success probability of each candidate: that it can be measured at all; shape (n,).

    A candidate that ran out of memory or time does so with larger batches and more instances, too.
    Any other failure counts against its settings: for each of them, how many of the candidates with
    it failed (Laplace's rule of succession), and the worst of these counts. What met the SLA at no
    rate and was not even probed at one, such as when it breaks a constraint, counts as such, too.
    """
    failed = [m for m in measurements if _tells_nothing(m)]
    if not failed:
        return np.ones(len(candidates))
    grown = [m.candidate for m in failed if m.cause in settings.growing]
    successes = _tally([m.candidate for m in measurements if not _tells_nothing(m)])
    failures = _tally([m.candidate for m in failed if m.cause not in settings.growing])

    def probability(candidate: Candidate) -> float:
        if any(_exceeds(candidate, other, settings.harmless) for other in grown):
            return 0.0
        shares = []
        for setting in candidate.settings:
            alive, dead = successes.get(setting, 0), failures.get(setting, 0)
            weight = 1.0 if alive else settings.never_measured_weight
            shares.append((alive + 1) / (alive + 1 + weight * dead))
        return min(shares, default=1.0)

    return np.array([probability(candidate) for candidate in candidates])


def _tells_nothing(measurement: Measurement) -> bool:
    """Whether no capacity can be learned from it, not even a bound."""
    if measurement.state is State.INFEASIBLE:
        return measurement.log_merit is None
    return measurement.state is State.FAILED


def _tally(candidates: Sequence[Candidate]) -> dict[tuple[str, Value], int]:
    counts: dict[tuple[str, Value], int] = {}
    for candidate in candidates:
        for setting in candidate.settings:
            counts[setting] = counts.get(setting, 0) + 1
    return counts


def _exceeds(candidate: Candidate, other: Candidate, harmless: tuple[str, ...]) -> bool:
    """Whether it has at least as large batches on as many instances, and the rest that matters."""
    rest, others = (
        tuple(setting for setting in each.settings if field_of(setting[0]) not in harmless)
        for each in (candidate, other)
    )
    sized = [
        of_model(model, path)
        for model in {*candidate.models, *other.models}
        for path in (MAX_BATCH_SIZE, INSTANCE_COUNT)
    ]
    return rest == others and all(
        _number(candidate.get(path)) >= _number(other.get(path)) for path in sized
    )


def _number(value: Value | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
