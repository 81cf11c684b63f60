"""What it takes to serve a given rate: how many replicas, with how many cores and how much memory.

A Poisson stream that is split at random over replicas stays Poisson in each of them, so each may
be held against the rate that one alone was measured to keep, and rates add up. A balancer that
knows which replica is idle does better, never worse.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import groupby

import numpy as np

from tuner.analysis.bands import may_be_recommended
from tuner.analysis.contenders import Contender, contenders
from tuner.analysis.costs import usage_at
from tuner.goals.sla import Sla
from tuner.records.comparison import Comparison
from tuner.records.results import Evaluation, ProbeRecord, Record

DEFAULT_ROOM = 0.95
"""The share of a simulated capacity to recommend if no measurement tells it: the margin that
the recommended rate keeps from a measured one if latency rises gently."""
MOST_TIMES = 2
"""Times the replicas that the recommended rate asks for. Where more would be needed to bring a
percentile below its bound, the probes contradict the recommended rate."""


class Advantage(StrEnum):
    """Why a plan stands where it stands among the others."""

    ONLY = "only"
    """No other deployment meets the SLA."""
    FEWEST = "fewest"
    """Every other takes more replicas."""
    FEWEST_CORES_UNKNOWN = "fewest, cores unknown"
    """Others take as many replicas, and cores were not read of all of them."""
    FEWEST_AND_LEAST_CORES = "fewest, least cores"
    FIRST_FOR_TEXT = "first for text"
    """The first one that clients may send text to."""


class ReplicaPlan(Record):
    """``replicas`` of a deployment, each of which gets ``rate`` requests/s and can serve
    ``safe_rate``. ``p99`` is seconds at that rate, as probes on both sides of it tell; ``cores``
    and ``memory`` (bytes) are those of all replicas together; each None where not known.
    ``simulated`` says that ``safe_rate`` was, since the load generator could not find it.
    """

    deployment: str
    title: str
    sends: str
    replicas: int
    rate: float
    safe_rate: float
    simulated: bool
    p99: float | None
    cores: float | None
    memory: float | None
    config: str | None
    advantage: Advantage | None = None


def plan_replicas(
    comparison: Comparison,
    evaluations: list[Evaluation],
    rate: float,
    simulated: Mapping[str, float] | None = None,
    sla: Sla | None = None,
) -> list[ReplicaPlan]:
    """For ``rate`` requests/s: fewest replicas first, of equals those with the least cores. Each
    deployment gets as many as it takes for its percentiles, as far as probes tell them, to meet
    ``sla``; without such a number it is left out.

    ``simulated`` has capacities (requests/s) by the name of the deployment, for those at which the
    load generator gave out; by default those that the comparison holds.
    """
    known = comparison.simulated if simulated is None else simulated
    measured = contenders(comparison, evaluations)
    candidates = [each for each in measured if each.safe_rate and may_be_recommended(each)]
    found = (_plan(each, rate, known.get(each.name), sla) for each in candidates)
    plans = [plan for plan in found if plan is not None]
    plans.sort(key=lambda p: (p.replicas, math.inf if p.cores is None else p.cores))
    return [
        plan.model_copy(update={"advantage": _advantage(place, plans)})
        for place, plan in enumerate(plans)
    ]


def _plan(
    contender: Contender, rate: float, simulated: float | None, sla: Sla | None
) -> ReplicaPlan | None:
    safe, is_simulated = _safe_rate(contender, simulated)
    fewest = replicas_for(rate, safe)
    number = _replicas_within(contender, rate, fewest, sla)
    if number is None:
        return None
    share = rate / number
    if number > fewest:
        safe = share
    usage = usage_at(contender, share)
    return ReplicaPlan(
        deployment=contender.name,
        title=contender.title,
        sends=contender.deployed.sends,
        replicas=number,
        rate=share,
        safe_rate=safe,
        simulated=is_simulated,
        p99=p99_at(contender.evaluation.probes, share),
        cores=None if usage.cores is None else number * usage.cores,
        memory=None if usage.memory is None else number * usage.memory,
        config=contender.deployed.config,
    )


def _safe_rate(contender: Contender, simulated: float | None) -> tuple[float, bool]:
    """The measured one; where the client gave out below it, the simulated capacity with the same
    room as the measured one has. The flag says which.
    """
    evaluation, measured = contender.evaluation, contender.safe_rate or 0.0
    if not evaluation.client_limited or simulated is None:
        return measured, False
    room = DEFAULT_ROOM
    if evaluation.recommended and evaluation.capacity:
        room = evaluation.recommended / evaluation.capacity
    return (simulated * room, True) if simulated * room > measured else (measured, False)


def _replicas_within(contender: Contender, rate: float, fewest: int, sla: Sla | None) -> int | None:
    """From ``fewest`` on, in steps of about 1 %, the first number with which each replica's
    percentiles meet the SLA, as far as its probes tell them; None if even ``MOST_TIMES`` as many do
    not.
    """
    bounds = [] if sla is None else [bound for bound in sla.bounds if not bound.on_errors]
    for number in range(fewest, MOST_TIMES * fewest + 1, math.ceil(fewest / 100)):
        seen = ((latency_at(contender.evaluation.probes, rate / number, b.name), b) for b in bounds)
        if all(latency is None or latency <= bound.limit for latency, bound in seen):
            return number
    return None


def replicas_for(rate: float, safe_rate: float) -> int:
    """The fewest that keep each at or below its safe rate."""
    number = max(1, math.ceil(rate / safe_rate))
    if number > 1 and (number - 1) * safe_rate >= rate:  # the quotient was rounded up
        return number - 1
    return number if number * safe_rate >= rate else number + 1


def p99_at(probes: Sequence[ProbeRecord], rate: float) -> float | None:
    return latency_at(probes, rate, "p99")


def latency_at(probes: Sequence[ProbeRecord], rate: float, name: str) -> float | None:
    """Seconds of the percentile ``name``, from the medians of the probes at the rates below and
    above, their logarithms interpolated linearly; None where ``rate`` lies outside of what was
    probed.
    """
    loaded = sorted(
        (p.rate, latency)
        for p in probes
        if p.rate is not None and not p.client_limited and not _is_disturbed(p)
        if (latency := p.latency.get(name)) is not None and 0 < latency < math.inf
    )
    if not loaded or not loaded[0][0] <= rate <= loaded[-1][0]:
        return None
    rates, logs = [], []
    for at, group in groupby(loaded, key=lambda point: point[0]):
        rates.append(at)
        logs.append(float(np.median([math.log(latency) for _, latency in group])))
    return math.exp(float(np.interp(rate, rates, logs)))


def _is_disturbed(probe: ProbeRecord) -> bool:
    """Whether stalls of the machine made its percentiles what they are."""
    return probe.undisturbed is not None and probe.undisturbed.decides


def _advantage(place: int, plans: Sequence[ReplicaPlan]) -> Advantage | None:
    plan, behind = plans[place], plans[place + 1 :]
    if place > 0:
        is_first = plan.sends == "text" and all(p.sends != "text" for p in plans[:place])
        return Advantage.FIRST_FOR_TEXT if is_first else None
    if not behind:
        return Advantage.ONLY
    if behind[0].replicas > plan.replicas:
        return Advantage.FEWEST
    if plan.cores is None or behind[0].cores is None:
        return Advantage.FEWEST_CORES_UNKNOWN
    return Advantage.FEWEST_AND_LEAST_CORES
