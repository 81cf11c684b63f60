"""Text from elsewhere that is to be shown on a terminal."""

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, those that reverse the direction of writing, and bytes
of file names that are no text."""


def printable(text: str) -> str:
    r"""The text with its control characters spelled out, such as ``\x1b``.

    What a server or a file says could otherwise move the cursor, hide lines, or set the title.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
