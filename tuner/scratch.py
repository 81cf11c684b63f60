"""Temporary folders, and names that identify the process that owns a resource. Resources of
processes that died are removed.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tuner.errors import StorageError, write_remedy

OWNER_VARIABLE = "TUNER_OWNER"
"""Of the environment of a process that must not outlive its owner."""
_OWNED = re.compile(r"tuner-[a-z]+-(\d+-\d+-\d+)-.*", re.DOTALL)
_ENDED = "ZX"  # states of a process of which only its exit code is left
_OWNER = re.compile(r"(\d+)-(\d+)-(\d+)")


def scratch_folder(purpose: str, parent: Path | None = None) -> "tempfile.TemporaryDirectory[str]":
    """A new folder ``tuner-<purpose>-<owner>-…`` in ``parent`` or the system's own.

    ``purpose`` is one word of lower-case letters. A process that was killed could not remove its
    folders, so they are removed here. StorageError if none can be made.
    """
    try:
        place = parent or Path(tempfile.gettempdir())
        for folder in left_behind(place, purpose):
            shutil.rmtree(folder, ignore_errors=True)
        return tempfile.TemporaryDirectory(prefix=f"tuner-{purpose}-{owner()}-", dir=place)
    except OSError as error:
        remedy = write_remedy(error, *([] if parent else ["set TMPDIR to a writable folder"]))
        raise StorageError(
            f"cannot create a folder in {parent or 'TMPDIR'}: {error.strerror}; {remedy}"
        ) from error


def owned_name(purpose: str) -> str:
    """A new name ``tuner-<purpose>-<owner>-…``."""
    return f"tuner-{purpose}-{owner()}-{uuid4().hex[:12]}"


def left_behind(place: Path, purpose: str) -> Iterator[Path]:
    """The resources of this purpose whose owner has died."""
    for path in place.glob(f"tuner-{purpose}-*"):
        match = _OWNED.fullmatch(path.name)
        if match is not None and has_died(match[1]):
            yield path


def owner() -> str:
    """This process as ``<pid namespace>-<pid>-<start>``: ids come again, with another start."""
    pid = os.getpid()
    return f"{_namespace()}-{pid}-{_start(pid) or 0}"


def owned_environment() -> dict[str, str]:
    """The variables of a process that is to end with this one: where it went on although this one
    was killed, it is ended later on (see ``tuner.servers.leftovers``).
    """
    return {**os.environ, OWNER_VARIABLE: owner()}


def has_died(owner: str) -> bool:
    """Whether that process has certainly ended; False for one of another namespace."""
    match = _OWNER.fullmatch(owner)
    if match is None or match[1] != _namespace():  # of another container, perhaps
        return False
    return _start(int(match[2])) != int(match[3])


def _namespace() -> str:
    """The process namespace, within which a process id means something."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


def _start(pid: int) -> int | None:
    """When it began, in ticks since the machine did; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in _ENDED else int(fields[19])
