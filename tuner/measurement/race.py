"""When a draft needs no further round, and when none of them does."""

from collections.abc import Sequence
from typing import Protocol

from tuner.measurement.draft import Draft
from tuner.measurement.policies import is_settled, is_told
from tuner.measurement.settings import CONFIRMATION


class Race(Protocol):
    """``fresh`` says whether each round has a server of its own."""

    def most_rounds(self, fresh: bool) -> int: ...

    def leaves(self, draft: Draft, drafts: Sequence[Draft], fresh: bool) -> bool:
        """Whether no further round of the draft matters."""

    def is_over(self, drafts: Sequence[Draft], rounds: int, fresh: bool) -> bool:
        """Whether further rounds would tell nothing that matters, after so many."""


class AllRounds:
    """Every draft has so many rounds."""

    def __init__(self, number: int) -> None:
        self._number = number

    def most_rounds(self, fresh: bool) -> int:
        return self._number

    def leaves(self, draft: Draft, drafts: Sequence[Draft], fresh: bool) -> bool:
        return False

    def is_over(self, drafts: Sequence[Draft], rounds: int, fresh: bool) -> bool:
        return False


class ForTheBest:
    """Until it is settled which draft is the best; those known to be worse are left out."""

    def most_rounds(self, fresh: bool) -> int:
        return CONFIRMATION.rounds if fresh else CONFIRMATION.looks

    def leaves(self, draft: Draft, drafts: Sequence[Draft], fresh: bool) -> bool:
        return is_told(draft, drafts, fresh)

    def is_over(self, drafts: Sequence[Draft], rounds: int, fresh: bool) -> bool:
        return is_settled(drafts, rounds, fresh)
