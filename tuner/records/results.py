"""The records of a run: measurements and results.

Records are immutable; ``format`` is raised when their meaning changes.
"""

import math
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tuner.model.parameter import ValueField
from tuner.model.space import Candidate

FORMAT = 3
LEAST_COST = 1e-12


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class ServerTimes(Record):
    """Differences of Triton's statistics over one probe.

    Seconds are means per request; ``batches`` counts executions by batch size, ``batch_seconds``
    are their mean seconds (input, infer and output together).
    """

    requests: int
    executions: int
    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float
    batches: dict[int, int] = Field(default_factory=dict)
    batch_seconds: dict[int, float] = Field(default_factory=dict)

    @property
    def compute(self) -> float:
        """Mean seconds of the execution that a request was in."""
        return self.compute_input + self.compute_infer + self.compute_output

    @property
    def mean_batch(self) -> float | None:
        """Mean items per execution; None if the server does not tell the batches' sizes."""
        executions = sum(self.batches.values())
        items = sum(size * number for size, number in self.batches.items())
        return items / executions if executions else None


class StepReading(Record):
    """A composing model of a pipeline over one probe: differences of its own statistics, None if it
    counted nothing. ``instances`` are how many it has in all.
    """

    model: str
    instances: int
    server: ServerTimes | None = None


class GpuReading(Record):
    """The GPUs that the server uses, over one probe; None if a value is unknown.

    Means over time and GPUs: utilization 0..1, power in watts, clock (of the SMs) in MHz.
    ``memory`` is the peak in bytes, a mean over the GPUs; ``temperature`` is that of the hottest in
    °C. ``throttled`` lists why clocks were lowered at any time, ``others`` the processes that used
    the GPUs before the server. ``devices`` is the number of GPUs; None means that the source was
    Triton's own metrics, which have neither peaks nor the fields after ``power``.
    """

    utilisation: float | None
    memory: int | None
    power: float | None
    devices: int | None = None
    clock: float | None = None
    temperature: float | None = None
    throttled: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class HostReading(Record):
    """The use of the machine during a probe; None if the server's processes cannot be seen.

    ``cpu`` is the mean number of cores that the server used, ``memory`` its peak in bytes,
    ``client_cores`` the mean number of cores that the load processes used. ``stolen`` is the CPU
    steal: the share of the busy time that the hypervisor gave to other machines.
    """

    cpu: float | None
    memory: int | None
    client_cores: float | None
    stolen: float | None = None


class Stages(Record):
    """What an HTTP service counted over one probe: ``seconds`` are means per request, by stage (see
    ``tuner.records.comparison.STAGES``).
    """

    requests: int
    seconds: dict[str, float]


class BoundCount(Record):
    """``late`` of a probe's requests broke one bound of the Sla, which allows a share ``budget``.

    They are worth n / ``effect`` independent requests.
    """

    bound: str
    budget: float
    late: int
    effect: float


class Undisturbed(Record):
    """A probe without the requests that the machine's own stalls may have delayed, a share
    ``left_out`` of all: ``late`` of the ``n`` others broke the bound that decided. None: too few
    are left to decide. If the stalls ``decide``, these counts describe the server, not those of all
    requests.
    """

    n: int
    late: int
    outcome: Literal["met", "violated", "inconclusive"] | None
    left_out: float
    bound_ratio: float | None
    decides: bool = False


RecordedStall = tuple[float, float, int | Literal["foreign"]]
"""Start, in seconds from a probe's, length in seconds, and the core that ran nothing; ``foreign``:
another process had at least half a core."""

Interval = tuple[float, float | None]
"""The 95 % interval; the upper end is None if the data do not bound it."""


Purpose = Literal["unloaded", "capacity", "proof", "measure"]
"""The purpose of a probe; ``proof`` verifies the recommended rate."""


def _bound_ratio_of_margin(fields: Any) -> Any:
    """Before 0.2, ``bound_ratio`` was called ``margin``."""
    if not isinstance(fields, dict) or "margin" not in fields:
        return fields
    return {"bound_ratio" if name == "margin" else name: fields[name] for name in fields}


