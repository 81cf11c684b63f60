"""The policies of a session: measure a capacity, a cost at one rate, or a deployment's capacity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import Protocol

from tuner.analysis.ratios import Ratio, paired_ratio
from tuner.errors import LoadFailed
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.goals.verdict import SlaOutcome
from tuner.measurement.capacity import (
    Capacity,
    Effort,
    conclude,
    find_capacity,
    find_concurrency,
)
from tuner.measurement.draft import Draft
from tuner.measurement.fitting import EVIDENCE, ProbeResult, fit_results
from tuner.measurement.probe import Prober
from tuner.measurement.session import CandidateSession, Conditions
from tuner.measurement.settings import (
    CHALLENGE_PROBE,
    CONFIRMATION,
    DEPLOYMENTS,
    EFFORTS,
    FIXED_RATE,
    RACE_PROBE,
    SEARCH_PROBE,
    SHARE_PROBE,
    SHORT_PROBE,
    START,
    VERIFICATION,
    ConfirmationSettings,
)
from tuner.measurement.watch import Thoroughness
from tuner.model.space import queue_delay
from tuner.records.results import ProbeRecord
from tuner.stats.estimators import INTERVAL_WIDTH


@dataclass(frozen=True)
class Round:
    """One round of a confirmation: its number, and whether the server was launched for it alone.

    About ``expected`` requests/s are expected of the subject; 0.0 if nothing is known.
    """

    number: int
    fresh: bool
    expected: float = 0.0


class Policy(Protocol):
    """A policy: what is measured of each subject, and how."""

    objective: Objective | None
    """The cost that is minimized; None: the capacity is maximized."""

    def prepare(self, session: CandidateSession) -> ProbeRecord:
        """Measure the server unloaded, and warm it up."""

    def play(
        self, session: CandidateSession, draft: Draft, turn: Round, rivals: Sequence[Draft]
    ) -> None:
        """A round of a confirmation, on a server that was prepared."""

    def verify(self, session: CandidateSession, draft: Draft, rate: float) -> None:
        """Put a rate to the full test, and hold the draft to what it says."""


class SearchPolicy(Policy, Protocol):
    """A policy that can also run a trial of a search."""

    def search(
        self, session: CandidateSession, draft: Draft, to_beat: float, expected: float
    ) -> None:
        """Precise only if the subject may exceed ``to_beat`` requests/s; ``expected`` is the
        forecast in requests/s, 0.0 if unknown.
        """


class CapacityPolicy:
    """Finds the highest rate that meets the SLA; in a closed loop, the highest throughput."""

    objective: Objective | None = None

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def prepare(self, session: CandidateSession) -> ProbeRecord:
        session.warm_up()
        return session.unloaded(is_warm=True)

    def search(
        self, session: CandidateSession, draft: Draft, to_beat: float, expected: float
    ) -> None:
        simulated = EFFORTS.baseline if draft.subject.baseline else EFFORTS.race
        effort = replace(simulated if expected else EFFORTS.search, to_beat=to_beat)
        is_simulated = expected > 0 and draft.phase == "search"
        self._find(session, draft, effort, expected, check=not is_simulated)

    def measure(self, session: CandidateSession, draft: Draft) -> None:
        """The capacity of one candidate by itself, and the verification of its recommended rate."""
        self._find(session, draft, EFFORTS.measure, 0.0, check=True)
        if self._conditions.verifies and draft.rate_to_verify is not None:
            self.verify(session, draft, draft.rate_to_verify)

    def _find(
        self,
        session: CandidateSession,
        draft: Draft,
        effort: Effort,
        expected: float,
        check: bool,
    ) -> None:
        """The capacity; with ``check``, none where a request alone already takes too long."""
        if check and gives_up(draft, session.unloaded(), self._conditions.sla):
            return
        saturation = session.warm_up(roughly=not check)
        if self._conditions.is_closed:
            draft.capacity = find_concurrency(session.probe_closed, effort)
            return
        start = expected or START.of_saturation * saturation
        if saturation > effort.to_beat > start:
            start = START.challenge * effort.to_beat
        how = RACE_PROBE if expected else SEARCH_PROBE
        seek(session, draft, start, effort, how, CHALLENGE_PROBE if effort.to_beat else how)

    def play(
        self, session: CandidateSession, draft: Draft, turn: Round, rivals: Sequence[Draft]
    ) -> None:
        effort = EFFORTS.side_by_side
        if turn.fresh:
            effort = EFFORTS.next_server if turn.number else EFFORTS.first_server
        if is_outdone(draft, rivals, turn.expected):
            effort = EFFORTS.glance
        if self._conditions.is_closed:
            draft.capacity = find_concurrency(session.probe_closed, effort)
            return
        start = turn.expected or START.of_saturation * session.saturation
        start = between(start, draft) if turn.fresh else beside(start, draft)
        seek(session, draft, start, effort, SHORT_PROBE if turn.expected else SEARCH_PROBE)

    def verify(self, session: CandidateSession, draft: Draft, rate: float) -> None:
        """A lower rate if it fails, the same if one stall decided; all are included in the fit. No
        further one if the samples meet the SLA by far, and are only too few: then all probes
        together decide.

        The attempts share the probability of error, the first gets most of it.
        """
        for share in CONFIRMATION.attempts:
            corroborates = partial(is_corroborated, draft, rate)
            was_short = corroborates()
            result = session.verify(rate, share, corroborates=corroborates)
            draft.results.append(result)
            draft.capacity = conclude(draft.results, rate, other_launches=True)
            if result.outcome is SlaOutcome.MET or result.keeps_by_far:
                break
            if result.repeat or (was_short and result.kept):  # now the full test
                continue
            rate = min(CONFIRMATION.easier * rate, draft.capacity.recommended or rate)


class DeploymentPolicy:
    """Finds the capacity of deployments: every one counts, so that no round is shorter than
    another's. After each round, a probe at a share of the capacity shows how it is to operate below
    it.
    """

    objective: Objective | None = None

    def __init__(self, conditions: Conditions) -> None:
        self._capacity = CapacityPolicy(conditions)

    def prepare(self, session: CandidateSession) -> ProbeRecord:
        return self._capacity.prepare(session)

    def play(
        self, session: CandidateSession, draft: Draft, turn: Round, rivals: Sequence[Draft]
    ) -> None:
        effort = EFFORTS.next_deployment if turn.number else EFFORTS.first_deployment
        if turn.fresh:
            effort = EFFORTS.next_server if turn.number else EFFORTS.first_server
        start = between(START.of_saturation * session.saturation, draft)
        seek(session, draft, start, effort, SEARCH_PROBE)
        if draft.capacity.rate is not None:  # of no limit, so no result of the draft's
            share = DEPLOYMENTS.shares[turn.number % len(DEPLOYMENTS.shares)]
            session.probe(share * draft.capacity.rate, SHARE_PROBE)

    def verify(self, session: CandidateSession, draft: Draft, rate: float) -> None:
        self._capacity.verify(session, draft, rate)


class FixedRatePolicy:
    """Finds a candidate's cost at the objective's rate if it meets the SLA there: every probe is at
    this rate.
    """

    def __init__(self, objective: Objective, sla: Sla) -> None:
        self.objective: Objective | None = objective
        self._objective = objective
        self._sla = sla
        wanted = max(FIXED_RATE.seconds, objective.requests / objective.rate)
        seconds = min(wanted, SEARCH_PROBE.most_seconds)
        self._probe = replace(SEARCH_PROBE, seconds=seconds, least_seconds=seconds)

    def prepare(self, session: CandidateSession) -> ProbeRecord:
        """UsageError if the objective cannot be read from this server."""
        unloaded = session.unloaded()
        self._objective.require_readings(unloaded)
        session.warm_up()
        return unloaded

    def search(
        self, session: CandidateSession, draft: Draft, to_beat: float, expected: float
    ) -> None:
        unloaded = session.unloaded()
        self._objective.require_readings(unloaded)
        if not gives_up(draft, unloaded, self._sla):
            session.warm_up()
            self.play(session, draft, Round(0, fresh=True), ())

    def play(
        self, session: CandidateSession, draft: Draft, turn: Round, rivals: Sequence[Draft]
    ) -> None:
        rate = self._objective.rate
        result = session.probe(rate, self._probe)
        draft.results.append(result)
        if not result.client_limited:
            draft.costs.append(self._cost(session.prober))
        telling = [each for each in draft.results if not each.client_limited]
        ratios = sorted(each.bound_ratio for each in telling if each.bound_ratio is not None)
        kept = 2 * sum(each.kept for each in telling) > len(telling)
        known = all(math.isfinite(value) for value, _ in draft.costs)
        draft.capacity = Capacity(
            rate if kept and known else None,
            bound_ratio=ratios[len(ratios) // 2] if ratios else None,
            client_limited=not telling,
        )

    def _cost(self, prober: Prober) -> tuple[float, float]:
        """The value of the last probe, and the standard error of its logarithm."""
        record, instances = prober.records[-1], prober.instances
        value = self._objective.value(record, instances)
        if value is None:
            raise LoadFailed(f"a reading is missing, so {self._objective} cannot be computed")
        return value, self._objective.error(record, instances)

    def verify(self, session: CandidateSession, draft: Draft, rate: float) -> None:
        """The full test at the given rate; once more where one stall decided."""
        for share in CONFIRMATION.attempts:
            result = session.verify(rate, share)
            if not result.repeat:
                break
        is_servers = not result.client_limited and not result.repeat
        if result.outcome is SlaOutcome.VIOLATED and is_servers:
            draft.capacity = replace(draft.capacity, rate=None, bound_ratio=result.bound_ratio)


def seek(
    session: CandidateSession,
    draft: Draft,
    start: float,
    effort: Effort,
    how: Thoroughness,
    first: Thoroughness | None = None,
) -> None:
    """Search the capacity from ``start`` requests/s on, with all earlier results of the draft; its
    ``first`` probe may be another.
    """

    def probe(rate: float) -> ProbeResult:
        return session.probe(rate, how if first is None or draft.results else first)

    draft.capacity = find_capacity(probe, start, effort, draft.results)


def gives_up(draft: Draft, unloaded: ProbeRecord, sla: Sla) -> bool:
    """Whether a request alone takes longer than the bound, even without the queue delay; noted in
    the draft.

    Under load a batch may fill before the delay is over, but nothing gets faster than alone.
    """
    p50 = unloaded.latency["p50"]
    if p50 is None or p50 - queue_delay(draft.subject.candidate) <= sla.longest:
        return False
    draft.capacity = Capacity(None, bound_ratio=unloaded.bound_ratio)
    return True


def is_outdone(draft: Draft, rivals: Sequence[Draft], expected: float) -> bool:
    """Whether it can hardly be the best, by the rounds so far; before its first, by the
    ``expected`` requests/s.
    """
    others = [each for each in rivals if each is not draft and each.capacity.rate]
    best = max(others, key=lambda each: each.rank, default=None)
    own = draft.capacity if draft.results else Capacity(expected or None)
    if best is None or not own.rate:
        return False
    return own.chance_above(best.capacity) < CONFIRMATION.outdone


def is_told(
    draft: Draft,
    drafts: Sequence[Draft],
    fresh: bool = False,
    settings: ConfirmationSettings = CONFIRMATION,
) -> bool:
    """Whether no further round of it matters: a baseline is known to be worse than the best; by
    leaving any other, hardly anything is expected to be lost. ``fresh``: each round has a server of
    its own, and two of them tell how much they differ.
    """
    best = max(drafts, key=lambda each: each.rank)
    if draft is best or not draft.capacity.rate or not best.capacity.rate:
        return False
    own, others = draft.by_round(), best.by_round()
    seen = min(len(own), len(others)) if fresh else len(draft.results)
    if seen < settings.fewest_looks:
        return False
    looks = (settings.rounds if fresh else settings.looks) - 1
    is_baseline = draft.subject.baseline
    ratio = paired_ratio(own, others, 1 - 2 * settings.error / looks if is_baseline else 0.95)
    if ratio is None:
        return False
    return ratio.high < 1 if is_baseline else expected_gain(ratio) < settings.loss


def expected_gain(ratio: Ratio) -> float:
    """Of the logarithm of a ratio that is normal and has this 95 % interval, where less than 1
    counts as 1: the expected improvement in closed form (Jones, Schonlau and Welch 1998).
    """
    error = math.log(ratio.high / ratio.low) / INTERVAL_WIDTH
    above = NormalDist(math.log(ratio.value), max(error, EVIDENCE.least_error))
    return above.mean * (1 - above.cdf(0.0)) + above.variance * above.pdf(0.0)


def is_settled(
    drafts: Sequence[Draft],
    rounds: int,
    fresh: bool = False,
    settings: ConfirmationSettings = CONFIRMATION,
) -> bool:
    """Whether, after so many rounds, further ones would tell nothing that matters: the capacity of
    the best one is known well enough, and it is better than each other one. Of servers that are
    kept, none is looked at any more that is known well enough: two such that are near each other
    are as good.
    """
    left = [draft for draft in drafts if draft.failure is None]
    best = max(left, key=lambda each: each.rank, default=None)
    if best is None or not best.by_round():
        return False
    if rounds < settings.fewest_rounds and (fresh or any(not each.capacity.rate for each in left)):
        return False  # one that kept the SLA at no rate so far may have been probed too high
    others = [each for each in left if each is not best and each.capacity.rate]
    open_ones = [each for each in others if not is_told(each, left, fresh)]
    if not fresh:
        known = all(each.by_round()[0][1] <= settings.precision for each in (best, *open_ones))
        return rounds >= settings.fewest_looks and known
    (low, low_error), (high, high_error) = min(best.by_round()), max(best.by_round())
    apart = math.log1p(settings.agreement) + math.hypot(low_error, high_error)
    return math.log(high / low) <= apart and not open_ones


def is_corroborated(draft: Draft, rate: float, last: ProbeResult | None = None) -> bool:
    """Whether all its probes together say that it keeps this rate, as surely as a verification; the
    ``last`` one, which is not among its results yet, keeps it by itself at face value.
    """
    results = draft.results if last is None else [*draft.results, last]
    if not results or not (last is None or last.kept):
        return False
    return fit_results(results, rate).chance_above(rate) >= VERIFICATION.confidence


def between(expected: float, draft: Draft) -> float:
    """Between what is expected and what was measured: earlier rounds may have had a bad time."""
    if not draft.results:
        return expected
    return math.sqrt(expected * fit_results(draft.results, expected).rate)


def beside(expected: float, draft: Draft, settings: ConfirmationSettings = CONFIRMATION) -> float:
    """Above or below the capacity so far, on the other side of it than the last rate."""
    if not draft.results:
        return expected
    aside = settings.above if draft.results[-1].kept else settings.below
    return aside * fit_results(draft.results, expected).rate
