"""The errors of models in Python as one line: the exception without its stack frames.

Triton's Python backend reports an exception with pybind11's list of frames ("At:" and a line for
each), and a model may add a traceback of its own. A user needs the exception; the frames would bury
it. TUNER_DEBUG=1 shows them, and the server's log has those that the server wrote.
"""

import os
import re
from collections.abc import Iterable

_BOUND_FRAMES = re.compile(r"\n\s*At:\s*\n(?:[ \t]+\S[^\n]*\(\d+\): [^\n]*(?:\n|$))+")
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):[ \t]*\n(?:[ \t][^\n]*(?:\n|$))*")
_CHAINED = re.compile(
    r"\n\s*(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):\s*\n\s*"
)
_SEPARATOR = ": "
_GROUP = "Exception Group Traceback"
_LONGEST = 64 << 10
"""Characters of a message that are looked at; only its beginning is shown."""


def without_frames(message: str) -> str:
    """A server's message with the last exception of each traceback, and no frames.

    With TUNER_DEBUG=1 it is the message itself.
    """
    if os.environ.get("TUNER_DEBUG") == "1":
        return message
    if _GROUP in message:  # all of it is indented as frames are
        return message
    text = _BOUND_FRAMES.sub("\n", message[:_LONGEST])
    if _TRACEBACK.search(text):
        head = text[: text.index("Traceback (")]
        last = _CHAINED.split(text)[-1]
        text = head + _TRACEBACK.sub("", last.removeprefix(head))
    bare = text.rstrip()
    if bare.endswith(";") and "\n" in bare[len(bare[:-1].rstrip()) :]:
        bare = bare[:-1]
    return bare.strip()


def news(lines: Iterable[str], message: str) -> list[str]:
    """Lines of a server's log without frames, except those that repeat the message.

    Servers log an error at each level it passes, with other words in front: the last two parts
    between colons, ``ValueError: no such file``, are those of the error itself.
    """
    plain = [without_frames(line.replace("\\n", "\n")).strip('"; \n') for line in lines]
    return [line for line in plain if _SEPARATOR.join(line.split(_SEPARATOR)[-2:]) not in message]
