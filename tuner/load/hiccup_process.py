"""The process of the hiccup meter: ``python hiccup_process.py BOARD CORE…``, told by stdin.

A fork pinned to each core sleeps and writes down when it woke late; the process itself, at an
ordinary priority, compares what all processes used with what tuner and the server did. Started by
its path, with nothing but the standard library, so that it is there in a moment and small.
``hiccups`` is the other end.
"""

import contextlib
import mmap
import os
import select
import signal
import struct
import sys
import time
from dataclasses import dataclass

HEAD, ROWS = 4, 4096
"""Numbers before the stalls of a slot (stalls so far, last wake-up, period, 1 if stopped), and how
many of its last stalls a slot holds; each is a start and seconds."""
SLOT_BYTES = 8 * (HEAD + 2 * ROWS)


@dataclass(frozen=True)
class MeterSettings:
    """How often it looks, and what it calls a stall. Times in seconds."""

    least_period: float = 0.002
    """Between wake-ups of a core: a stall of a few milliseconds is not missed."""
    most_period: float = 0.01
    """The same where a wake-up is dear, as on a virtual machine."""
    cost: float = 0.006
    """Of its core, for each fork: the period grows until it is kept."""
    adjust: float = 1.2
    """Times the period, when it is changed."""
    late: float = 0.005
    """Behind its time, from which a wake-up counts as a stall: a hundred times the usual."""
    check_every: int = 128
    """Wake-ups from one look at its own cost, and at whether it is still wanted, to the next."""
    priority: int = 1
    """Of SCHED_FIFO: above all ordinary processes, the server's own included, below all others of
    real time."""
    niceness: int = -20
    window: float = 0.05
    """Over which the use of other processes is taken: five of the kernel's ticks."""
    foreign: float = 0.5
    """Cores that others use, from which they disturb."""
    rescan: float = 2.0
    """Between looks at all processes while nothing seems to disturb."""
    scan_cost: float = 0.005
    """Of a core, for looks at all processes while something disturbs: hundreds take milliseconds.
    """


SETTINGS = MeterSettings()


class Slot:
    """One writer's part of the board."""

    def __init__(self, board: mmap.mmap, number: int) -> None:
        self._board, self._at = board, number * SLOT_BYTES
        self._count = 0

    def add(self, start: float, seconds: float) -> None:
        row = self._at + 8 * (HEAD + 2 * (self._count % ROWS))
        struct.pack_into("dd", self._board, row, start, seconds)
        self._count += 1
        struct.pack_into("d", self._board, self._at, float(self._count))

    def extend(self, seconds: float) -> None:
        """The last stall lasted so long."""
        row = self._at + 8 * (HEAD + 2 * ((self._count - 1) % ROWS))
        struct.pack_into("d", self._board, row + 8, seconds)

    def beat(self, now: float, period: float) -> None:
        struct.pack_into("dd", self._board, self._at + 8, now, period)


def raise_priority() -> bool:
    """Whether this process now runs in real time; else as high as it is allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(SETTINGS.priority))
    except OSError:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, SETTINGS.niceness)
        return False
    return True


class Waited:
    """For how long this process was ready to run and another one ran: where it has an ordinary
    priority, that is competition, perhaps the server's, and no stall of the machine.
    """

    def __init__(self) -> None:
        self._file = os.open("/proc/self/schedstat", os.O_RDONLY)

    def seconds(self) -> float:
        return int(os.pread(self._file, 64, 0).split()[1]) * 1e-9


def watch_core(slot: Slot, core: int, is_real_time: bool) -> None:
    """Sleep, and write down each wake-up that was late, until the parent is gone."""
    os.sched_setaffinity(0, {core})
    parent, period = os.getppid(), SETTINGS.least_period
    waited = None
    if not is_real_time:
        try:
            waited = Waited()
        except OSError:
            return  # it could not tell a stall from the server's own load
    before = waited.seconds() if waited else 0.0
    spent, woken, last = time.process_time(), 0, time.monotonic()
    looked = last
    while True:
        time.sleep(period)
        now = time.monotonic()
        late = now - last - period
        if late > SETTINGS.late:
            if waited is not None:
                late -= waited.seconds() - before
            if late > SETTINGS.late:
                slot.add(last, now - last)  # it may have begun at any time since
        slot.beat(now, period)
        last, woken = now, woken + 1
        if woken % SETTINGS.check_every == 0 or late > SETTINGS.late:
            if os.getppid() != parent:
                return
            before = waited.seconds() if waited else 0.0
        if woken == SETTINGS.check_every:
            share = (time.process_time() - spent) / (now - looked)
            if share > SETTINGS.cost:
                period = min(period * SETTINGS.adjust, SETTINGS.most_period)
            elif share < SETTINGS.cost / SETTINGS.adjust**2:
                period = max(period / SETTINGS.adjust, SETTINGS.least_period)
            spent, looked, woken = time.process_time(), now, 0


@dataclass
class Process:
    """``spent`` is in ticks, with that of its ended children; it may be the kernel's own."""

    parent: int
    spent: int
    is_kernel: bool


