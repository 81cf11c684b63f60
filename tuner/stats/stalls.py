"""Stalls of the machine, seen by a hiccup meter, and the requests that they may have delayed.

docs/explanation/machine.md has the rule, and says why it excuses no stall of the server's own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.stats.samples import Bools, Ints, Samples


@dataclass(frozen=True)
class StallSettings:
    """Which stalls count, and how far they reach."""

    least: float = 0.1
    """Of the limit: a shorter stall moves no latency by more than that, and leaves nothing out."""
    longest_foreign: float = 1.0
    """Seconds: another process that takes a core for longer is no stall, but how the machine is."""
    longest_backlog: float = 10.0
    """Times the stall: what takes longer to work off is a server without room, and counts."""
    spread: float = 2.0
    """Times the mean time that a backlog takes: arrivals and services are random, and with the mean
    alone, simulated rests had up to ten times as many late requests as the same queue undisturbed.
    """
    unknown_backlog: float = 3.0
    """The same where the server's throughput is unknown: as if three quarters of it were used."""
    most_left_out: float = 0.5
    """Of the requests: what is left of a probe has to be the rule, and not the exception."""
    fewest: int = 2
    """Stalls, before a machine is called unfit: one may come at any time."""


STALLS = StallSettings()


@dataclass(frozen=True)
class Stall:
    """From ``start`` on, for so many ``seconds``, a ``core`` ran nothing; None: another process,
    which is not tuner's nor the server's, had at least half a core.
    """

    start: float
    seconds: float
    core: int | None = None

    @property
    def end(self) -> float:
        return self.start + self.seconds


def merged(
    stalls: Iterable[Stall], least: float = 0.0, longest: float | None = STALLS.longest_foreign
) -> list[tuple[float, float]]:
    """Start and end of each stretch in which something stalled for ``least`` seconds or more, in
    order; stalls of several cores at once are one. Of other processes, those that lasted no longer
    than ``longest``.
    """
    found: list[tuple[float, float]] = []
    for stall in sorted(stalls, key=lambda each: each.start):
        is_lasting = stall.core is None and longest is not None and stall.seconds > longest
        if stall.seconds < least or is_lasting:
            continue
        if found and stall.start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stall.end))
        else:
            found.append((stall.start, stall.end))
    return found


def backlog_seconds(stalled: float, load: float | None) -> float:
    """How long the backlog of a stall takes to be worked off, in seconds.

    What arrived in ``stalled`` seconds at the rate r waits, and the server, whose throughput is m,
    catches up at m - r: in the mean in stalled * load / (1 - load), with ``load`` = r / m (None:
    unknown). Twice that, but never more than ten times the stall.
    """
    if load is None:
        times = STALLS.unknown_backlog
    else:
        times = load / (1 - load) if load < 1 else STALLS.longest_backlog
    return stalled * min(STALLS.spread * times, STALLS.longest_backlog)


def touched(
    samples: Samples,
    stalls: Sequence[Stall],
    limits: tuple[float, float],
    load: float | None = None,
) -> Bools:
    """The requests that the stalls may have delayed, as a mask of shape (n,).

    Those that were intended from one limit before a stall's start, since the stall may have taken
    what was left of their time, until its backlog is worked off: by ``backlog_seconds`` at the
    latest, and sooner where a request finds no more outstanding before it than is usual. No request
    is left out for being late. ``limits`` are the tightest and the loosest of the SLA, in seconds.
    """
    mask = np.zeros(len(samples), dtype=bool)
    stretches = merged(stalls, STALLS.least * limits[0])
    if not len(samples) or not stretches:
        return mask
    reach = [
        (start - limits[1], end, end + backlog_seconds(end - start, load))
        for start, end in stretches
    ]
    times = samples.intended
    for first, _, last in reach:
        mask |= (times >= first) & (times < last)
    waiting = _outstanding(samples)
    usual = float(np.median(waiting[~mask])) if not mask.all() else 0.0
    mask[:] = False
    for first, end, last in reach:
        begin, stop = np.searchsorted(times, (end, last))
        calm = np.flatnonzero(waiting[begin:stop] <= usual)
        if len(calm):
            stop = begin + calm[0]
        mask[np.searchsorted(times, first) : stop] = True
    return mask


def _outstanding(samples: Samples) -> Ints:
    """How many earlier requests each one found without a reply, shape (n,)."""
    done = np.sort(samples.done[~np.isnan(samples.done)])
    answered = np.searchsorted(done, samples.intended, "right")
    earlier = np.arange(len(samples))
    return np.maximum(earlier - answered, 0).astype(np.int64)


@dataclass(frozen=True)
class Unfitness:
    """In ``seconds`` there were ``number`` stalls that matter for a limit, of up to ``longest``
    seconds; together they took the ``share`` of the time, more than the error budget.
    """

    seconds: float
    number: int
    longest: float
    share: float

    @property
    def per_minute(self) -> float:
        return 60 * self.number / self.seconds


def unfitness(
    stalls: Iterable[Stall], seconds: float, limit: float, budget: float
) -> Unfitness | None:
    """Whether the stalls seen in so many ``seconds`` use up the error budget by themselves; None if
    they do not.

    Only those count that are longer than half the limit: with them a request is late as soon as it
    needs the other half itself.
    """
    stretches = merged(stalls, limit / 2 if math.isfinite(limit) else math.inf)
    lengths = [end - start for start, end in stretches]
    if len(lengths) < STALLS.fewest or seconds <= 0 or sum(lengths) < budget * seconds:
        return None
    return Unfitness(seconds, len(lengths), max(lengths), min(1.0, sum(lengths) / seconds))
