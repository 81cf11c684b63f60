"""What limits the worth of measurements: an unsteady machine, a busy client, a GPU that throttled.

Each doubt is a record of its figures; ``tuner.report.wording`` has its sentence.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tuner.analysis.stalls import ForeignLoad, MachineStalls, stall_doubts
from tuner.goals.objective import Objective
from tuner.records.results import Evaluation


@dataclass(frozen=True)
class DoubtSettings:
    """From where on a difference is worth a sentence."""

    rounds_apart: float = 3.0
    """Standard errors between the outermost rounds: chance alone exceeds it in 3 of 1,000 pairs."""
    cached: float = 0.001
    """Share of requests answered from a cache; below it they are those of warm-ups."""
    baseline_apart: float = 1.5
    """Ratio of two measurements of the baseline: smaller ones are within what machines vary by."""
    steal: float = 0.05
    """Share of busy processor time that the hypervisor gave to others. The p99 rests on the worst
    1 % of requests; a few times that share of the time touches many of them."""


SETTINGS = DoubtSettings()


class Lack(StrEnum):
    """What is missing of a run, or of the measurement of one subject."""

    BASELINE = "baseline"
    """The model's own configuration was not measured."""
    CONFIRMATION = "confirmation"
    """Nothing was confirmed: what the search measured best is, in part, what was lucky."""
    OWN_CONFIRMATION = "own confirmation"
    """Others were confirmed, the subject was not."""
    EVALUATION = "evaluation"
    """The subject, one or more deployments, was to be measured and was not."""
    UPPER_END = "upper end"
    """No rate was found at which the subject violates the SLA: its capacity may be higher."""
    VERIFICATION = "verification"
    """The recommended rate was not verified, a lower one was."""
    CLIENT = "client"
    """The load generator fell behind before the subject did: its capacity may be higher."""


@dataclass(frozen=True)
class Lacking:
    """``subject`` is "" for the run as a whole."""

    lack: Lack
    subject: str = ""


@dataclass(frozen=True)
class UnsteadyRounds:
    """The rounds of one confirmation of ``subject`` lie further apart than their errors allow: from
    ``low`` to ``high`` requests/s, or of ``objective`` where that was minimised.
    """

    subject: str
    low: float
    high: float
    objective: Objective | None = None


@dataclass(frozen=True)
class ClientLimitedProbes:
    """So many probes broke the SLA only because the client sent late."""

    number: int


@dataclass(frozen=True)
class Refutation:
    """Confirmation put the search's best so much lower that another candidate was confirmed, too.
    Capacities in requests/s.
    """

    hoped: Evaluation
    searched_capacity: float
    confirmed_capacity: float | None
    other: Evaluation


@dataclass(frozen=True)
class Drift:
    """The baseline, measured more than once, changed by more than its intervals allow: from
    ``first`` to ``later`` requests/s, or of ``objective`` where that was minimised.
    """

    first: float
    later: float
    objective: Objective | None = None


@dataclass(frozen=True)
class CpuSteal:
    """``share`` (0..1) of the busy time of this machine's processors went to other guests."""

    share: float


@dataclass(frozen=True)
class GpuThrottled:
    """In ``probes`` of ``read`` ones the GPU lowered its clock."""

    probes: int
    read: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class GpuShared:
    """In ``probes`` of ``read`` ones other processes were on the server's GPU."""

    probes: int
    read: int
    others: tuple[str, ...]


@dataclass(frozen=True)
class CachedAnswers:
    """``share`` (0..1) of all requests were answered from Triton's response cache."""

    share: float


@dataclass(frozen=True)
class BaselineDiffers:
    """The comparison's own search measured the baseline at ``searched`` requests/s, the comparison
    itself at ``compared``.
    """

    searched: float
    compared: float


Doubt = (
    Lacking
    | UnsteadyRounds
    | ClientLimitedProbes
    | Refutation
    | Drift
    | CpuSteal
    | GpuThrottled
    | GpuShared
    | MachineStalls
    | ForeignLoad
    | CachedAnswers
    | BaselineDiffers
)


def doubts_on(subject: str, evaluation: Evaluation) -> Iterator[Doubt]:
    """What is doubtful about one measurement, which is called ``subject``."""
    is_open = evaluation.capacity is not None and evaluation.high is None
    if evaluation.client_limited:
        yield Lacking(Lack.CLIENT, subject)
    elif is_open and evaluation.cost is None:
        yield Lacking(Lack.UPPER_END, subject)
    unsteady = unsteady_rounds(subject, evaluation)
    if unsteady is not None:
        yield unsteady


