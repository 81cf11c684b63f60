"""A second verdict on a probe, without requests that the machine's own stalls delayed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tuner.goals.sla import Sla, bound_ratio
from tuner.goals.verdict import Judge, SlaOutcome, Verdict, judge
from tuner.stats.samples import Samples
from tuner.stats.stalls import STALLS, Stall, touched

CLEARLY = 0.25
"""Of the error budget: by so much the shares of late requests differ where stalls decide."""


@dataclass(frozen=True)
class Undisturbed:
    """The ``verdict`` on the ``samples`` that no stall can have touched; the share ``left_out`` of
    all requests can have been. ``bound_ratio`` is that of the samples.
    """

    verdict: Verdict
    samples: Samples
    left_out: float
    bound_ratio: float | None

    @property
    def is_decidable(self) -> bool:
        return self.left_out <= STALLS.most_left_out

    def decides(self, honest: Verdict) -> bool:
        """Whether the stalls make the difference, for better or worse: one verdict says met and the
        other violated, or the shares of late requests differ clearly.
        """
        if not self.is_decidable:
            return False
        outcomes = {honest.outcome, self.verdict.outcome}
        if outcomes == {SlaOutcome.MET, SlaOutcome.VIOLATED}:
            return True
        pairs = zip(honest.counts, self.verdict.counts, strict=True)
        return any(
            abs(a.late / max(1, a.n) - b.late / max(1, b.n)) > CLEARLY * a.bound.budget
            for a, b in pairs
        )

    def excuses(self, honest: Verdict) -> bool:
        """Whether the probe is to be repeated, and not read as the server's limit: it was not met,
        and without the stalls it was not violated, or so many were touched that no one can tell.
        """
        if honest.outcome is SlaOutcome.MET:
            return False
        if not self.is_decidable:
            return True
        return self.decides(honest) and self.verdict.outcome is not SlaOutcome.VIOLATED


def without_stalls(
    samples: Samples,
    sla: Sla,
    confidence: float,
    stalls: Sequence[Stall],
    load: float | None = None,
    final: bool = True,
    rule: Judge | None = None,
) -> Undisturbed | None:
    """The same verdict without the requests that stalls can have touched; None if none were.

    ``load`` is the rate over the server's throughput, None if that is unknown.
    """
    limits = [bound.limit for bound in sla.bounds if not bound.on_errors]
    left_out = touched(samples, stalls, (min(limits), sla.longest), load)
    if not left_out.any():
        return None
    rest = samples.take(~left_out)
    verdict = rule(rest, sla, confidence) if rule else judge(rest, sla, confidence, final)
    share = float(left_out.mean())
    return Undisturbed(verdict, rest, share, bound_ratio(rest, sla))


def told_apart(honest: Verdict, undisturbed: Undisturbed | None) -> Verdict:
    """The honest verdict; where stalls decided, with the counts that tell of the server, and with
    the wish to repeat a probe that they broke.
    """
    if undisturbed is None:
        return honest
    verdict = honest
    if undisturbed.decides(honest):
        verdict = replace(verdict, telling=undisturbed.verdict.telling)
    if undisturbed.excuses(honest):
        why = (
            "stalls of the machine decided the result"
            if undisturbed.is_decidable
            else "the machine stalled too often"
        )
        remedy = (
            f"{why} ({undisturbed.left_out:.0%} of the requests excluded); repeat on a "
            "quieter machine"
        )
        verdict = replace(verdict, remedy=remedy, repeat=True)
    return verdict
