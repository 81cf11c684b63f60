"""An evaluation in the making: of one server, or of one after the other."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from tuner.errors import CandidateError, ConstraintBroken
from tuner.goals.objective import Objective
from tuner.measure.capacity import Capacity, Finding, fit_by_round
from tuner.model.space import Candidate
from tuner.records.results import LEAST_COST, Cost, Evaluation, ProbeRecord, State
from tuner.servers.causes import cause_of

Phase = Literal["search", "again", "confirm", "measure", "calibrate"]
PHASES: tuple[Phase, ...] = ("search", "confirm", "measure", "again", "calibrate")
"""Their order is part of what seeds are made of."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated: trial number, candidate, and whether it is the model as found.

    The baseline's candidate states the model's own settings; the server gets its file untouched.
    """

    trial: int
    candidate: Candidate
    baseline: bool = False

    @property
    def changes(self) -> Candidate:
        """What the candidate changes in the model's configuration: nothing, for the baseline."""
        return Candidate() if self.baseline else self.candidate


@dataclass
class Draft:
    """An evaluation in the making: of one server, or of one after the other."""

    subject: Subject
    phase: Phase
    config: str
    seeds: np.random.Generator
    look: int = 0
    launches: int = 0
    launch_seconds: float | None = None
    relaunched: bool = True
    capacity: Capacity = field(default_factory=lambda: Capacity(None))
    findings: list[Finding] = field(default_factory=list)
    objective: Objective | None = None
    costs: list[tuple[float, float]] = field(default_factory=list)
    probes: list[ProbeRecord] = field(default_factory=list)
    failure: str | None = None
    infeasible: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0

    def attempt(self, part: Callable[[], None]) -> Evaluation:
        """Do a part of the work, unless an earlier one failed; what there is then."""
        began = time.monotonic()
        if self.failure is None:
            try:
                part()
            except ConstraintBroken as error:
                self.failure, self.infeasible = str(error), True
                self.capacity = Capacity(None)
            except CandidateError as error:
                self.failure = str(error)
                self.capacity = Capacity(None)
        self.seconds += time.monotonic() - began
        return self.evaluation()

    @property
    def merit(self) -> float:
        """As ``Evaluation.merit``; 0.0 where the promise is not kept."""
        if self.capacity.rate is None:
            return 0.0
        cost = self._cost()
        return self.capacity.rate if cost is None else 1 / max(cost.value, LEAST_COST)

    @property
    def rank(self) -> tuple[float, float]:
        """As that of ``best``: the merit, and of equal ones the room below the promise."""
        return self.merit, -(self.capacity.margin or 0.0)

    @property
    def to_prove(self) -> float | None:
        """The rate to put to the full test: the recommended one, or the one that was given."""
        if self.objective is not None:
            return self.capacity.rate
        return self.capacity.recommended

    def evaluation(self) -> Evaluation:
        found = self.capacity
        failure = self.failure
        if failure is None and found.rate is None and found.client_limited:
            failure = (
                "the load generator fell behind at every rate that was tried: raise --workers, "
                "or give it cores of its own"
            )
        state = State.OK if found.rate is not None else State.INFEASIBLE
        if state is State.INFEASIBLE and found.beaten:
            state = State.BEATEN
        assert self.phase != "calibrate"
        return Evaluation(
            trial=self.subject.trial,
            phase=self.phase,
            look=self.look,
            baseline=self.subject.baseline,
            settings=dict(self.subject.candidate.settings),
            config=self.config,
            state=state if failure is None or self.infeasible else State.FAILED,
            failure=failure,
            cause=None if failure is None or self.infeasible else cause_of(failure),
            capacity=found.rate,
            low=found.low,
            high=found.high,
            recommended=found.recommended,
            steepness=found.steepness,
            by_round=self._by_round(),
            margin=found.margin,
            cost=self._cost(),
            client_limited=found.client_limited,
            started=self.started.isoformat(timespec="seconds"),
            seconds=self.seconds,
            launch_seconds=self.launch_seconds,
            relaunched=self.relaunched,
            probes=tuple(self.probes),
        )

    def _by_round(self) -> tuple[tuple[float, float], ...]:
        if self.phase != "confirm" or self.capacity.rate is None or self.objective is not None:
            return ()
        fits = fit_by_round(self.findings, self.capacity.rate)
        return tuple((fit.rate, fit.error) for fit in fits)

    def _cost(self) -> Cost | None:
        """The mean over the rounds."""
        objective = self.objective
        if objective is None or not all(math.isfinite(value) for value, _ in self.costs):
            return None
        if not self.costs:
            return None
        value, low, high = summarise(self.costs)
        rounds = tuple((max(each, LEAST_COST), error) for each, error in self.costs)
        whole = len(rounds) == len(self.findings)  # only then each is paired with its own round
        by_round = rounds if self.phase == "confirm" and self.capacity.rate and whole else ()
        return Cost(
            objective=str(objective),
            rate=objective.rate,
            value=value,
            low=low,
            high=high,
            by_round=by_round,
        )


def summarise(costs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The geometric mean of values with the standard errors of their logarithms, and the 95 %
    interval: by Student's law from how rounds differ and, if that is wider, from their errors.
    """
    logs = np.log([max(value, LEAST_COST) for value, _ in costs])
    errors = np.array([error for _, error in costs])
    count = len(logs)
    aside = 1.96 * float(np.sqrt(np.sum(errors**2))) / count
    if count > 1:
        spread = float(logs.std(ddof=1)) / math.sqrt(count)
        aside = max(aside, float(stdtrit(count - 1, 0.975)) * spread)
    middle = float(logs.mean())
    return math.exp(middle), math.exp(middle - aside), math.exp(middle + aside)