class ProbeRecord(Record):
    """One measurement of one candidate at one rate, or at one concurrency.

    ``rate`` (requests/s) is the planned one, of a mix that of all models that are not held; of
    several models ``latency`` also has ``detector p99`` and the like. Latencies are seconds from
    the intended send, None if there is no data and inf where failed requests reach that percentile.
    ``violations`` of ``n`` requests were late or failed, for the bound that decided; ``bounds`` has
    all of them.
    ``client_limited`` marks a probe that violated a bound only because the client sent late: it
    says nothing about the server. ``round`` counts those of a confirmation from 0. ``load`` is
    "closed" or the text of an Arrivals; requests held ``items`` in the mean. ``mean`` is the mean
    latency of the good replies, ``client_wait`` the part of it before their requests were sent.
    ``growth`` is by how many seconds the latency grew for each second, towards the end. ``outcome``
    counts all requests, ``undisturbed`` excludes the machine's ``stalls``; None if there were none.
    ``cached`` is the share of requests that were answered from Triton's response cache, None if the
    model has none. ``steps`` are the composing models of an ensemble.
    """

    purpose: Purpose
    load: str
    rate: float | None
    concurrency: int | None
    seed: int
    seconds: float
    n: int
    errors: int
    violations: int
    latency: dict[str, float | None]
    latency_interval: dict[str, Interval] = Field(default_factory=dict)
    mean: float | None = None
    client_wait: float | None = None
    throughput: float | None
    throughput_interval: Interval | None = None
    bounds: tuple[BoundCount, ...] = ()
    round: int = 0
    outcome: Literal["met", "violated", "inconclusive"]
    remedy: str | None
    confidence: float
    bound_ratio: float | None
    growth: float | None = None
    lateness_p99: float | None
    client_limited: bool
    client_cpu: float | None = None
    server: ServerTimes | None = None
    stages: Stages | None = None
    gpu: GpuReading | None = None
    host: HostReading | None = None
    samples: str | None = None
    items: float = 1.0
    stalls: tuple[RecordedStall, ...] = ()
    undisturbed: Undisturbed | None = None
    cached: float | None = None
    steps: tuple[StepReading, ...] = ()

    @property
    def telling_ratio(self) -> float | None:
        """The ``bound_ratio`` of the server: without the stalls if these decide."""
        if self.undisturbed is not None and self.undisturbed.decides:
            return self.undisturbed.bound_ratio
        return self.bound_ratio

    _read_margin = model_validator(mode="before")(_bound_ratio_of_margin)


class Window(Record):
    """A short closed loop on one server at a fixed concurrency, to which service times are fitted.
    ``settings`` are the candidate's, on ``instances`` in all, which share ``devices``;
    ``throughput`` is in requests/s, which held ``items`` in the mean; ``mean`` and ``latency`` are
    seconds from the send, ``memory`` and ``gpu_memory`` the peaks in bytes, the latter of one GPU.
    Of several models that are tuned together, ``model`` is the one that was asked; or several were,
    and each has a window with the same number ``together``, whose times are those of the server.
    """

    settings: dict[str, ValueField]
    instances: int
    devices: int = 1
    concurrency: int
    items: float
    throughput: float
    mean: float
    latency: dict[str, float | None]
    server: ServerTimes
    memory: int | None = None
    gpu_memory: int | None = None
    model: str = ""
    together: int | None = None

    @property
    def candidate(self) -> Candidate:
        return Candidate.of(dict(self.settings))

    @property
    def instances_of_a_device(self) -> float:
        return self.instances / self.devices

    @property
    def runs_alone(self) -> bool:
        """Whether no two executions shared a device."""
        return self.instances <= self.devices or self.concurrency == 1


Cause = Literal["out of memory", "refused", "timed out", "died"]
"""The kind of failure: out of memory, on the GPU or the machine; the server refused the model or
its configuration; it took too long to start or load; it ended or stopped answering.
"""


