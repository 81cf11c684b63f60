"""An evaluation in the making: of one server, or of one after the other."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from tuner.capacity import Capacity, Finding, fit_findings
from tuner.errors import CandidateError, ConstraintBroken
from tuner.results import Evaluation, ProbeRecord, State
from tuner.servers.causes import cause_of
from tuner.space import Candidate

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
    by_round: list[tuple[float, float]] = field(default_factory=list)
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

    def note_round(self, before: int, capacity: Capacity) -> None:
        """Keep what all findings say, and what those from ``before`` on say alone."""
        self.capacity = capacity
        findings = self.findings[before:]
        alone = fit_findings(findings, capacity.rate or findings[0].rate)
        self.by_round.append((alone.rate, alone.error))

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
            by_round=tuple(self.by_round) if self.phase == "confirm" else (),
            margin=found.margin,
            client_limited=found.client_limited,
            started=self.started.isoformat(timespec="seconds"),
            seconds=self.seconds,
            launch_seconds=self.launch_seconds,
            relaunched=self.relaunched,
            probes=tuple(self.probes),
        )
