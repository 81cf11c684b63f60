"""The command line as it was given, for the record."""

import shlex
import sys
from itertools import pairwise

from tuner.security import hide_value


def command_line() -> str:
    """The command line, with passwords of storage URLs and values of headers left out."""
    arguments = ["tuner"]
    for before, word in pairwise(sys.argv):
        if before == "--header":
            word = hide_value(word)
        elif word.startswith("--header="):
            word = "--header=" + hide_value(word.removeprefix("--header="))
        arguments.append(_without_password(word))
    return shlex.join(arguments)


def _without_password(word: str) -> str:
    from tuner.optimizer.storage import hide_password

    option, separator, url = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + separator + (hide_password(url) if "://" in url else url)
