"""Makes text from elsewhere safe and short for a terminal.

>>> shown("20")
"'20'"
>>> len(shortened("x" * 1000))
203
"""

import re
import reprlib
from typing import Any

LONGEST = 200
"""Characters of one quotation: more would hide what the message is about."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, those that reverse the direction of writing, and bytes
of file names that are no text."""


def printable(text: str) -> str:
    r"""The text with its control characters spelled out, such as ``\x1b``.

    Text of a server or file could otherwise move the cursor, hide lines, or set the title.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shortened(text: str) -> str:
    """The printable text, cut in the middle where it is long."""
    if len(text) > LONGEST:
        end = LONGEST // 4
        text = f"{text[: LONGEST - end]} … {text[-end:]}"
    return printable(text)


class _Quoting(reprlib.Repr):
    """``repr`` that looks at no more than it shows: what aliases repeat may have gigabytes."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 8
        self.maxstring = self.maxother = 2 * LONGEST  # the rest is cut by ``shortened``

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to print a number of thousands of digits."""
        return repr(x) if x.bit_length() < 4 * LONGEST else f"a number of {x.bit_length():,} bits"


_QUOTING = _Quoting()


def shown(value: Any) -> str:
    """As ``repr``, cut in the middle where it is long."""
    return shortened(_QUOTING.repr(value))
