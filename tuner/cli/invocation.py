"""The command line as it was given, for the record, and when its process began."""

import os
import shlex
import sys
import time
from itertools import pairwise
from pathlib import Path

from tuner.security import hide_value, hide_variable

_HIDING = {"--header": hide_value, "--env": hide_variable}


def command_line() -> str:
    """The command line, with passwords of storage URLs, and values of headers and of variables,
    left out.
    """
    arguments = ["tuner"]
    for before, word in pairwise(sys.argv):
        for option, hide in _HIDING.items():
            if before == option:
                word = hide(word)
            elif word.startswith(f"{option}="):
                word = f"{option}={hide(word.partition('=')[2])}"
        arguments.append(_without_password(word))
    return shlex.join(arguments)


def command_began() -> float:
    """When the command began, on the monotonic clock: with its process if ``main`` runs it, now
    where some other program does.
    """
    program = Path(sys.argv[0])
    if program.name == "__main__.py":  # python -m tuner
        program = program.parent
    return process_began() if program.name == "tuner" else time.monotonic()


def process_began() -> float:
    """When this process began, on the monotonic clock: Linux counts it in ticks since the boot,
    after the name, which may hold spaces (field 22 of proc(5)'s stat).
    """
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    ticks = int(fields[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - max(0.0, age)


def _without_password(word: str) -> str:
    if "://" not in word:
        return word
    from tuner.optimizer.storage import hide_password

    option, separator, url = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + separator + hide_password(url)
