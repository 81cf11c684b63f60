"""What the machine's stalls did to the probes of a run."""

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.records.results import Evaluation, ProbeRecord
from tuner.stats.stalls import STALLS, Stall, merged


@dataclass(frozen=True)
class StallDoubtSettings:
    """From where on stalls are worth a sentence."""

    stalled: float = 0.005
    """Of the time: half the budget of a p99 goes to requests that came just then."""
    foreign: float = 0.05
    """Of the time in which another process has a core: what it does to the rest is not measured."""


SETTINGS = StallDoubtSettings()


@dataclass(frozen=True)
class MachineStalls:
    """So often ``per_minute``, and for up to ``longest`` seconds, all or some cores ran nothing; in
    ``decided`` of ``probes`` this made the difference, and ``undecidable`` were touched too much.
    """

    per_minute: float
    longest: float
    probes: int
    decided: int
    undecidable: int


@dataclass(frozen=True)
class ForeignLoad:
    """Other processes of this machine had half a core or more for this ``share`` of the time."""

    share: float


def stalls_of(probe: ProbeRecord) -> list[Stall]:
    """As the meter saw them; ``start`` in seconds from the probe's."""
    return [Stall(a, s, None if where == "foreign" else where) for a, s, where in probe.stalls]


def stall_doubts(evaluations: list[Evaluation]) -> Iterator[MachineStalls | ForeignLoad]:
    """Where they touched what was concluded, or take up much of the time."""
    probes = [p for e in evaluations for p in e.probes]
    seconds = sum(p.seconds for p in probes)
    if not seconds:
        return
    own = [_lengths(p, foreign=False) for p in probes]
    lengths = [length for each in own for length in each]
    second = [p.undisturbed for p in probes if p.undisturbed is not None]
    decided = sum(u.decides for u in second)
    undecidable = sum(u.left_out > STALLS.most_left_out for u in second)
    if lengths and (decided or undecidable or sum(lengths) >= SETTINGS.stalled * seconds):
        per_minute = 60 * len(lengths) / seconds
        yield MachineStalls(per_minute, max(lengths), len(probes), decided, undecidable)
    foreign = sum(length for p in probes for length in _lengths(p, foreign=True))
    if foreign >= SETTINGS.foreign * seconds:
        yield ForeignLoad(min(1.0, foreign / seconds))


def _lengths(probe: ProbeRecord, foreign: bool) -> list[float]:
    """Seconds of each stretch within the probe."""
    stalls = [stall for stall in stalls_of(probe) if (stall.core is None) is foreign]
    inside = [(max(0.0, a), min(b, probe.seconds)) for a, b in merged(stalls, longest=None)]
    return [b - a for a, b in inside if b > a]
