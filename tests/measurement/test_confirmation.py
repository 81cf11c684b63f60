"""Which of several finalists gets how much of a confirmation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from tuner.deadline import Deadline
from tuner.deployments.subjects import Subject
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.goals.verdict import LateCount, SlaOutcome
from tuner.load.arrivals import Arrivals
from tuner.measurement.capacity import Capacity
from tuner.measurement.draft import Draft
from tuner.measurement.fitting import ProbeResult
from tuner.measurement.policies import CapacityPolicy, is_outdone, is_settled, is_told
from tuner.measurement.race import ForTheBest
from tuner.measurement.rounds import Rounds, verify_best
from tuner.measurement.session import CandidateSession, Conditions, Sessions
from tuner.model.space import INSTANCE_COUNT, Candidate
from tuner.records.results import State


class Idle:
    """Sessions in which nothing is started."""

    conditions = Conditions(Sla.parse("p99<20ms"), Arrivals.POISSON)
    deadline = Deadline()

    def close(self) -> None: ...

    @contextmanager
    def open(self, draft: Draft, beside: bool = False) -> Iterator[None]:
        yield None


def draft(number: int, capacity: Capacity) -> Draft:
    subject = Subject(number, Candidate.of({INSTANCE_COUNT: number + 1}))
    made = Draft(subject, "confirm", "", np.random.default_rng(0))
    made.capacity = capacity
    return made


def about(rate: float) -> Capacity:
    return Capacity(rate, 0.9 * rate, 1.1 * rate, recommended=0.9 * rate)


@pytest.mark.parametrize(
    ("after", "verified"),
    [
        ((1010.0, 0.0, 0.0), [0]),
        ((900.0, 980.0, 0.0), [0, 1]),
        ((900.0, 890.0, 0.0), [0, 1]),
        ((0.0, 0.0, 700.0), [0, 1, 2]),
        ((0.0, 0.0, 0.0), [0, 1, 2]),
    ],
    ids=["kept", "turned about", "turned about twice", "two refuted", "all refuted"],
)
def test_who_is_best_in_the_end_was_verified(after: tuple[float, ...], verified: list[int]) -> None:
    """Each has a capacity before, 1,000/s, 990/s and 800/s, and another one after its proof."""
    drafts = [draft(i, about(rate)) for i, rate in enumerate((1000.0, 990.0, 800.0))]
    seen = []

    def verify(each: Draft, rate: float) -> None:
        number = each.subject.trial
        assert rate == each.rate_to_verify
        seen.append(number)
        each.capacity = about(after[number]) if after[number] else Capacity(None)

    verify_best(drafts, verify)
    assert seen == verified
    best = max(drafts, key=lambda each: each.rank)
    assert best.capacity.rate is None or best.subject.trial in seen


def after_rounds(number: int, *rates: float, error: float = 0.03) -> Draft:
    """With a capacity of each server, of two probes."""

    class Played(Draft):
        def by_round(self) -> tuple[tuple[float, float], ...]:
            return tuple((rate, error) for rate in rates)

    made = Played(draft(number, Capacity(None)).subject, "confirm", "", np.random.default_rng(0))
    if rates:
        middle = float(np.median(rates))
        made.capacity = about(middle)
        made.results = 2 * [ProbeResult(middle, SlaOutcome.MET, 0.9)]
    return made


def test_a_confirmation_ends_when_the_answer_is_clear() -> None:
    best, far, near = (
        after_rounds(0, 1000.0, 1010.0, 990.0),
        after_rounds(1, 400.0, 410.0, 405.0),
        after_rounds(2, 980.0, 990.0, 985.0, error=0.1),
    )
    assert is_settled([best, far], 3, fresh=True)
    assert not is_settled([best, far, near], 3, fresh=True)
    two = [after_rounds(0, 1000.0, 990.0), after_rounds(1, 400.0, 400.0)]
    assert not is_settled(two, 2, fresh=True)
    assert not is_settled([after_rounds(0, 1000.0, 800.0, 990.0), far], 3, fresh=True)


def test_servers_that_are_kept_are_looked_at_until_they_are_known_well_enough() -> None:
    """More would not tell which of two that are near each other is the better one."""
    best, near, vague = (
        after_rounds(0, 1000.0, error=0.05),
        after_rounds(1, 990.0, error=0.05),
        after_rounds(2, 990.0, error=0.1),
    )
    far = after_rounds(3, 400.0, error=0.1)
    assert is_settled([best, near, far], 2)
    assert not is_settled([best, near], 1)
    assert not is_settled([best, vague], 5)
    assert not is_settled([after_rounds(0, 1000.0, error=0.1), far], 5)


def test_a_rival_is_told_once_leaving_it_costs_little_and_a_baseline_once_it_is_worse() -> None:
    best, near = after_rounds(0, 1000.0, error=0.02), after_rounds(1, 950.0, error=0.02)
    assert is_told(near, [best, near])
    assert not is_told(best, [best, near])
    assert not is_told(after_rounds(2, 995.0, error=0.05), [best])
    near.subject = replace(near.subject, baseline=True)
    assert not is_told(near, [best, near])
    assert not is_told(after_rounds(2, 400.0, error=0.8), [best, near])
    far = after_rounds(3, 400.0, error=0.02)
    assert is_told(far, [best, far])
    far.results.pop()  # one probe alone tells too little
    assert not is_told(far, [best, far])


def test_what_failed_or_keeps_no_rate_holds_no_confirmation_up() -> None:
    best, failed, infeasible = (
        after_rounds(0, 1000.0, 1010.0, 990.0),
        after_rounds(1),
        after_rounds(2),
    )
    failed.failure = "it died"
    assert is_settled([best, failed, infeasible], 3, fresh=True)
    assert not is_settled([failed, infeasible], 3, fresh=True)
    closed = after_rounds(3)  # a closed loop has no rounds
    closed.capacity = about(1000.0)
    assert not is_settled([closed, failed], 1)


def test_only_who_can_still_win_gets_a_whole_round() -> None:
    leader, near, far = draft(0, about(1000.0)), draft(1, about(950.0)), draft(2, about(500.0))
    unknown = draft(3, Capacity(None))
    everyone = [leader, near, far, unknown]
    for each in everyone:
        each.results = [ProbeResult(500.0, SlaOutcome.MET, 0.5)]
    outdone = [is_outdone(each, everyone, 1000.0) for each in everyone]
    assert outdone == [False, False, True, False]
    assert not is_outdone(far, [far], 1000.0)


def test_a_round_that_was_lost_leaves_no_pairs_of_rounds() -> None:
    """Else its next one would be compared with another's first."""
    made = draft(0, about(100.0))
    made.objective = Objective.parse("instances", 100.0)
    made.results = [ProbeResult(100.0, SlaOutcome.MET, 0.5) for _ in range(3)]
    made.costs = [(2.0, 0.0)] * 3
    whole = made.evaluation().cost
    made.costs.pop()
    lost = made.evaluation().cost
    assert whole is not None
    assert lost is not None
    assert len(whole.by_round) == 3
    assert lost.by_round == ()


