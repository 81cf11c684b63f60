"""What commands left behind: processes, shared memory, temporary files, half-written records."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

_SHM = Path("/dev/shm")
_HALF_WRITTEN = re.compile(r".*\.partial|\.export-.*|tuner-.*")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Those whose command line or environment names the folder."""
    mark, found = str(folder).encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            if mark in told:
                found.append(psutil.Process(int(entry.name)))
        except (OSError, psutil.Error):  # it has ended
            continue
    return [each for each in found if _runs(each)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def left(folder: Path, temporary: Path, runs: Iterable[Path], pids: Iterable[int]) -> list[str]:
    """What is there although every command has ended; ``pids`` are those of the commands."""
    return [
        *(f"process {each.pid}: {_words(each)}" for each in processes_of(folder)),
        *(f"shared memory {name}" for name in _shared_memory(set(pids))),
        *(f"temporary {path.name}" for path in temporary.iterdir()),
        *_half_written(runs),
    ]


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:120]
    except psutil.Error:
        return "ended"


def _shared_memory(pids: set[int]) -> Iterator[str]:
    """Names hold the id of the process that they belong to."""
    for path in _SHM.glob("tuner-*"):
        match = re.fullmatch(r"tuner-[a-z]+-\d+-(\d+)-\d+-.*", path.name)
        if match is not None and int(match[1]) in pids:
            yield path.name


def _half_written(runs: Iterable[Path]) -> Iterator[str]:
    for run in runs:
        if not (run / "experiment.yaml").exists():
            yield f"{run.name} without experiment.yaml"
        yield from (f"{run.name}/{p.name}" for p in run.iterdir() if _HALF_WRITTEN.match(p.name))