class Insight(Record):
    """What the simulation says of the best configuration of several models, in requests/s.

    ``one_more`` is, by model, the ratio of capacities with one more instance of it; ``alone`` what
    each of a mix could serve by itself; ``frontier`` rates of two models that can be served
    together.
    """

    one_more: dict[str, float] = Field(default_factory=dict)
    alone: dict[str, float] = Field(default_factory=dict)
    frontier: tuple[dict[str, float], ...] = ()


class Outcome(Record):
    """How a search ended: its ``reason``; how many ``candidates`` the space has (None: a continuum,
    or too many), and how many were ``simulated`` and ``measured``. ``missed`` is the estimated
    probability that an unmeasured candidate is better by more than the share ``by``; None if
    nothing was simulated. ``alike`` names the candidates that behave like the best one in the
    simulation, and ``near`` counts the others that are expected within the share ``by`` of it.
    Of several models there is an ``insight``.
    """

    reason: str
    candidates: int | None
    simulated: int
    measured: int
    by: float
    missed: float | None
    alike: tuple[str, ...] = ()
    near: int = 0
    insight: Insight | None = None


class State(StrEnum):
    OK = "ok"
    """The SLA is met at some rate: there is a capacity."""
    INFEASIBLE = "infeasible"
    """The SLA is not met at any rate that was tried, down to one request at a time."""
    BEATEN = "beaten"
    """Eliminated once it could not win any more; its capacity lies from ``low`` to ``high``."""
    FAILED = "failed"
    """The candidate could not be measured; ``failure`` says why, ``cause`` what kind it is."""


class Cost(Record):
    """A candidate's cost at ``rate`` requests/s, in a search that minimizes ``objective``:
    ``value``, the smaller the better, and its 95 % interval. ``by_round`` has the value and its
    standard error (of the logarithm) of each round of a confirmation.
    """

    objective: str
    rate: float
    value: float
    low: float | None = None
    high: float | None = None
    by_round: tuple[tuple[float, float], ...] = ()