_KERNEL_THREAD = 0x00200000  # PF_KTHREAD


def read_process(pid: int) -> Process | None:
    """None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    spent = sum(map(int, fields[11:15]))
    return Process(int(fields[1]), spent, bool(int(fields[6]) & _KERNEL_THREAD))


class Foreign:
    """What processes use that are neither in the trees of tuner and the server nor the kernel's.

    Each look at a few files compares the time that all processes used with that of the known ones.
    Only where much is missing are all looked at: it counts as foreign as far as they account for
    it, so that what the server starts by itself is never taken for somebody else.
    """

    def __init__(self) -> None:
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._stat = os.open("/proc/stat", os.O_RDONLY)
        self._roots: frozenset[int] = frozenset()
        self._known: dict[int, int] = {}
        self._others: dict[int, int] = {}
        self._busy = 0
        self._scanned = 0.0
        self._scan_seconds = 0.0
        self._disturbs = False

    def follow(self, roots: frozenset[int]) -> None:
        """Watch from now on; with no ``roots``, nothing is."""
        self._roots = roots
        if roots:
            self._scan(time.monotonic())
            self._busy = self._total()

    def disturbs(self, seconds: float, now: float) -> bool:
        """Whether others used more than is allowed in the last so many ``seconds``."""
        if not self._roots:
            return False
        total = self._total()
        used, self._busy = total - self._busy, total
        for pid in list(self._known):
            process = read_process(pid)
            if process is not None:
                used -= process.spent - self._known[pid]
                self._known[pid] = process.spent
            else:
                del self._known[pid]
        allowed = SETTINGS.foreign * seconds * self._ticks
        since, affordable = now - self._scanned, self._scan_seconds / SETTINGS.scan_cost
        if used < allowed:
            self._disturbs = False
            if since > max(SETTINGS.rescan, affordable):
                self._scan(now)
        elif not self._disturbs or since > affordable:
            self._disturbs = self._scan(now) >= allowed
        return self._disturbs

    def _total(self) -> int:
        """Ticks that processes used, without interrupts, and without what a hypervisor took."""
        return sum(map(int, os.pread(self._stat, 256, 0).split(b"\n", 1)[0].split()[1:4]))

    def _scan(self, now: float) -> int:
        """Look at all processes; the ticks that others used since the last scan, 0 if the trees
        have grown, for what is new in them may have used what seemed foreign.
        """
        began = time.thread_time()
        found = {}
        for name in os.listdir("/proc"):
            if name.isdecimal() and (process := read_process(int(name))) is not None:
                found[int(name)] = process
        known = {pid for pid in self._roots if pid in found}
        grows = True
        while grows:
            below = {pid for pid, each in found.items() if each.parent in known} - known
            known |= below
            grows = bool(below)
        others = {p: e.spent for p, e in found.items() if p not in known and not e.is_kernel}
        used = sum(max(0, spent - self._others.get(pid, 0)) for pid, spent in others.items())
        has_grown = not known <= set(self._known)
        self._known = {pid: found[pid].spent for pid in known}
        self._others, self._scanned = others, now
        self._scan_seconds = time.thread_time() - began
        return 0 if has_grown else used


def main(path: str, cores: list[int]) -> None:
    """Until stdin ends; a line on it names the processes of tuner and the server, or none."""
    with open(path, "r+b") as file:
        board = mmap.mmap(file.fileno(), (len(cores) + 1) * SLOT_BYTES)
    forks = []
    for number, core in enumerate(cores):
        forks.append(os.fork())
        if forks[-1] == 0:
            os.close(0)
            with contextlib.suppress(OSError, KeyboardInterrupt):
                watch_core(Slot(board, number), core, raise_priority())
            os._exit(0)
    try:
        watch_others(Slot(board, len(cores)))
    finally:
        for pid in forks:
            os.kill(pid, signal.SIGKILL)


def watch_others(slot: Slot) -> None:
    foreign, text = Foreign(), b""
    last = time.monotonic()
    begun: float | None = None
    while True:
        if select.select([0], [], [], SETTINGS.window)[0]:
            more = os.read(0, 65536)
            if not more:
                return
            *lines, text = (text + more).split(b"\n")
            if lines:
                foreign.follow(frozenset(map(int, lines[-1].split())))
                last, begun = time.monotonic(), None
            continue
        now = time.monotonic()
        if foreign.disturbs(now - last, now):
            if begun is None:
                begun = last
                slot.add(begun, now - begun)
            else:
                slot.extend(now - begun)
        else:
            begun = None
        slot.beat(now, SETTINGS.window)
        last = now


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1], [int(core) for core in sys.argv[2:]])
