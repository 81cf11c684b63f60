"""Temporary folders that belong to this process; those of processes that died are swept away."""

import os
import re
import shutil
import tempfile
from pathlib import Path

_OWNED = re.compile(r"tuner-[a-z]+-(\d+)-\w+")


def scratch_folder(purpose: str, parent: Path | None = None) -> "tempfile.TemporaryDirectory[str]":
    """A new folder ``tuner-<purpose>-<pid>-…`` below ``parent`` (the system's own if None).

    ``purpose`` is one word of lower-case letters. A process that was killed could not remove its
    folders, so they are removed here.
    """
    place = parent or Path(tempfile.gettempdir())
    for folder in place.glob(f"tuner-{purpose}-*"):
        owner = _OWNED.fullmatch(folder.name)
        if owner is not None and not Path(f"/proc/{owner[1]}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"tuner-{purpose}-{os.getpid()}-", dir=place)
