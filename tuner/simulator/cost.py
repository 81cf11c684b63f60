"""Predicts the cost of a configuration at a given rate."""

import math
from collections.abc import Sequence

import numpy as np

from tuner.goals.objective import INSTANCES, Objective, Term
from tuner.records.results import Window
from tuner.simulator.footprint import READ, Footprint
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import Simulation
from tuner.stats.estimators import PERCENTILES, quantile


class CostPredictor:
    """Predicts costs with what these windows tell of memory."""

    def __init__(self, objective: Objective, windows: Sequence[Window]) -> None:
        self._objective = objective
        self._footprints = {name: Footprint.fit(windows, name) for name in READ}

    @property
    def is_certain(self) -> bool:
        """Whether a candidate's settings alone determine its cost."""
        return all(term.name == INSTANCES for term in self._objective.terms)

    def of(self, scheduling: Scheduling, played: Simulation) -> float | None:
        """The objective's value; None if a term is not simulated."""
        total = 0.0
        for term in self._objective.terms:
            value = self._read(term, scheduling, played)
            if value is None:
                return None
            total += term.factor * value
        return total

    def _read(self, term: Term, scheduling: Scheduling, played: Simulation) -> float | None:
        latency = played.samples.latency
        if term.name == INSTANCES:
            return float(scheduling.instances)
        if term.name in PERCENTILES:
            return quantile(latency, PERCENTILES[term.name])
        if term.name == "mean":
            good = latency[np.isfinite(latency)]
            return float(np.mean(good)) if len(good) else math.inf
        if term.name == "queue":
            return played.queue
        footprint = self._footprints.get(term.name)
        if footprint is None:
            return None
        return footprint.of(scheduling.instances, scheduling.devices, scheduling.max_batch)
