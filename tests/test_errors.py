"""Remedies name what was the matter."""

import errno
from pathlib import Path

import pytest

from tuner.errors import write_remedy
from tuner.records.run import cannot_write


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "free some disk space, or choose another --output"),
        (errno.EDQUOT, "free some disk space, or choose another --output"),
        (errno.ENOENT, "choose another --output"),
        (errno.EACCES, "choose another --output"),
    ],
)
def test_only_a_full_disk_asks_for_space(code: int, expected: str) -> None:
    message = cannot_write(Path("/proc/x"), OSError(code, "why"))
    assert message == f"cannot write /proc/x: why; {expected}"


def test_there_is_always_a_remedy() -> None:
    assert write_remedy(OSError(errno.EACCES, "why")) == "check the permissions"
