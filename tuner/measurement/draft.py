"""An evaluation in the making, while its servers come and go."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from tuner.deadline import OUT_OF_TIME, Deadline
from tuner.deployments.subjects import Subject
from tuner.errors import CandidateError, ConstraintBroken, OutOfTime
from tuner.goals.objective import Objective
from tuner.measurement.capacity import Capacity
from tuner.measurement.fitting import ProbeResult, error_of_one_server, fit_by_server
from tuner.records.results import LEAST_COST, Cost, Evaluation, ProbeRecord, State
from tuner.servers.causes import cause_of

Phase = Literal["search", "again", "confirm", "measure", "calibrate"]
PHASES: tuple[Phase, ...] = ("search", "confirm", "measure", "again", "calibrate")
"""Their order is part of what seeds are made of."""
_BUSY = 0.85
"""Of the cores in use, from which another load process would only take time from the server."""


@dataclass
class Draft:
    """An evaluation in the making.

    ``results`` are those of its probes, in order; ``costs`` are values and the standard errors of
    their logarithms, one for each round in which the client kept up.
    """

    subject: Subject
    phase: Phase
    config: str
    seeds: np.random.Generator
    look: int = 0
    objective: Objective | None = None
    launches: int = 0
    launch_seconds: float | None = None
    relaunched: bool = True
    capacity: Capacity = field(default_factory=lambda: Capacity(None))
    results: list[ProbeResult] = field(default_factory=list)
    costs: list[tuple[float, float]] = field(default_factory=list)
    probes: list[ProbeRecord] = field(default_factory=list)
    failure: str | None = None
    infeasible: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    deadline: Deadline = field(default_factory=Deadline)

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step of the work, unless an earlier one failed. A failure of the subject is
        recorded; all other errors end the run. At the time limit, results so far are kept.
        """
        began = time.monotonic()
        if self.failure is None:
            try:
                step()
            except CandidateError as error:
                if not self.deadline.left:
                    self.failure = None if self.results else _out_of_time(error)
                    return
                self.failure, self.infeasible = str(error), isinstance(error, ConstraintBroken)
                self.capacity = Capacity(None)
            finally:
                self.seconds += time.monotonic() - began

    def name(self) -> str:
        """Of its next server's log and samples."""
        phase = f"{self.phase}{self.look or ''}{'-baseline' if self.subject.baseline else ''}"
        launch = f"-{self.launches + 1}" if self.launches else ""
        return f"{self.subject.trial:04d}-{phase}{launch}"

    @property
    def merit(self) -> float:
        """As ``Evaluation.merit``; 0.0 if the SLA is not met."""
        if self.capacity.rate is None:
            return 0.0
        cost = self._cost()
        return self.capacity.rate if cost is None else 1 / max(cost.value, LEAST_COST)

    @property
    def rank(self) -> tuple[float, float]:
        """As that of ``best``: the merit, and of equal ones the room below the SLA."""
        return self.merit, -(self.capacity.bound_ratio or 0.0)

    @property
    def rate_to_verify(self) -> float | None:
        """The recommended rate, or the one that was given; None if none is recommended."""
        if self.subject.reference:
            return None
        return self.capacity.recommended if self.objective is None else self.capacity.rate

    @property
    def is_telling(self) -> bool:
        """Whether anything is known of the subject: a capacity, or why there is none."""
        return self.capacity.rate is not None or self.failure is not None

    def evaluation(self) -> Evaluation:
        """What is known so far, as a record."""
        assert self.phase != "calibrate"
        capacity, failure = self.capacity, self._why_failed()
        return Evaluation(
            trial=self.subject.trial,
            phase=self.phase,
            look=self.look,
            baseline=self.subject.baseline,
            deployment=self.subject.deployment,
            settings=dict(self.subject.candidate.settings),
            config=self.config,
            state=self._state(failure),
            failure=failure,
            cause=None if failure is None or self.infeasible else cause_of(failure),
            capacity=capacity.rate,
            low=capacity.low,
            high=capacity.high,
            recommended=capacity.recommended,
            steepness=capacity.steepness,
            by_round=self.by_round(),
            bound_ratio=capacity.bound_ratio,
            cost=self._cost(),
            client_limited=capacity.client_limited,
            started=self.started.isoformat(timespec="seconds"),
            seconds=self.seconds,
            launch_seconds=self.launch_seconds,
            relaunched=self.relaunched,
            probes=tuple(self.probes),
        )

    def _why_failed(self) -> str | None:
        if self.failure is None and self.capacity.rate is None and self.capacity.client_limited:
            busy = _busy_cores(self.probes)
            if busy is not None:
                return (
                    "the load generator could not keep up because the machine is busy "
                    f"({busy:.1f} of {_cores()} cores in use): free cores, or use --pin"
                )
            return (
                "the load generator could not keep up at any rate: raise --workers, or use --pin "
                "to reserve cores for it"
            )
        return self.failure

    def _state(self, failure: str | None) -> State:
        if failure is not None and not self.infeasible:
            return State.FAILED
        if self.capacity.rate is not None:
            return State.OK
        return State.BEATEN if self.capacity.beaten else State.INFEASIBLE

    def by_round(self) -> tuple[tuple[float, float], ...]:
        """The capacity of each server of a confirmation, and its error, as in the record."""
        if self.phase != "confirm" or self.capacity.rate is None or self.objective is not None:
            return ()
        fits = fit_by_server(self.results, self.capacity.rate)
        if len(fits) == 1:
            rate = min(fits[0].rate, self.capacity.rate)  # as stated: no more than was kept
            return ((rate, error_of_one_server(fits[0])),)
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
        whole = len(rounds) == len(self.results)  # only then each is paired with its own round
        by_round = rounds if self.phase == "confirm" and self.capacity.rate and whole else ()
        return Cost(
            objective=str(objective),
            rate=objective.rate,
            value=value,
            low=low,
            high=high,
            by_round=by_round,
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _busy_cores(probes: Sequence[ProbeRecord]) -> float | None:
    """Cores that server and load generator used while the client was late; None if some were free
    or nothing was read: then more load processes may help.
    """
    used = [
        host.cpu + host.client_cores
        for host in (probe.host for probe in probes if probe.client_limited)
        if host is not None and host.cpu is not None and host.client_cores is not None
    ]
    if not used or max(used) < _BUSY * _cores():
        return None
    return max(used)


def _out_of_time(error: CandidateError) -> str:
    """With the error at that time, if it was another one."""
    return OUT_OF_TIME if isinstance(error, OutOfTime) else f"{OUT_OF_TIME}: {error}"


def summarise(costs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The geometric mean of values with the standard errors of their logarithms, and the 95 %
    interval: by Student's law from how rounds differ and, if that is wider, from their errors.
    """
    logs = np.log([max(value, LEAST_COST) for value, _ in costs])
    errors = np.array([error for _, error in costs])
    count = len(logs)
    aside = 1.96 * float(np.sqrt(np.sum(errors**2))) / count
    if count > 1:
        from scipy.special import stdtrit  # slow to import, and few costs are summarised

        spread = float(logs.std(ddof=1)) / math.sqrt(count)
        aside = max(aside, float(stdtrit(count - 1, 0.975)) * spread)
    middle = float(logs.mean())
    return math.exp(middle), math.exp(middle - aside), math.exp(middle + aside)