@pytest.mark.parametrize(("expected", "outdone"), [(0.0, False), (400.0, True), (900.0, False)])
def test_before_its_first_round_what_is_expected_counts(expected: float, outdone: bool) -> None:
    leader, new = draft(0, about(1000.0)), draft(1, Capacity(None))
    assert is_outdone(new, [leader, new], expected) is outdone
    assert not is_outdone(new, [new], expected)


def test_who_keeps_the_sla_at_no_rate_is_told_once_all_rounds_were_played() -> None:
    """Only an interrupt leaves out what nothing is known of."""
    infeasible, failed = draft(0, Capacity(None)), draft(1, Capacity(None))
    failed.failure = "it died"

    class Policy:
        objective = None

        def prepare(self, *_: object) -> None: ...

        def play(self, *_: object, **__: object) -> None: ...

        def verify(self, *_: object, **__: object) -> None: ...

    sessions = cast(Sessions, Idle())
    rounds = Rounds(sessions, cast(Any, Policy()), [infeasible, failed], [0.0, 0.0], ForTheBest())
    assert [each.trial for each in rounds.so_far()] == [1]
    evaluations = rounds.play(side_by_side=False)
    assert [each.state for each in evaluations] == [State.INFEASIBLE, State.FAILED]


def test_a_rate_that_stays_open_after_the_full_test_is_lowered() -> None:
    """Only a test that was cut short, since other probes corroborated it, is tried again."""
    asked: list[float] = []

    class Open:
        def verify(
            self, rate: float, share: float, corroborates: Callable[[ProbeResult], bool]
        ) -> ProbeResult:
            asked.append(rate)
            bound = Sla.parse("p99<20ms").primary
            count = LateCount(bound, 8, 1000, 1.0)
            result = ProbeResult(rate, SlaOutcome.INCONCLUSIVE, 0.95, (count,))
            return replace(result, outcome=SlaOutcome.MET) if corroborates(result) else result

    made = draft(0, about(1000.0))
    policy = CapacityPolicy(Conditions(Sla.parse("p99<20ms"), Arrivals.POISSON))
    policy.verify(cast(CandidateSession, Open()), made, 930.0)
    assert asked == [930.0, pytest.approx(0.85 * 930.0)]
