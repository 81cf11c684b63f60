"""What became of each entry of a Model Analyzer configuration."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Fate = Literal["taken", "needless", "not taken"]


@dataclass(frozen=True)
class Note:
    """``place`` is the entry's path in the file; ``text`` what it became, why it is not needed, or
    why it was not taken.
    """

    place: str
    fate: Fate
    text: str


@dataclass
class Notes:
    """Each once, however often an entry is looked at."""

    found: list[Note] = field(default_factory=list)

    def taken(self, place: str, text: str) -> None:
        self._add(Note(place, "taken", text))

    def needless(self, place: str, text: str) -> None:
        self._add(Note(place, "needless", text))

    def missing(self, place: str, text: str) -> None:
        self._add(Note(place, "not taken", text))

    def _add(self, note: Note) -> None:
        if note not in self.found:
            self.found.append(note)

    def of(self, fate: Fate) -> Iterator[Note]:
        return (note for note in self.found if note.fate == fate)
