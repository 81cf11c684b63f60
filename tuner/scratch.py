"""Temporary folders that belong to this process; those of processes that died are swept away."""

import os
import re
import shutil
import tempfile
from pathlib import Path

_OWNED = re.compile(r"tuner-[a-z]+-(\d+)-(\d+)-\w+")


def scratch_folder(purpose: str, parent: Path | None = None) -> "tempfile.TemporaryDirectory[str]":
    """A new folder ``tuner-<purpose>-<pid namespace>-<pid>-…`` in ``parent`` or the system's own.

    ``purpose`` is one word of lower-case letters. A process that was killed could not remove its
    folders, so they are removed here.
    """
    place = parent or Path(tempfile.gettempdir())
    for folder in place.glob(f"tuner-{purpose}-*"):
        owner = _OWNED.fullmatch(folder.name)
        if owner is None or owner[1] != _namespace():  # of another container, perhaps
            continue
        if not Path(f"/proc/{owner[2]}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_prefix(purpose)}-", dir=place)


def _prefix(purpose: str) -> str:
    return f"tuner-{purpose}-{_namespace()}-{os.getpid()}"


def _namespace() -> str:
    """The process namespace, within which a process id means something."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"
