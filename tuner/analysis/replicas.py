"""What it takes to serve a given rate: how many replicas, with how many cores and how much memory.

A Poisson stream that is split at random over replicas stays Poisson in each of them, so each may
be held against the rate that one alone was measured to keep, and rates add up. A balancer that
knows which replica is idle does better, never worse.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from tuner.analysis.bands import counts
from tuner.analysis.costs import usage_at
from tuner.analysis.records import Comparison, Contender, contenders
from tuner.records.results import Evaluation, ProbeRecord, Record
from tuner.units import format_rate

_ROOM = 0.95
"""The share of a capacity to be promised where no measurement tells it."""


class Plan(Record):
    """``replicas`` of a deployment, each of which gets ``rate`` requests/s and may be promised
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
    reason: str


def plan(
    comparison: Comparison,
    evaluations: list[Evaluation],
    rate: float,
    simulated: Mapping[str, float] | None = None,
) -> list[Plan]:
    """For ``rate`` requests/s: fewest replicas first, of equals those with the least cores.

    ``simulated`` has capacities (requests/s) by the name of the deployment, for those at which the
    load generator gave out; by default those that the comparison holds.
    """
    known = comparison.simulated if simulated is None else simulated
    all_of_them = contenders(comparison, evaluations)
    found = [
        _plan(each, rate, known.get(each.name))
        for each in all_of_them
        if each.safe_rate and counts(each, all_of_them)
    ]
    found.sort(key=lambda p: (p.replicas, math.inf if p.cores is None else p.cores))
    return [p.model_copy(update={"reason": _reason(p, i, found)}) for i, p in enumerate(found)]


def _plan(each: Contender, rate: float, simulated: float | None) -> Plan:
    safe, is_simulated = _safe_rate(each, simulated)
    number = replicas_for(rate, safe)
    share = rate / number
    usage = usage_at(each, share)
    return Plan(
        deployment=each.name,
        title=each.deployed.title,
        sends=each.deployed.sends,
        replicas=number,
        rate=share,
        safe_rate=safe,
        simulated=is_simulated,
        p99=p99_at(each.evaluation.probes, share),
        cores=None if usage.cores is None else number * usage.cores,
        memory=None if usage.memory is None else number * usage.memory,
        config=each.deployed.config,
        reason="",
    )


def _safe_rate(each: Contender, simulated: float | None) -> tuple[float, bool]:
    """The measured one; where the client gave out below it, the simulated capacity with the same
    room as the measured one has.
    """
    evaluation, measured = each.evaluation, each.safe_rate or 0.0
    if not evaluation.client_limited or simulated is None:
        return measured, False
    room = _ROOM
    if evaluation.recommended and evaluation.capacity:
        room = evaluation.recommended / evaluation.capacity
    return (simulated * room, True) if simulated * room > measured else (measured, False)


def replicas_for(rate: float, safe_rate: float) -> int:
    """The fewest that keep each at or below its safe rate."""
    number = max(1, math.ceil(rate / safe_rate))
    if number > 1 and (number - 1) * safe_rate >= rate:
        return number - 1
    return number if number * safe_rate >= rate else number + 1


def p99_at(probes: Sequence[ProbeRecord], rate: float) -> float | None:
    """Seconds, from the medians of the probes at the rates below and above, their logarithms
    interpolated linearly; None where ``rate`` lies outside of what was probed.
    """
    loaded = sorted(
        (p.rate, p.latency["p99"])
        for p in probes
        if p.rate is not None and not p.client_limited and _is_known(p.latency.get("p99"))
    )
    if not loaded or not loaded[0][0] <= rate <= loaded[-1][0]:
        return None
    rates, logs = [], []
    for at, group in groupby(loaded, key=lambda point: point[0]):
        rates.append(at)
        logs.append(float(np.median([math.log(p99 or 0.0) for _, p99 in group])))
    return math.exp(float(np.interp(rate, rates, logs)))


def _is_known(latency: float | None) -> bool:
    return latency is not None and 0 < latency < math.inf


def _reason(own: Plan, place: int, found: Sequence[Plan]) -> str:
    serves = f"one serves {format_rate(own.safe_rate)}"
    if own.simulated:
        serves += " as simulated, more than the load generator could send"
    if place == 0:
        return f"{_why_first(own, found[1:])}: {serves}"
    if own.sends == "text" and all(p.sends != "text" for p in found[:place]):
        return f"the first for clients that send text: {serves}"
    return serves


def _why_first(own: Plan, rest: Sequence[Plan]) -> str:
    if not rest:
        return "the only one that keeps the promise"
    if rest[0].replicas > own.replicas:
        return "the fewest replicas"
    if own.cores is None or rest[0].cores is None:
        return "no other takes fewer replicas, and cores were not read"
    return "no other takes fewer replicas, and it takes the least cores"
