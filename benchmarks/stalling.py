"""Queues that are stalled now and then: by their machine, which a meter sees, or by themselves."""

from dataclasses import dataclass

import numpy as np

from benchmarks.queues import Rng
from tuner.stats.samples import Floats, Samples
from tuner.stats.stalls import Stall

METER_PERIOD = 0.01
"""Seconds between two wake-ups of the meter: by up to so much a stall seems to begin too early."""


@dataclass(frozen=True)
class Pauses:
    """Nothing is served in [start, end) of each; both of shape (k,), ascending, apart."""

    start: Floats
    end: Floats

    @classmethod
    def random(
        cls, per_second: float, shortest: float, longest: float, until: float, rng: Rng
    ) -> "Pauses":
        """Poisson, each of a uniform length in seconds; none overlaps the one before."""
        gaps = rng.exponential(1 / per_second, int(2 * per_second * until) + 20)
        lengths = rng.uniform(shortest, longest, len(gaps))
        start = np.cumsum(gaps) + np.concatenate(([0.0], np.cumsum(lengths)[:-1]))
        keep = start < until
        return cls(start[keep], (start + lengths)[keep])

    @classmethod
    def none(cls) -> "Pauses":
        return cls(np.empty(0), np.empty(0))

    def joined(self, other: "Pauses") -> "Pauses":
        found: list[list[float]] = []
        pairs = [*zip(self.start, self.end, strict=True), *zip(other.start, other.end, strict=True)]
        for start, end in sorted(pairs):
            if found and start <= found[-1][1]:
                found[-1][1] = max(found[-1][1], end)
            else:
                found.append([start, end])
        table = np.array(found).reshape(-1, 2)
        return Pauses(table[:, 0], table[:, 1])

    def seen(self, rng: Rng) -> tuple[Stall, ...]:
        """As the meter writes them down: from its last wake-up before each."""
        early = rng.uniform(0, METER_PERIOD, len(self.start))
        rows = zip(self.start - early, self.end, strict=True)
        return tuple(Stall(float(a), float(b - a), 0) for a, b in rows)

    def _lost(self) -> Floats:
        """Seconds lost before each pause, and at the end, shape (k + 1,)."""
        return np.concatenate(([0.0], np.cumsum(self.end - self.start)))

    def working(self, times: Floats) -> Floats:
        """The seconds that were worked before each moment."""
        lost, number = self._lost(), np.searchsorted(self.start, times, "right")
        inside = np.zeros(len(times))
        within = number > 0
        inside[within] = np.maximum(0.0, self.end[number[within] - 1] - times[within])
        return np.asarray(times - lost[number] + inside)

    def clock(self, worked: Floats) -> Floats:
        """The moment at which so many seconds were worked."""
        lost = self._lost()
        number = np.searchsorted(self.start - lost[:-1], worked, "left")
        return np.asarray(worked + lost[number])


def one_server(rate: float, work: Floats, pauses: Pauses, rng: Rng) -> Samples:
    """Poisson arrivals, first come first served; the ``work`` of each in seconds, shape (n,). What
    a pause interrupts goes on after it.
    """
    times = np.cumsum(rng.exponential(1 / rate, len(work)))
    arrived = pauses.working(times)
    walk = np.cumsum(np.concatenate(([0.0], work[:-1] - np.diff(arrived))))
    done = arrived + walk - np.minimum.accumulate(walk) + work
    return Samples(times, times, pauses.clock(done), np.ones(len(work), dtype=bool))
