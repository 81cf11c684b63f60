"""From probes to capacity: which rate next, and when to stop."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tuner.sla import Outcome

_GIVE_UP = 0.03
_NARROW = 2.5


@dataclass(frozen=True)
class Finding:
    """What one probe says about its rate (requests/s).

    ``margin`` is the ratio of percentile to bound, None without data. ``repeat`` asks for the same
    rate again, since one stall or a few bursts decided; ``client_limited`` says that the client,
    not the server, was at its end.
    """

    rate: float
    outcome: Outcome
    margin: float | None
    repeat: bool = False
    client_limited: bool = False


@dataclass(frozen=True)
class Capacity:
    """The highest rate that met the Sla and the lowest that did not; None where there is none.

    ``client_limited`` says that the ceiling is the client's: the server may hold more.
    """

    rate: float | None
    ceiling: float | None
    margin: float | None
    client_limited: bool


@dataclass(frozen=True)
class Effort:
    """How finely to look. ``resolution`` is the ratio ceiling / rate - 1 that ends the search.

    A candidate whose ceiling falls to ``to_beat`` requests/s, within the resolution, cannot win,
    and is placed with ``coarse`` resolution only. A rate that misses narrowly is probed up to
    ``chances`` times.
    """

    resolution: float = 0.08
    coarse: float = 0.3
    to_beat: float = 0.0
    chances: int = 2
    most_probes: int = 16


def find_capacity(probe: Callable[[float], Finding], start: float, effort: Effort) -> Capacity:
    """Bracket the capacity from ``start`` requests/s on, then halve the bracket geometrically.

    A rate whose probe stays inconclusive counts as not met. A rate that missed narrowly gets more
    chances, with fresh arrivals: a noisy machine must not decide. Gives up, with no rate, when
    ``most_probes`` find none, or not even a small share of ``start`` is met.
    """
    bracket = _Bracket(effort)
    rate = start
    for _ in range(effort.most_probes):
        finding = probe(rate)
        bracket.add(finding)
        if bracket.deserves_another_chance(finding):
            continue
        if bracket.is_narrow:
            break
        rate = bracket.next_rate()
        if rate < _GIVE_UP * start:
            break
    return bracket.capacity()


def try_rate(probe: Callable[[float], Finding], rate: float, effort: Effort) -> Finding:
    """The finding at one rate, with the chances that a narrow miss deserves."""
    bracket = _Bracket(effort)
    while True:
        finding = probe(rate)
        bracket.add(finding)
        if not bracket.deserves_another_chance(finding):
            return finding


def find_concurrency(probe: Callable[[int], Finding], effort: Effort) -> Capacity:
    """In a closed loop: the highest throughput at a concurrency that meets the Sla.

    Concurrency doubles until the Sla breaks or throughput falls, then the gap is halved.
    """
    met: list[Finding] = []
    broken: list[Finding] = []
    low, high = 0, 0
    concurrency = 1
    for _ in range(effort.most_probes):
        finding = probe(concurrency)
        if finding.outcome is Outcome.MET:
            met.append(finding)
            low = concurrency
        else:
            broken.append(finding)
            high = concurrency
        stalled = len(met) > 2 and met[-1].rate < met[-2].rate < met[-3].rate
        if stalled or (high and high - low <= max(1, low // 8)):
            break
        concurrency = (low + high) // 2 if high else 2 * concurrency
    best = max(met, key=lambda f: f.rate, default=None)
    worst = min(broken, key=lambda f: f.rate, default=None)
    margins = [f.margin for f in broken if f.margin is not None]
    return Capacity(
        rate=best.rate if best else None,
        ceiling=worst.rate if worst and best and worst.rate > best.rate else None,
        margin=best.margin if best else min(margins, default=None),
        client_limited=False,
    )


class _Bracket:
    """What was met, and what was not: rates above the highest met one, each with its findings."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._low: Finding | None = None
        self._missed: dict[float, list[Finding]] = {}
        self._margins: list[float] = []

    def add(self, finding: Finding) -> None:
        if finding.margin is not None:
            self._margins.append(finding.margin)
        if finding.outcome is not Outcome.MET:
            self._missed.setdefault(finding.rate, []).append(finding)
        elif self._low is None or finding.rate > self._low.rate:
            self._low = finding
            self._missed = {r: found for r, found in self._missed.items() if r > finding.rate}

    @property
    def ceiling(self) -> Finding:
        """The latest finding of the lowest rate that was not met; there must be one."""
        return self._missed[min(self._missed)][-1]

    @property
    def is_narrow(self) -> bool:
        if self._low is None or not self._missed:
            return False
        resolution = self._effort.coarse if self._cannot_win else self._effort.resolution
        return self.ceiling.rate <= self._low.rate * (1 + resolution)

    def deserves_another_chance(self, finding: Finding) -> bool:
        """Whether the rate just missed should be probed again before it counts as missed."""
        if finding.outcome is Outcome.MET or finding.rate <= self._effort.to_beat:
            return False
        if len(self._missed[finding.rate]) >= self._effort.chances:
            return False
        return finding.repeat or (finding.margin is not None and finding.margin < _NARROW)

    @property
    def _cannot_win(self) -> bool:
        return self.ceiling.rate <= self._effort.to_beat * (1 + self._effort.resolution)

    def next_rate(self) -> float:
        """The middle of the bracket; while one end is open, a step whose length fits the margin."""
        if self._low is not None and self._missed:
            return math.sqrt(self._low.rate * self.ceiling.rate)
        if self._low is not None:
            margin = self._low.margin or 1.0
            return self._low.rate * (1.5 if margin < 0.4 else 1.2 if margin < 0.7 else 1.08)
        margin = self.ceiling.margin if self.ceiling.margin is not None else math.inf
        return self.ceiling.rate * (0.87 if margin < 1.4 else 0.72 if margin < 3 else 0.5)

    def capacity(self) -> Capacity:
        closest = min(self._margins, default=None)
        return Capacity(
            rate=self._low.rate if self._low else None,
            ceiling=self.ceiling.rate if self._missed else None,
            margin=self._low.margin if self._low else closest,
            client_limited=bool(self._missed) and self.ceiling.client_limited,
        )
