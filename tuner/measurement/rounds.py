"""Several subjects measured in interleaved rounds, so that a slow change of the machine meets all
alike.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol

from tuner.measurement.draft import Draft
from tuner.measurement.policies import Policy, Round
from tuner.measurement.race import AllRounds, Race
from tuner.measurement.session import CandidateSession, Sessions
from tuner.measurement.settings import CONFIRMATION
from tuner.records.results import Evaluation

Step = Callable[[CandidateSession], None]


class Servers(Protocol):
    """The servers on which rounds are played."""

    fresh: bool
    """Whether each round has a new server."""

    def attempt(self, draft: Draft, number: int, step: Step) -> None:
        """Take a step of the draft's round ``number``, unless it failed before."""


class Rounds:
    """Measures drafts in interleaved rounds, and then verifies the rate recommended for the best
    one.
    """

    def __init__(
        self,
        sessions: Sessions,
        policy: Policy,
        drafts: Sequence[Draft],
        expected: Sequence[float],
        race: Race,
    ) -> None:
        """About ``expected`` requests/s are expected of each draft; 0.0 if nothing is known. The
        ``race`` says how many rounds there are, and of which drafts; in a closed loop there is one.
        """
        self._sessions = sessions
        self._policy = policy
        self._drafts = drafts
        self._expected = expected
        self._race = AllRounds(1) if sessions.conditions.is_closed else race
        self._left_out: list[Draft] = []
        self._last = 0

    def play(self, side_by_side: bool) -> list[Evaluation]:
        """Play all rounds, on servers that run at once or on fresh ones each time."""
        self._sessions.close()
        servers = self._side_by_side if side_by_side else self._on_fresh_servers
        verifies, deadline = self._sessions.conditions.verifies, self._sessions.deadline
        share = 1 - CONFIRMATION.verification_share if verifies else 1.0
        with servers() as available:
            with deadline.within(share * deadline.left):
                self._play(available)
            if verifies:
                verify_best(self._drafts, partial(self._verify, available))
        return [draft.evaluation() for draft in self._drafts]

    def _play(self, servers: "Servers") -> None:
        for number in range(self._race.most_rounds(servers.fresh)):
            self._last = number
            for draft, expected in zip(self._drafts, self._expected, strict=True):
                if self._is_left_out(draft, servers.fresh):
                    continue
                turn = Round(number, servers.fresh, expected)
                play = partial(self._policy.play, draft=draft, turn=turn, rivals=self._drafts)
                servers.attempt(draft, number, play)
            is_over = self._race.is_over(self._drafts, number + 1, servers.fresh)
            if is_over or not self._sessions.deadline.left:
                return

    def _is_left_out(self, draft: Draft, fresh: bool) -> bool:
        """For good, so that the rounds of two drafts stay paired."""
        is_out = any(draft is each for each in self._left_out)
        if not is_out and self._race.leaves(draft, self._drafts, fresh):
            self._left_out.append(draft)
            self._sessions.progress.leaving(draft.subject)
            is_out = True
        return is_out

    def so_far(self) -> list[Evaluation]:
        """The evaluations of all drafts with a result, also after an interrupt."""
        return [draft.evaluation() for draft in self._drafts if draft.is_telling]

    def _verify(self, servers: Servers, draft: Draft, rate: float) -> None:
        self._sessions.progress.verifying(draft.subject, rate)
        verify = partial(self._policy.verify, draft=draft, rate=rate)
        servers.attempt(draft, self._last, verify)

    @contextmanager
    def _side_by_side(self) -> "Iterator[_SideBySide]":
        with ExitStack() as stack:
            yield _SideBySide(self._sessions, self._policy, self._drafts, stack)

    @contextmanager
    def _on_fresh_servers(self) -> "Iterator[_FreshServers]":
        yield _FreshServers(self._sessions, self._policy)


class _SideBySide:
    """One server for each draft, all at once, loaded one after another."""

    fresh = False

    def __init__(
        self, sessions: Sessions, policy: Policy, drafts: Sequence[Draft], stack: ExitStack
    ) -> None:
        self._sessions = sessions
        self._policy = policy
        self._opened: dict[int, CandidateSession] = {}
        self._contexts = {id(draft): stack.enter_context(ExitStack()) for draft in drafts}
        for draft in drafts:
            self._attempt(draft, partial(self._launch, draft))

    def attempt(self, draft: Draft, number: int, step: Step) -> None:
        def take() -> None:
            session = self._opened[id(draft)]
            session.begin_round(draft.subject, number)
            step(session)

        self._attempt(draft, take)

    def _launch(self, draft: Draft) -> None:
        opening = self._sessions.open(draft, beside=True)
        session = self._contexts[id(draft)].enter_context(opening)
        self._policy.prepare(session)
        self._opened[id(draft)] = session

    def _attempt(self, draft: Draft, step: Callable[[], None]) -> None:
        draft.attempt(step)
        if draft.failure is not None:
            self._contexts[id(draft)].close()  # what failed must not load the machine any more


class _FreshServers:
    """A new server for every step, one at a time."""

    fresh = True

    def __init__(self, sessions: Sessions, policy: Policy) -> None:
        self._sessions = sessions
        self._policy = policy

    def attempt(self, draft: Draft, number: int, step: Step) -> None:
        def take() -> None:
            with self._sessions.open(draft) as session:
                self._policy.prepare(session)
                step(session)

        draft.attempt(take)


def verify_best(drafts: Sequence[Draft], verify: Callable[[Draft, float], None]) -> None:
    """Verify the best one; where another one is best afterwards, that one as well."""
    tried: list[Draft] = []
    eligible = [draft for draft in drafts if not draft.subject.reference]
    for _ in eligible:
        best = max(eligible, key=lambda each: each.rank)
        rate = best.rate_to_verify
        if rate is None or any(best is each for each in tried):
            return
        verify(best, rate)
        tried.append(best)
