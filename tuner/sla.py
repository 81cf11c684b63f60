"""The latency promise, and the verdict whether a set of samples keeps it."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from tuner.errors import UnitError
from tuner.samples import Bools, Floats, Samples
from tuner.stats import design_effect, quantile, requests_needed, surely_above, surely_below
from tuner.units import format_duration, parse_duration

_BOUND = re.compile(r"\s*p(\d{1,2}(?:\.\d+)?)\s*<=?\s*(.+?)\s*", re.IGNORECASE)
_STALL_SECONDS = 1.0
_LEAST_BLOCK_SECONDS = 0.1
_NEAR = 0.75


@dataclass(frozen=True, order=True)
class Bound:
    """``percentile`` in (0, 1) of the latencies lies within ``limit`` seconds; errors are late."""

    percentile: float
    limit: float

    @property
    def name(self) -> str:
        return f"p{self.percentile * 100:.6g}"

    @property
    def budget(self) -> float:
        """The share of requests that may be late."""
        return 1 - self.percentile

    def __str__(self) -> str:
        return f"{self.name} ≤ {format_duration(self.limit)}"


@dataclass(frozen=True)
class Sla:
    """Bounds that hold at once; at least one."""

    bounds: tuple[Bound, ...]

    @classmethod
    def parse(cls, text: str) -> "Sla":
        """From ``p99<20ms`` or ``p50<5ms,p99<20ms``."""
        bounds = []
        for part in text.split(","):
            match = _BOUND.fullmatch(part)
            if match is None or not 0 < float(match[1]) < 100:
                raise UnitError(f"latency bound {part.strip()!r} does not parse; write p99<20ms")
            bounds.append(Bound(float(match[1]) / 100, parse_duration(match[2])))
        return cls(tuple(sorted(set(bounds))))

    @property
    def primary(self) -> Bound:
        """The bound on the highest percentile: the one that figures and tables show."""
        return self.bounds[-1]

    def __str__(self) -> str:
        return " and ".join(map(str, self.bounds))


class Outcome(StrEnum):
    MET = "met"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Verdict:
    """What samples say of one Sla.

    ``violations`` of ``n`` requests were late or failed, for the bound that decided; ``remedy``
    says what would settle an inconclusive one, and ``repeat`` that it is to do the same again.
    """

    outcome: Outcome
    bound: Bound
    violations: int
    n: int
    confidence: float
    remedy: str | None = None
    repeat: bool = False

    @property
    def met(self) -> bool:
        return self.outcome is Outcome.MET


def judge(samples: Samples, sla: Sla, confidence: float, cautious: bool = False) -> Verdict:
    """The verdict on all bounds together: met if all are, violated if one surely is.

    The test is binomial (LoadGen's early-stopping rule for "met", its mirror image for
    "violated"), on counts divided by their design effect, since late requests come in clusters. One
    stall shorter than a second does not make a violation: where the rest of the
    samples does not bear it out, the verdict is inconclusive and the remedy is to repeat.

    ``cautious`` takes the design effect also from requests that come near the limit (above the
    samples' own percentile and three quarters of the limit): clusters that are too rare to have
    shown up among the late ones show there. It needs more requests to say "met", and says it
    wrongly less often.
    """
    verdicts = [_judge_bound(samples, bound, confidence, cautious) for bound in sla.bounds]
    order = (Outcome.VIOLATED, Outcome.INCONCLUSIVE, Outcome.MET)
    return min(verdicts, key=lambda v: order.index(v.outcome))


def _judge_bound(samples: Samples, bound: Bound, confidence: float, cautious: bool) -> Verdict:
    late = samples.latency > bound.limit
    n, violations = len(late), int(np.count_nonzero(late))
    block = max(_LEAST_BLOCK_SECONDS, 5 * bound.limit)
    effect = design_effect(late, samples.intended, block)
    if cautious and n:
        own = quantile(samples.latency, bound.percentile) or 0.0
        tail = samples.latency > max(own, _NEAR * bound.limit)
        effect = max(effect, design_effect(tail, samples.intended, block))
    fewer, worth = math.ceil(violations / effect), math.floor(n / effect)

    def verdict(outcome: Outcome, remedy: str | None = None, repeat: bool = False) -> Verdict:
        return Verdict(outcome, bound, violations, n, confidence, remedy, repeat)

    if surely_below(fewer, worth, bound.budget, confidence):
        return verdict(Outcome.MET)
    if surely_above(math.floor(violations / effect), worth, bound.budget, confidence):
        if _is_one_stall(samples.intended, late, bound.budget, confidence):
            return verdict(Outcome.INCONCLUSIVE, "one stall decided: repeat", repeat=True)
        return verdict(Outcome.VIOLATED)
    if surely_above(violations, n, bound.budget, confidence):
        remedy = "late requests came in a few bursts: repeat, on a quieter machine if you can"
        return verdict(Outcome.INCONCLUSIVE, remedy, repeat=True)
    needed = math.ceil(effect * requests_needed(fewer, bound.budget, confidence))
    return verdict(
        Outcome.INCONCLUSIVE,
        f"{n} requests leave it open: probe longer, at least {needed} requests",
    )


def _is_one_stall(intended: Floats, late: Bools, budget: float, confidence: float) -> bool:
    """Whether the excess of late requests comes from one short burst of them.

    The burst is the longest consecutive run of late requests, bridging gaps of a few good ones.
    """
    where = np.flatnonzero(late)
    breaks = np.flatnonzero(np.diff(where) > 5)
    starts = where[np.concatenate(([0], breaks + 1))]
    ends = where[np.concatenate((breaks, [len(where) - 1]))]
    worst = int(np.argmax(ends - starts))
    start, end = int(starts[worst]), int(ends[worst])
    if intended[end] - intended[start] > _STALL_SECONDS:
        return False
    rest = np.concatenate((late[:start], late[end + 1 :]))
    if len(rest) < len(late) / 2:
        return False
    return not surely_above(int(np.count_nonzero(rest)), len(rest), budget, confidence)


def margin(samples: Samples, sla: Sla) -> float | None:
    """The largest ratio of a measured percentile to its limit, over all bounds; None without data.

    At most 1 where the samples, taken at face value, keep the Sla; +inf where failures reach a
    percentile.
    """
    ratios = []
    for bound in sla.bounds:
        value = quantile(samples.latency, bound.percentile)
        if value is None:
            return None
        ratios.append(value / bound.limit)
    return max(ratios)
