"""Whether samples meet an SLA: met, violated or inconclusive.

docs/explanation/statistics.md explains the tests and their settings.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from tuner.goals.sla import Bound, Sla
from tuner.stats.estimators import (
    design_effect,
    requests_needed,
    surely_above,
    surely_below,
)
from tuner.stats.evidence import enough, log_evidence_above, log_evidence_below
from tuner.stats.samples import Bools, Samples

_LONGER = "raise --probe-seconds or try a lower rate"


@dataclass(frozen=True)
class VerdictSettings:
    """Times in seconds. What is called worth counts in requests divided by their design effect."""

    bridged: int = 5  # late requests so many apart are one burst: a stall lets a few through
    shortest_stall: float = 5.0  # x limit: a queue near its capacity makes shorter ones by itself
    longest_stall: float = 1.0  # a page fault or snapshot is over by then
    shortest_outage: float = 2.0  # twice as long as any stall
    outage_share: float = 0.1  # of all requests: so many late ones are no accident
    worth_for_met: float = 250.0  # with fewer, a run has not shown all of its clusters
    doubt_of_met: float = 16.0  # at most by this a short run is taken to be worth less
    worth_for_violated: float = 100.0  # fewer: the binomial test has to agree with "violated"
    doubt_of_violated: float = 4.0  # as above
    farthest: float = 64.0  # x requests so far: a verdict that needs more is out of reach
    least_farthest: int = 10_000  # requests: seconds at any rate, so they are never out of reach
    step: float = 1.2  # x requests from one look ahead to the next: names the number to 20 %


_SETTINGS = VerdictSettings()


class SlaOutcome(StrEnum):
    MET = "met"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class LateCount:
    """``late`` of ``n`` requests broke a bound; they say as much as n / effect independent ones."""

    bound: Bound
    late: int
    n: int
    effect: float


@dataclass(frozen=True)
class Verdict:
    """The verdict of samples on one SLA.

    ``counts`` has one entry per bound, ``decided`` is the one that decided; ``telling`` are the
    counts that tell of the capacity: of one stall, as of one late request. ``remedy`` says how to
    settle an inconclusive one, and ``repeat`` whether the probe should be repeated as it was.
    """

    outcome: SlaOutcome
    decided: LateCount
    counts: tuple[LateCount, ...]
    telling: tuple[LateCount, ...]
    confidence: float
    remedy: str | None = None
    repeat: bool = False

    @property
    def met(self) -> bool:
        return self.outcome is SlaOutcome.MET


Judge = Callable[[Samples, Sla, float], Verdict]


def judge(samples: Samples, sla: Sla, confidence: float, final: bool = True) -> Verdict:
    """The verdict on all bounds together: met if all are, violated if one surely is.

    It may be evaluated at any time and any number of times: each of the two is wrong with a
    probability of at most 1 - ``confidence`` over all evaluations and bounds together: the evidence
    is a mixture of sequential likelihood ratios (``tuner.stats.evidence``) on counts divided by
    their design effect, since late requests come in clusters. One stall shorter than a second does
    not make a violation: unless the rest of the samples confirms it, the verdict is inconclusive,
    and the probe should be repeated.

    Unless ``final``, requests without a reply do not count as failed yet.
    """
    above = _shared(confidence, sla)
    verdicts = [_judge_bound(samples, bound, confidence, above, final) for bound in sla.bounds]
    return _combine(verdicts, confidence)


def _shared(confidence: float, sla: Sla) -> float:
    """The confidence at which each of the bounds has to be broken, so that all share one error."""
    return 1 - (1 - confidence) / len(sla.bounds)


@dataclass(frozen=True)
class _BoundVerdict:
    """Of one bound; where one stall decided, ``without_stall`` counts all of it as one request."""

    outcome: SlaOutcome
    count: LateCount
    remedy: str | None = None
    without_stall: LateCount | None = None


def judge_as_loadgen(samples: Samples, sla: Sla, confidence: float) -> Verdict:
    """The verdict by MLPerf LoadGen's early-stopping rule, on the counts as they are.

    It is for a run whose length was fixed before. Requests count as independent, which in a queue
    they are not: near capacity it says "met" too easily.
    """
    verdicts = []
    for bound in sla.bounds:
        late = bound.late(bound.of(samples))
        count = LateCount(bound, int(np.count_nonzero(late)), len(late), 1.0)
        needed = requests_needed(count.late, bound.budget, confidence)
        remedy = None
        if surely_below(count.late, count.n, bound.budget, confidence):
            outcome = SlaOutcome.MET
        elif surely_above(count.late, count.n, bound.budget, _shared(confidence, sla)):
            outcome = SlaOutcome.VIOLATED
        else:
            outcome = SlaOutcome.INCONCLUSIVE
            remedy = f"{count.n:,} requests do not decide, {needed:,} would; {_LONGER}"
        verdicts.append(_BoundVerdict(outcome, count, remedy))
    return _combine(verdicts, confidence)


def _combine(verdicts: list[_BoundVerdict], confidence: float) -> Verdict:
    order = (SlaOutcome.VIOLATED, SlaOutcome.INCONCLUSIVE, SlaOutcome.MET)

    def first(verdict: _BoundVerdict) -> tuple[int, float]:
        """The gravest outcome; of equals, the bound of which most is used up."""
        count = verdict.count
        return order.index(verdict.outcome), -count.late / (count.bound.budget * max(1, count.n))

    decided = min(verdicts, key=first)
    return Verdict(
        decided.outcome,
        decided.count,
        tuple(verdict.count for verdict in verdicts),
        tuple(verdict.without_stall or verdict.count for verdict in verdicts),
        confidence,
        decided.remedy,
        decided.without_stall is not None,
    )


def _judge_bound(
    samples: Samples, bound: Bound, confidence: float, above: float, final: bool
) -> _BoundVerdict:
    """Of one bound: ``confidence`` is that of "met", ``above`` that of "violated"."""
    samples = bound.of(samples)
    if bound.on_errors and not final:
        samples = samples.take(~np.isnan(samples.done))
    late = bound.late(samples)
    count = _count(samples, bound)
    n, violations = count.n, count.late
    if _evidence_below(count) >= enough(confidence):
        return _BoundVerdict(SlaOutcome.MET, count)
    if not surely_above(violations, n, bound.budget, above):
        return _BoundVerdict(SlaOutcome.INCONCLUSIVE, count, _remedy(count, confidence))
    start, end = _longest_burst(late)
    lasted = float(samples.intended[end - 1] - samples.intended[start])
    if lasted >= _SETTINGS.shortest_outage and violations >= _SETTINGS.outage_share * n:
        return _BoundVerdict(SlaOutcome.VIOLATED, count)
    shortest = _SETTINGS.shortest_stall * (bound.limit if math.isfinite(bound.limit) else 0.0)
    if shortest <= lasted <= _SETTINGS.longest_stall and end - start <= n / 2:
        rest = np.ones(n, dtype=bool)
        rest[start:end] = False
        others = _count(samples.take(rest), bound)
        if _evidence_above(others) >= enough(above):
            return _BoundVerdict(SlaOutcome.VIOLATED, count)
        remedy = "most late requests belong to one stall of less than a second; repeat the probe"
        one = replace(others, late=others.late + 1, n=others.n + 1)
        return _BoundVerdict(SlaOutcome.INCONCLUSIVE, count, remedy, one)
    if _evidence_above(count) >= enough(above):
        return _BoundVerdict(SlaOutcome.VIOLATED, count)
    remedy = f"late requests came in a few long runs, as happens near the capacity; {_LONGER}"
    return _BoundVerdict(SlaOutcome.INCONCLUSIVE, count, remedy)


def _count(samples: Samples, bound: Bound) -> LateCount:
    late = bound.late(samples)
    effect = design_effect(samples.latency, samples.intended, bound.limit)
    return LateCount(bound, int(np.count_nonzero(late)), len(late), effect)


def _evidence_below(count: LateCount) -> float:
    late, n = _effective(count, _SETTINGS.worth_for_met, _SETTINGS.doubt_of_met)
    return log_evidence_below(late, n, count.bound.budget)


def _evidence_above(count: LateCount) -> float:
    late, n = _effective(count, _SETTINGS.worth_for_violated, _SETTINGS.doubt_of_violated)
    return log_evidence_above(late, n, count.bound.budget)


def _effective(count: LateCount, enough: float, at_most: float) -> tuple[float, float]:
    """Late and all requests in independent ones.

    A run that is short against the correlation, worth fewer than ``enough``, does not show all of
    it: its requests are taken to say less still.
    """
    worth = count.n / count.effect
    doubt = min(max(enough / worth, 1.0), at_most) if worth else 1.0
    return count.late / count.effect / doubt, worth / doubt


def requests_to_settle(count: LateCount, confidence: float) -> int | None:
    """With how many requests the bound would be shown to be met, if they went on as they came; None
    if so many would not do that it is no use to wait.
    """
    factor = 1.0
    while factor < _SETTINGS.farthest or factor * count.n < _SETTINGS.least_farthest:
        more = replace(count, late=round(count.late * factor), n=max(1, round(count.n * factor)))
        if _evidence_below(more) >= enough(confidence):
            return more.n
        factor *= _SETTINGS.step
    return None


def _remedy(count: LateCount, confidence: float) -> str:
    if count.n == 0:
        return "no request was due during the probe; raise --probe-seconds or try a higher rate"
    needed = requests_to_settle(count, confidence)
    if needed is None:
        return (
            f"{count.n:,} requests do not decide: the rate is too close to the capacity; try a "
            "lower one"
        )
    return f"{count.n:,} requests do not decide, about {needed:,} would; {_LONGER}"


def _longest_burst(late: Bools) -> tuple[int, int]:
    """First index, and the one after the last, of the longest run of late requests, which may be
    bridged by a few good ones. ``late`` holds at least one True.
    """
    where = np.flatnonzero(late)
    breaks = np.flatnonzero(np.diff(where) > _SETTINGS.bridged)
    starts = where[np.concatenate(([0], breaks + 1))]
    ends = where[np.concatenate((breaks, [len(where) - 1]))]
    worst = int(np.argmax(ends - starts))
    return int(starts[worst]), int(ends[worst]) + 1
