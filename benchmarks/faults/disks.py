"""Disks that are full or read-only, and shared memory that is full."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.fault import AT_WORK, MISSING, OK, REPORT, TRIAL, Fault, Scene, Strike
from benchmarks.faults.place import Place

_MIB = 1 << 20
_DISK = 48 * _MIB
"""Holds several runs with their reports, of 5 MB each."""
_SHARED = 64 * _MIB
_SPARE = (0, 4096, 40_000, 400_000)
"""Bytes that are left: enough for nothing, for a line, for samples, for less than a report."""
_STEP = 64 * 1024
_FULL = r"(?i)no space left|no room|disk is full|cannot write|disk I/O"


def _mount(*words: str) -> None:
    subprocess.run(("mount", *words), check=True, capture_output=True)


def _unmount(path: Path) -> None:
    subprocess.run(("umount", "--lazy", str(path)), check=True, capture_output=True)


def _small(
    choose: Callable[[Place], Path],
) -> Callable[[Place], contextlib.AbstractContextManager[None]]:
    """A disk of its own in the place of a folder."""

    @contextmanager
    def setting(place: Place) -> Iterator[None]:
        path = choose(place)
        path.mkdir(parents=True)
        _mount("-t", "tmpfs", "-o", f"size={_DISK}", "tuner-faults", str(path))
        try:
            yield
        finally:
            _unmount(path)

    return setting


def _output(place: Place) -> Path:
    return place.output


def _temporary(place: Place) -> Path:
    return place.temporary


def _fill(disk: Path, spare: int) -> Path:
    """A file that leaves so many bytes of the disk; others may write meanwhile."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        while True:
            state = os.statvfs(disk)
            size = state.f_bavail * state.f_frsize - spare
            if size <= 0:
                return filler
            try:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + size)
                return filler
            except OSError:
                spare += _STEP


def _filled(choose: Callable[[Place], Path]) -> Strike:
    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        filler = _fill(choose(scene.place), scene.rng.choice(_SPARE))
        yield
        filler.unlink()

    return strike


@contextmanager
def _read_only(scene: Scene) -> Iterator[None]:
    """A read-only view is laid over the folder: files that are open stay writable, as on a disk
    that was just remounted.
    """
    output = scene.place.output
    _mount("--bind", str(output), str(output))
    try:
        _mount("-o", "remount,bind,ro", str(output))
        yield
    finally:
        _unmount(output)


@contextmanager
def _own_shared_memory(place: Place) -> Iterator[None]:
    """The command and all below it see another /dev/shm, which goes with them."""
    script = f'mount -t tmpfs -o size={_SHARED} tuner-faults /dev/shm && exec "$@"'
    place.before = ("unshare", "--mount", "sh", "-c", script, "sh")
    yield


@contextmanager
def _shared_memory_filled(scene: Scene) -> Iterator[None]:
    root = Path(f"/proc/{scene.command.pid}/root/dev/shm")
    _fill(root, scene.rng.choice((0, *_SPARE)))
    yield


_MOUNTS = frozenset({"mounts"})

DISKS = (
    Fault(
        "disk-full",
        "no room where runs are kept, from the start",
        _filled(_output),
        (),
        (MISSING, OK),
        _FULL,
        setting=_small(_output),
        needs=_MOUNTS,
    ),
    Fault(
        "disk-fills",
        "no room where runs are kept, from some moment on",
        _filled(_output),
        (AT_WORK, TRIAL),
        (MISSING, OK),
        _FULL,
        setting=_small(_output),
        needs=_MOUNTS,
    ),
    Fault(
        "disk-full-at-report",
        "no room where runs are kept, when the search ends",
        _filled(_output),
        (REPORT,),
        (MISSING, OK),
        _FULL,
        setting=_small(_output),
        needs=_MOUNTS,
    ),
    Fault(
        "temporary-full",
        "no room for temporary files",
        _filled(_temporary),
        (),
        (MISSING, OK),
        _FULL,
        setting=_small(_temporary),
        needs=_MOUNTS,
    ),
    Fault(
        "shared-memory-fills",
        "no room in /dev/shm, from some moment on",
        _shared_memory_filled,
        (AT_WORK, TRIAL),
        (MISSING, OK),
        r"/dev/shm",
        causes=("out of memory", "died"),
        why="shared memory|SIGBUS",
        setting=_own_shared_memory,
        needs=_MOUNTS,
    ),
    Fault(
        "read-only",
        "the folder of runs cannot be written any more",
        _read_only,
        (AT_WORK, TRIAL, REPORT),
        (MISSING, OK),
        r"(?i)read-?only|cannot write|unable to open",
        needs=_MOUNTS,
    ),
    Fault(
        "read-only-at-start",
        "the folder of runs cannot be written from the start",
        _read_only,
        (),
        (MISSING,),
        r"(?i)read-?only|cannot write|unable to open",
        needs=_MOUNTS,
    ),
)
