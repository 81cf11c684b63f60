"""The length of a probe, and when it may end early."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tuner.goals.sla import Sla
from tuner.goals.undisturbed import Undisturbed, without_stalls
from tuner.goals.verdict import Judge, LateCount, SlaOutcome, Verdict, judge, requests_to_settle
from tuner.stats.samples import Samples
from tuner.stats.stalls import Stall


@dataclass(frozen=True)
class ProbeWatchSettings:
    """When a probe is looked at while it runs, and what ends it."""

    requests: int = 300
    """Planned for a bound with the reference budget: about what "met" at 95 % takes at p99 if
    nothing is late.
    """
    reference_budget: float = 0.01
    """Share of late requests that ``requests`` is meant for: that of p99."""
    least_share: float = 1 / 3
    """Of all requests: of a model that is asked less often, a probe does not wait for as many,
    since it would take several times as long; its bound is known less surely then."""
    first_look_seconds: float = 0.4
    """Before that, even a burst of requests is one moment of the machine."""
    look_growth: float = 1.07
    """Each look this much later than the one before: a look costs time in proportion to what was
    sent, so that all looks together stay cheap.
    """
    clearly_broken: float = 10.0
    """Times the error budget: so far above it a fit learns no more (see ``FittingSettings.far``).
    """
    limits: float = 4.0
    """Times the loosest limit: at least so long is a probe planned, else no queue has time to grow
    as long as it will."""
    patience_seconds: float = 15.0
    """Before a probe that is to settle a question is given up as undecidable."""
    too_long: float = 1.2
    """Times the longest probe: what would take longer than this does not come in time."""


WATCH = ProbeWatchSettings()


@dataclass(frozen=True)
class Thoroughness:
    """How long and how surely to probe.

    ``seconds`` is the usual length; a slow rate gets up to ``most_seconds`` so that there are
    enough requests to say something. The verdict is not "met" before ``least_seconds``, the time a
    queue needs to build up. ``confidence`` is that of the verdict. ``settle`` ends the probe with
    the verdict; else only once it has nothing more to tell about the capacity.
    """

    seconds: float
    least_seconds: float
    most_seconds: float
    confidence: float
    settle: bool = False
    judge: Judge | None = None
    """A verdict on the whole probe alone, in place of the one that may be asked at any time."""
    corroborated: bool = False
    """Other probes show that the rate meets the SLA: this one ends once it has not contradicted
    them for ``least_seconds``."""

    def length(self, rate: float, sla: Sla, rates: Mapping[str, float] | None = None) -> float:
        """Seconds to plan at ``rate`` requests/s, which of several models are their ``rates``."""
        of_models = rates or {}
        floor = WATCH.least_share * sum(of_models.values())
        least = max(
            WATCH.requests
            * math.sqrt(WATCH.reference_budget / bound.budget)
            / max(of_models.get(bound.model, rate), floor)
            for bound in sla.bounds
        )
        shown = WATCH.limits * sla.longest
        return min(max(self.seconds, least, shown), self.most_seconds)


def share_used(counts: Sequence[LateCount]) -> float:
    """Of the error budget that is used up most; 0.0 of nothing."""
    return max((c.late / (c.bound.budget * c.n) for c in counts if c.n), default=0.0)


class ProbeWatch:
    """Judges the samples so far, again and again, which its verdicts allow; True ends the probe.

    A probe that is to settle its question ends with the first verdict. One of several for a
    capacity goes on unless the rate is broken by far, or met with nothing late: in between, every
    request tells more about where the bound breaks. Before ``period`` seconds, what was seen may be
    the worst of the arrivals' pattern, and is not called violated. If only the machine's own
    ``stalls`` so far violate the SLA, the probe goes on; ``load`` is the rate over the server's
    throughput, if that is known.
    """

    def __init__(
        self,
        sla: Sla,
        how: Thoroughness,
        period: float = 0.0,
        stalls: Callable[[], Sequence[Stall]] = tuple,
        load: float | None = None,
    ) -> None:
        self._stalls = stalls
        self._load = load
        self._period = period
        self._sla = sla
        self._how = how
        self._verdict: Verdict | None = None
        self._next = WATCH.first_look_seconds

    def final(self, samples: Samples) -> Verdict:
        """The verdict that ended the probe; on all its samples where none did."""
        whole = (self._how.judge or judge)(samples, self._sla, self._how.confidence)
        if self._verdict is None:
            return whole
        bound = self._verdict.decided.bound
        decided = next(count for count in whole.counts if count.bound == bound)
        return replace(self._verdict, decided=decided, counts=whole.counts, telling=whole.telling)

    def undisturbed(self, samples: Samples, final: bool = True) -> Undisturbed | None:
        """The same without the machine's stalls; None if none touched it."""
        how, stalls = self._how, self._stalls()
        return without_stalls(
            samples, self._sla, how.confidence, stalls, self._load, final, how.judge
        )

    def __call__(self, samples: Samples) -> bool:
        elapsed = float(samples.intended[-1]) if len(samples) else 0.0
        if elapsed < self._next:
            return False
        self._next = WATCH.look_growth * elapsed
        verdict = judge(samples, self._sla, self._how.confidence, final=False)
        rest = self._excuse(verdict, samples)
        if self._ends(verdict, elapsed) if rest is None else self._is_told(verdict, rest, elapsed):
            self._verdict = verdict
            return True
        return False

    def _excuse(self, verdict: Verdict, samples: Samples) -> Undisturbed | None:
        """The samples without the machine's stalls, if only these prevent the SLA from being met;
        else None.
        """
        if verdict.outcome is SlaOutcome.MET:
            return None
        rest = self.undisturbed(samples, final=False)
        return rest if rest is not None and rest.excuses(verdict) else None

    def _is_told(self, verdict: Verdict, rest: Undisturbed, elapsed: float) -> bool:
        """Whether neither verdict will change any more: such a probe goes on till then."""
        patience = max(WATCH.patience_seconds, self._how.least_seconds)
        if not self._how.settle or elapsed <= patience or not self._is_idle(verdict, elapsed):
            return False
        is_answered = not rest.is_decidable or rest.verdict.met
        return is_answered or self._is_idle(rest.verdict, elapsed)

    def _ends(self, verdict: Verdict, elapsed: float) -> bool:
        count = verdict.decided
        share = count.late / max(1, count.n)
        match verdict.outcome:
            case SlaOutcome.VIOLATED:
                if elapsed < self._period:
                    return False
                far = min(WATCH.clearly_broken * count.bound.budget, (1 + count.bound.budget) / 2)
                return self._how.settle or share > far
            case SlaOutcome.MET:
                if self._how.judge is not None or elapsed < self._how.least_seconds:
                    return False
                return self._how.settle or not any(c.late for c in verdict.counts)
            case _:
                enough = self._how.corroborated and elapsed >= self._how.least_seconds
                if enough and share_used(verdict.counts) <= 1:
                    return True
                patience = max(WATCH.patience_seconds, self._how.least_seconds)
                return self._how.settle and elapsed > patience and self._is_idle(verdict, elapsed)

    def _is_idle(self, verdict: Verdict, elapsed: float) -> bool:
        """Whether the answer would not come in time, if all went on as so far."""
        if self._how.judge is not None:
            return False
        for count in verdict.counts:
            needed = requests_to_settle(count, verdict.confidence)
            if (
                needed is None
                or not count.n
                or elapsed * needed / count.n > WATCH.too_long * self._how.most_seconds
            ):
                return True
        return False
