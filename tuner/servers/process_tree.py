"""CPU time and memory of a tree of processes on this machine."""

from pathlib import Path

import psutil

from tuner.servers.base import ResourceUsage

_KIB = 1024


class ProcessTree:
    """A process and all below it, looked at again and again.

    CPU time never goes backwards: a process that ended stays counted through the parent that waited
    for it or, where no one did, by what was seen before.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu = 0.0

    def usage(self) -> ResourceUsage | None:
        """Their current use; None if the root process has ended."""
        try:
            root = psutil.Process(self._pid)
            if root.status() == psutil.STATUS_ZOMBIE:
                return None
            processes = [root, *root.children(recursive=True)]
        except psutil.Error:
            return None
        times = [seconds for process in processes if (seconds := _cpu(process)) is not None]
        sizes = [size for process in processes if (size := _resident(process)) is not None]
        if not times or not sizes:
            return None
        self._cpu = max(self._cpu, sum(times))
        proportional = [pss for pss, _ in sizes]
        if None in proportional:  # one measure for all of them
            memory = sum(rss for _, rss in sizes)
        else:
            memory = sum(pss for pss in proportional if pss is not None)
        return ResourceUsage(cpu=self._cpu, memory=memory, processes=len(sizes))


def _cpu(process: psutil.Process) -> float | None:
    """Seconds of the process and of its ended children; None if it is gone."""
    try:
        spent = process.cpu_times()
    except psutil.Error:
        return None
    return float(spent.user + spent.system + spent.children_user + spent.children_system)


def _resident(process: psutil.Process) -> tuple[int | None, int] | None:
    """Proportional set size, which shares out what several processes map, and resident set size.

    In bytes; the first is None if the kernel does not tell. None if the process has ended.
    """
    try:
        rss = int(process.memory_info().rss)
    except psutil.Error:
        return None
    return (_proportional(process.pid), rss) if rss else None


def _proportional(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * _KIB for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