class Evaluation(Record):
    """The evaluation of one candidate: all measurements of it.

    ``deployment`` is the name of what was measured in a comparison, None in a search.
    ``measured_by`` is the run that measured it where several share a study, None for this one.
    ``look`` counts from 0 if a candidate was measured again, or confirmed, more than once.
    ``capacity`` is the highest rate (requests/s) at which the Sla is met, estimated from all
    probes; ``low`` and ``high`` are the 95 % interval. ``recommended`` is the rate to operate
    at, a little below. ``steepness`` is that of the share of late requests there (d ln odds / d
    ln rate). ``by_round`` has the capacity and its standard error (of the logarithm) of each
    server of a confirmation: of each round, or of all where it was kept. ``bound_ratio`` is the
    largest ratio of percentile to bound of the probe that tells the capacity or, where there is
    none, came nearest to the Sla. ``relaunched`` says that its server was launched for it, not
    changed in place. In a search that minimizes something at a given rate, ``capacity`` is that
    rate if the SLA is met there; ``cost`` is the result.
    """

    format: int = FORMAT
    trial: int
    phase: Literal["search", "again", "confirm", "measure"]
    look: int = 0
    baseline: bool
    deployment: str | None = None
    measured_by: str | None = None
    settings: dict[str, ValueField]
    config: str
    state: State
    failure: str | None = None
    cause: Cause | None = None
    capacity: float | None = None
    low: float | None = None
    high: float | None = None
    recommended: float | None = None
    steepness: float | None = None
    by_round: tuple[tuple[float, float], ...] = ()
    bound_ratio: float | None = None
    cost: Cost | None = None
    client_limited: bool = False
    started: str
    seconds: float
    launch_seconds: float | None = None
    relaunched: bool = True
    probes: tuple[ProbeRecord, ...] = ()

    _read_margin = model_validator(mode="before")(_bound_ratio_of_margin)

    @model_validator(mode="before")
    @classmethod
    def _deployment_of_settings(cls, fields: Any) -> Any:
        """Before 0.2, a deployment was recorded as the only setting."""
        settings = fields.get("settings") if isinstance(fields, dict) else None
        if not isinstance(settings, dict) or list(settings) != ["deployment"]:
            return fields
        return {**fields, "settings": {}, "deployment": settings["deployment"]}

    @property
    def candidate(self) -> Candidate:
        return Candidate.of(dict(self.settings))

    @property
    def estimate(self) -> float | None:
        """The capacity or, of an eliminated candidate, the middle of its interval."""
        if self.state is State.BEATEN and self.low and self.high:
            return math.sqrt(self.low * self.high)
        return self.capacity

    @property
    def merit(self) -> float | None:
        """What the search maximizes: the capacity or, where a cost is minimized, 1 / cost; None if
        the SLA is not met. Ratios of merits are gains.
        """
        if self.capacity is None or self.cost is None:
            return self.capacity
        return 1 / max(self.cost.value, LEAST_COST)

    @property
    def label(self) -> str:
        return self.deployment or str(self.candidate)

    def proof(self) -> ProbeRecord | None:
        """The probe with the highest verified rate: shown to meet the SLA, by itself or together
        with those before it.
        """
        met = [p for p in self.probes if p.outcome == "met" and p.purpose in ("proof", "measure")]
        return max(met, key=lambda p: p.rate or p.throughput or 0.0, default=None)

    @property
    def items(self) -> float:
        """Mean items per request of the load."""
        return self.probes[0].items if self.probes else 1.0

    def at_capacity(self) -> ProbeRecord | None:
        """The probe that shows operation near capacity: the verification or, if there is none, the
        one nearest to capacity whose samples meet the SLA.
        """
        if self.capacity is None:
            return None
        kept = [
            p
            for p in self.probes
            if p.purpose != "unloaded"
            and p.bound_ratio is not None
            and p.bound_ratio <= 1
            and p.outcome != "violated"
        ]
        at = self.capacity
        nearest = min(kept, key=lambda p: abs((p.rate or p.throughput or 0.0) - at), default=None)
        return self.proof() or nearest

    def verdict(self) -> ProbeRecord | None:
        """The last verification of a rate, whatever its verdict."""
        asked = [p for p in self.probes if p.purpose in ("proof", "measure")]
        return self.proof() or (asked[-1] if asked else None)

    def unloaded(self) -> ProbeRecord | None:
        """One request at a time."""
        return next((p for p in self.probes if p.purpose == "unloaded"), None)


def best(evaluations: list[Evaluation]) -> Evaluation | None:
    """The winner: the highest capacity or the least cost, as confirmed where anything was
    confirmed, the last time where it was more than once; None if none. Of equal costs, the one with
    the largest margin below the SLA counts. If every confirmation failed there is no winner.
    """
    again = any(e.phase == "confirm" for e in evaluations)
    confirmed = [e for e in evaluations if e.phase == "confirm" and e.capacity is not None]
    last = max((e.look for e in confirmed), default=0)
    searched = [e for e in evaluations if e.phase == "search" and e.capacity is not None]
    found = [e for e in confirmed if e.look == last] if again else searched
    return max(found, key=lambda e: (e.merit or 0.0, -(e.bound_ratio or 0.0)), default=None)


def baseline(evaluations: list[Evaluation]) -> Evaluation | None:
    """The baseline; the last confirmation if it was confirmed."""
    own = [e for e in evaluations if e.baseline]
    confirmed = [e for e in own if e.phase == "confirm"]
    return max(confirmed, key=lambda e: e.look) if confirmed else next(iter(own), None)


def closest(evaluations: list[Evaluation]) -> Evaluation | None:
    """If nothing meets the Sla, the candidate that came nearest; None if none was measured."""
    measured = [e for e in evaluations if e.bound_ratio is not None]
    return min(measured, key=lambda e: e.bound_ratio or 0.0, default=None)
