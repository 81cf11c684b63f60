"""The latency promise, and the verdict whether a set of samples keeps it."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from tuner.errors import UnitError
from tuner.stats.estimators import (
    design_effect,
    quantile,
    requests_needed,
    surely_above,
    surely_below,
)
from tuner.stats.evidence import enough, log_evidence_above, log_evidence_below
from tuner.stats.samples import Bools, Samples
from tuner.units import exact_duration, format_duration, parse_duration

_LATENCY = re.compile(r"\s*p(\d{1,2}(?:\.\d+)?)\s*<=?\s*(.+?)\s*", re.IGNORECASE)
_ERRORS = re.compile(r"\s*errors\s*<=?\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*", re.IGNORECASE)
_STALL_SECONDS = 1.0
_STALL_LIMITS = 5.0
_OUTAGE_SECONDS = 2.0
_OUTAGE_SHARE = 0.1
_BRIDGED = 5
_SETTLED = 250.0
_UNSETTLED_AT_MOST = 16.0
_KNOWN = 100.0
_UNKNOWN_AT_MOST = 4.0
_FARTHEST = 64.0


@dataclass(frozen=True, order=True)
class Bound:
    """``percentile`` in (0, 1) of the latencies lies within ``limit`` seconds; errors are late.

    A limit of +inf bounds the errors alone: their share is at most ``budget``.
    """

    percentile: float
    limit: float

    @property
    def name(self) -> str:
        return "errors" if self.on_errors else f"p{self.percentile * 100:.6g}"

    @property
    def budget(self) -> float:
        """The share of requests that may be late."""
        return 1 - self.percentile

    @property
    def on_errors(self) -> bool:
        return math.isinf(self.limit)

    def late(self, samples: Samples) -> Bools:
        """Which requests were late or, for a bound on errors, failed; shape (n,)."""
        return ~samples.ok if self.on_errors else samples.latency > self.limit

    @property
    def text(self) -> str:
        """``p99<20ms``, exactly: what ``Sla.parse`` takes."""
        if self.on_errors:
            return f"errors<{self.budget * 100:.12g}%"
        return f"p{self.percentile * 100:.12g}<{exact_duration(self.limit)}"

    def __str__(self) -> str:
        if self.on_errors:
            return f"errors ≤ {self.budget * 100:.6g} %"
        return f"{self.name} ≤ {format_duration(self.limit)}"


@dataclass(frozen=True)
class Sla:
    """Bounds that hold at once; at least one of them is on latency."""

    bounds: tuple[Bound, ...]

    @classmethod
    def parse(cls, text: str) -> "Sla":
        """From ``p99<20ms`` or ``p50<5ms,p99<20ms,errors<0.1%``."""
        bounds = sorted({_parse_bound(part) for part in text.split(",")})
        if all(bound.on_errors for bound in bounds):
            raise UnitError(f"{text.strip()!r} bounds no latency; write p99<20ms,errors<0.1%")
        return cls(tuple(bounds))

    @property
    def primary(self) -> Bound:
        """The bound on the highest percentile: the one that figures and tables show."""
        return [bound for bound in self.bounds if not bound.on_errors][-1]

    @property
    def longest(self) -> float:
        """The largest limit of a latency, in seconds: after it a request is late for sure."""
        return max(bound.limit for bound in self.bounds if not bound.on_errors)

    @property
    def text(self) -> str:
        """``p50<5ms,p99<20ms``, exactly: what ``parse`` takes."""
        return ",".join(bound.text for bound in self.bounds)

    def __str__(self) -> str:
        """For people, rounded."""
        return " and ".join(map(str, self.bounds))


def _parse_bound(text: str) -> Bound:
    errors = _ERRORS.fullmatch(text)
    if errors is not None and 0 < float(errors[1]) < 100:
        return Bound(1 - float(errors[1]) / 100, math.inf)
    match = _LATENCY.fullmatch(text)
    if match is None or not 0 < float(match[1]) < 100:
        raise UnitError(
            f"bound {text.strip()!r} does not parse; write p99<20ms, or errors<0.1% beside it"
        )
    limit = parse_duration(match[2])
    if not 0 < limit < math.inf:
        raise UnitError(f"bound {text.strip()!r}: the limit must be greater than zero")
    return Bound(float(match[1]) / 100, limit)


class SlaOutcome(StrEnum):
    MET = "met"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Count:
    """``late`` of ``n`` requests broke a bound; they say as much as n / effect independent ones."""

    bound: Bound
    late: int
    n: int
    effect: float


@dataclass(frozen=True)
class Verdict:
    """What samples say of one Sla.

    ``counts`` has one entry per bound, ``decided`` is the one that decided; ``telling`` are the
    counts that tell of the capacity: of one stall, as of one late request. ``remedy`` says what
    would settle an inconclusive one, and ``repeat`` that it is to do the same again.
    """

    outcome: SlaOutcome
    decided: Count
    counts: tuple[Count, ...]
    telling: tuple[Count, ...]
    confidence: float
    remedy: str | None = None
    repeat: bool = False

    @property
    def met(self) -> bool:
        return self.outcome is SlaOutcome.MET


Judge = Callable[[Samples, Sla, float], Verdict]


def judge(samples: Samples, sla: Sla, confidence: float, final: bool = True) -> Verdict:
    """The verdict on all bounds together: met if all are, violated if one surely is.

    It may be asked at any time, again and again, and each of the two is said wrongly with a
    probability of at most 1 - ``confidence`` over all looks and bounds together: the evidence is a
    mixture of sequential likelihood ratios (``tuner.stats.evidence``) on counts divided by their
    design effect, since late requests come in clusters. One stall shorter than a second does not
    make a violation: where the rest of the samples does not bear it out, the verdict is
    inconclusive, and to be repeated.

    Where not ``final``, requests without a reply are no failures yet.
    """
    above = _shared(confidence, sla)
    findings = [_weigh(samples, bound, confidence, above, final) for bound in sla.bounds]
    return _together(findings, confidence)


def _shared(confidence: float, sla: Sla) -> float:
    """The confidence at which each of the bounds has to be broken, so that all share one error."""
    return 1 - (1 - confidence) / len(sla.bounds)


@dataclass(frozen=True)
class _Finding:
    """Of one bound; where one stall decided, ``without_stall`` counts all of it as one request."""

    outcome: SlaOutcome
    count: Count
    remedy: str | None = None
    without_stall: Count | None = None


def judge_as_loadgen(samples: Samples, sla: Sla, confidence: float) -> Verdict:
    """The verdict by MLPerf LoadGen's early-stopping rule, on the counts as they are.

    It is for a run whose length was fixed before. Requests count as independent, which in a queue
    they are not: near capacity it says "met" too easily.
    """
    findings = []
    for bound in sla.bounds:
        late = bound.late(samples)
        count = Count(bound, int(np.count_nonzero(late)), len(late), 1.0)
        needed = requests_needed(count.late, bound.budget, confidence)
        remedy = None
        if surely_below(count.late, count.n, bound.budget, confidence):
            outcome = SlaOutcome.MET
        elif surely_above(count.late, count.n, bound.budget, _shared(confidence, sla)):
            outcome = SlaOutcome.VIOLATED
        else:
            outcome = SlaOutcome.INCONCLUSIVE
            remedy = f"{count.n} requests leave it open: probe longer, at least {needed} requests"
        findings.append(_Finding(outcome, count, remedy))
    return _together(findings, confidence)


def _together(findings: list[_Finding], confidence: float) -> Verdict:
    order = (SlaOutcome.VIOLATED, SlaOutcome.INCONCLUSIVE, SlaOutcome.MET)

    def first(finding: _Finding) -> tuple[int, float]:
        """The gravest outcome; of equals, the bound of which most is used up."""
        count = finding.count
        return order.index(finding.outcome), -count.late / (count.bound.budget * max(1, count.n))

    decided = min(findings, key=first)
    return Verdict(
        decided.outcome,
        decided.count,
        tuple(finding.count for finding in findings),
        tuple(finding.without_stall or finding.count for finding in findings),
        confidence,
        decided.remedy,
        decided.without_stall is not None,
    )


def _weigh(
    samples: Samples, bound: Bound, confidence: float, above: float, final: bool
) -> _Finding:
    """Of one bound: ``confidence`` is that of "met", ``above`` that of "violated"."""
    if bound.on_errors and not final:
        samples = samples.take(~np.isnan(samples.done))
    late = bound.late(samples)
    count = _count(samples, bound)
    n, violations = count.n, count.late
    if _evidence_below(count) >= enough(confidence):
        return _Finding(SlaOutcome.MET, count)
    if not surely_above(violations, n, bound.budget, above):
        return _Finding(SlaOutcome.INCONCLUSIVE, count, _remedy(count, confidence))
    start, end = _longest_burst(late)
    lasted = float(samples.intended[end - 1] - samples.intended[start])
    if lasted >= _OUTAGE_SECONDS and violations >= _OUTAGE_SHARE * n:
        return _Finding(SlaOutcome.VIOLATED, count)
    shortest = _STALL_LIMITS * (bound.limit if math.isfinite(bound.limit) else 0.0)
    if shortest <= lasted <= _STALL_SECONDS and end - start <= n / 2:
        rest = np.ones(n, dtype=bool)
        rest[start:end] = False
        others = _count(samples.take(rest), bound)
        if _evidence_above(others) >= enough(above):
            return _Finding(SlaOutcome.VIOLATED, count)
        remedy = "most late requests came at once, in one stall: repeat"
        one = replace(others, late=others.late + 1, n=others.n + 1)
        return _Finding(SlaOutcome.INCONCLUSIVE, count, remedy, one)
    if _evidence_above(count) >= enough(above):
        return _Finding(SlaOutcome.VIOLATED, count)
    remedy = "late requests came in a few long runs, as near the capacity: probe longer"
    return _Finding(SlaOutcome.INCONCLUSIVE, count, remedy)


def _count(samples: Samples, bound: Bound) -> Count:
    late = bound.late(samples)
    effect = design_effect(samples.latency, samples.intended, bound.limit)
    return Count(bound, int(np.count_nonzero(late)), len(late), effect)


def _evidence_below(count: Count) -> float:
    return log_evidence_below(*_effective(count, _SETTLED, _UNSETTLED_AT_MOST), count.bound.budget)


def _evidence_above(count: Count) -> float:
    return log_evidence_above(*_effective(count, _KNOWN, _UNKNOWN_AT_MOST), count.bound.budget)


def _effective(count: Count, enough: float, at_most: float) -> tuple[float, float]:
    """Late and all requests in independent ones.

    A run that is short against the correlation, worth fewer than ``enough``, does not show all of
    it: its requests are taken to say less still.
    """
    worth = count.n / count.effect
    doubt = min(max(enough / worth, 1.0), at_most) if worth else 1.0
    return count.late / count.effect / doubt, worth / doubt


def requests_to_settle(count: Count, confidence: float) -> int | None:
    """With how many requests the bound would be shown to be met, if they went on as they came; None
    where so many would not do that it is no use to wait.
    """
    factor = 1.0
    while factor < _FARTHEST or factor * count.n < 10_000:
        more = replace(count, late=round(count.late * factor), n=max(1, round(count.n * factor)))
        if _evidence_below(more) >= enough(confidence):
            return more.n
        factor *= 1.2
    return None


def _remedy(count: Count, confidence: float) -> str:
    if count.n == 0:
        return "no request was due in so short a time: probe longer, or at a higher rate"
    needed = requests_to_settle(count, confidence)
    if needed is None:
        return f"{count.n} requests leave it open: this rate is too near the bound, try a lower one"
    return f"{count.n} requests leave it open: probe longer, at least {needed} requests"


def _longest_burst(late: Bools) -> tuple[int, int]:
    """First index, and the one after the last, of the longest run of late requests, which may be
    bridged by a few good ones. ``late`` holds at least one True.
    """
    where = np.flatnonzero(late)
    breaks = np.flatnonzero(np.diff(where) > _BRIDGED)
    starts = where[np.concatenate(([0], breaks + 1))]
    ends = where[np.concatenate((breaks, [len(where) - 1]))]
    worst = int(np.argmax(ends - starts))
    return int(starts[worst]), int(ends[worst]) + 1


def bound_ratio(samples: Samples, sla: Sla) -> float | None:
    """The largest ratio of a measured percentile, or share of errors, to its limit over all bounds;
    None without data.

    At most 1 where the samples, taken at face value, keep the Sla; +inf where failures reach a
    percentile.
    """
    if len(samples) == 0:
        return None
    ratios = []
    for bound in sla.bounds:
        if bound.on_errors:
            ratios.append(samples.errors / len(samples) / bound.budget)
        else:
            ratios.append((quantile(samples.latency, bound.percentile) or 0.0) / bound.limit)
    return max(ratios)
