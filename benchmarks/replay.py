"""Optuna's samplers over a ground truth: what they would have measured, and with how many requests.

A search by TPE or at random measures twenty candidates, each for ten seconds and more. Where the
capacity of every candidate is known, the same ``Study`` can be played without a server: a
measurement gives the truth's capacity with the scatter that single measurements have, and costs the
requests that they cost. ``SECONDS`` and ``SCATTER`` come from searches that were not replayed.
"""

import math
import tempfile
from pathlib import Path
from typing import cast

import numpy as np

from benchmarks.load.bench import Row
from tuner.deployments.subjects import Subject
from tuner.model.parameter import Value
from tuner.model.space import Candidate, SearchSpace
from tuner.optimizer.samplers.choose import make_sampler
from tuner.optimizer.stopping import Budget
from tuner.optimizer.study import Measurer, Study
from tuner.records.results import Evaluation, State
from tuner.records.run import Run

SECONDS, SECONDS_IF_BEATEN = 10.0, 5.0
"""Of load at the capacity: to measure a candidate, and to see that it cannot win."""
SCATTER = 0.04
_TRIALS = 20


class Bench:
    """Stands where the evaluator does."""

    def __init__(self, truth: dict[Candidate, float], seed: int) -> None:
        self._truth = truth
        self._rng = np.random.default_rng(seed)
        self.requests: list[float] = []

    def search(
        self, subject: Subject, to_beat: float, phase: str = "search", expected: float = 0.0
    ) -> Evaluation:
        truth = self._truth.get(subject.candidate, 0.0)
        rate = truth * math.exp(SCATTER * self._rng.standard_normal())
        state = State.OK if rate > to_beat else State.BEATEN if rate else State.INFEASIBLE
        seconds = SECONDS if state is State.OK else SECONDS_IF_BEATEN
        self.requests.append(seconds * max(rate, to_beat if state is State.BEATEN else 0.0))
        return Evaluation(
            trial=subject.trial,
            phase="search",
            baseline=subject.baseline,
            settings=dict(subject.candidate.settings),
            config="",
            started="2025-01-01T00:00:00+00:00",
            seconds=seconds,
            state=state,
            capacity=rate if state is State.OK else None,
            low=rate or None,
            high=rate or None,
        )


def replay(
    space: SearchSpace,
    own: dict[str, Value],
    truth: dict[Candidate, float],
    method: str,
    seed: int,
    good: float,
) -> Row:
    """One search: the truth's quality of its best candidate, and requests until it was good."""
    bench = Bench(truth, seed)
    with tempfile.TemporaryDirectory() as name:
        run = Run.create(Path(name) / "run")
        study = Study(run, space, own, cast(Measurer, bench), make_sampler(method, seed))
        study.search(Budget(_TRIALS, 1e9, confirms=False), lambda _: None)
        found = study.evaluations
    best, chosen, sent, until_good = 0.0, 0.0, 0.0, None
    for evaluation, requests in zip(found, bench.requests, strict=True):
        sent += requests
        if (evaluation.capacity or 0.0) > best:
            best, chosen = evaluation.capacity or 0.0, truth.get(evaluation.candidate, 0.0)
        if until_good is None and chosen >= good:
            until_good = round(sent)
    return {
        "quality": round(chosen / max(truth.values()), 4),
        "measured": sum(e.capacity is not None for e in found),
        "trials": len(found),
        "requests": round(sent),
        "requests_to_good": until_good,
    }