def doubts_on_machine(evaluations: list[Evaluation]) -> Iterator[Doubt]:
    """What the machine did meanwhile, whatever was measured on it."""
    steal = cpu_steal(evaluations)
    if steal is not None:
        yield steal
    yield from stall_doubts(evaluations)
    cached = cached_answers(evaluations)
    if cached is not None:
        yield cached
    readings = [p.gpu for e in evaluations for p in e.probes if p.gpu is not None]
    slowed = [gpu.throttled for gpu in readings if gpu.throttled]
    shared = [gpu.others for gpu in readings if gpu.others]
    if slowed:
        yield GpuThrottled(len(slowed), len(readings), _distinct(slowed))
    if shared:
        yield GpuShared(len(shared), len(readings), _distinct(shared))


def _distinct(groups: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for group in groups for each in group))


def unsteady_rounds(subject: str, evaluation: Evaluation) -> UnsteadyRounds | None:
    """Where the rounds of one confirmation differ by more than their errors allow."""
    rounds = evaluation.cost.by_round if evaluation.cost else evaluation.by_round
    if len(rounds) < 2:
        return None
    (low, low_error), (high, high_error) = min(rounds), max(rounds)
    if math.log(high / low) <= SETTINGS.rounds_apart * math.hypot(low_error, high_error):
        return None
    return UnsteadyRounds(subject, low, high, _objective(evaluation))


def baseline_differs(searched: Evaluation, compared: Evaluation) -> Iterator[BaselineDiffers]:
    """Where a search and a comparison put the same baseline far apart, beyond both intervals."""
    (one, low, high), (other, lowest, highest) = _interval(searched), _interval(compared)
    if not one or not other or searched.cost is not None:
        return
    apart = max(one, other) / min(one, other) >= SETTINGS.baseline_apart
    if apart and (low > (highest or math.inf) or lowest > (high or math.inf)):
        yield BaselineDiffers(one, other)


def _objective(evaluation: Evaluation) -> Objective | None:
    cost = evaluation.cost
    return None if cost is None else Objective.parse(cost.objective, cost.rate)


def cpu_steal(evaluations: list[Evaluation]) -> CpuSteal | None:
    """Where the hypervisor took much of the processors' time, in the mean over all probes."""
    shares = [
        (probe.host.stolen, probe.seconds)
        for evaluation in evaluations
        for probe in evaluation.probes
        if probe.host is not None and probe.host.stolen is not None
    ]
    seconds = sum(lasted for _, lasted in shares)
    share = sum(part * lasted for part, lasted in shares) / seconds if seconds else 0.0
    return CpuSteal(share) if share >= SETTINGS.steal else None


def cached_answers(evaluations: list[Evaluation]) -> CachedAnswers | None:
    """Where requests were answered without executing the model, over all probes."""
    known = [
        (probe.cached, probe.n)
        for evaluation in evaluations
        for probe in evaluation.probes
        if probe.cached is not None
    ]
    requests = sum(n for _, n in known)
    share = sum(part * n for part, n in known) / requests if requests else 0.0
    return CachedAnswers(share) if share >= SETTINGS.cached else None


def drift(evaluations: list[Evaluation]) -> Drift | None:
    """Where the baseline's later intervals do not meet its first one."""
    measured = [e for e in evaluations if e.baseline and e.merit and e.measured_by is None]
    intervals = [(e, _interval(e)) for e in measured]
    known = [(e, value, low, high) for e, (value, low, high) in intervals if low and high]
    for later, value, low, high in known[1:]:
        _, first, lowest, highest = known[0]
        if low > highest or high < lowest:
            return Drift(first, value, _objective(later))
    return None


def _interval(evaluation: Evaluation) -> tuple[float, float, float]:
    """What counts of it, and its 95 % interval; 0 for an end that is not known."""
    cost = evaluation.cost
    if cost is not None:
        return cost.value, cost.low or 0.0, cost.high or 0.0
    return evaluation.capacity or 0.0, evaluation.low or 0.0, evaluation.high or 0.0


def refutation(evaluations: list[Evaluation]) -> Refutation | None:
    """Where another candidate was confirmed because the finalists did much worse than hoped."""
    confirmed = [e for e in evaluations if e.phase == "confirm"]
    finalists = {e.candidate for e in confirmed if e.look == 0}
    others = [e for e in confirmed if e.look and e.candidate not in finalists and e.cost is None]
    first = next((e for e in confirmed if not e.look and not e.baseline), None)
    if not others or first is None:
        return None
    searched = [e for e in evaluations if e.phase == "search" and e.candidate == first.candidate]
    hoped = searched[0].capacity if searched else None
    return None if hoped is None else Refutation(first, hoped, first.capacity, others[0])
