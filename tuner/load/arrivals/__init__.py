"""Arrival processes: the planned send times of one probe.

>>> str(Arrivals.parse("gamma:3"))
'gamma:3'
"""

import difflib
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, Protocol

import numpy as np

from tuner.errors import UsageError
from tuner.load.arrivals.piecewise import parse_profile
from tuner.load.arrivals.renewal import Constant, Gamma, Poisson, parse_variation
from tuner.load.arrivals.trace import Trace, read_trace
from tuner.stats.samples import Floats
from tuner.text import shown

CLOSED: Final = "closed"
ClosedLoop = Literal["closed"]
"""In place of arrivals: so many requests at a time."""


class Process(Protocol):
    """What spaces open-loop requests."""

    def times(self, rate: float, duration: float, rng: np.random.Generator) -> Floats:
        """Ascending send times; such outside of [0, duration) are cut by the caller."""

    def least_seconds(self, rate: float) -> float:
        """The length of one period at that rate; 0 if any stretch is like any other."""

    @property
    def own_rate(self) -> float | None:
        """The rate (requests/s) that the process has by itself; None if it takes any."""

    @property
    def sha256(self) -> str | None:
        """The digest of the file that it comes from, if any."""


_PLAIN: dict[str, Process] = {"poisson": Poisson(), "constant": Constant()}
_KINDS = (*_PLAIN, "gamma", "piecewise", "trace", CLOSED)


@dataclass(frozen=True)
class Arrivals:
    """How open-loop requests are spaced; ``text`` says it as ``--load`` takes it."""

    text: str
    process: Process = field(repr=False)

    POISSON: ClassVar["Arrivals"]
    CONSTANT: ClassVar["Arrivals"]

    @classmethod
    def parse(cls, text: str, here: bool = True) -> "Arrivals":
        """``poisson``, ``constant``, ``gamma:CV``, ``piecewise:1x5s,3x1s`` or ``trace:FILE``.

        UsageError if the text or a trace's file is invalid. The file is read now or, if it need not
        be ``here``, when its times are asked for.
        """
        kind, colon, rest = text.partition(":")
        match kind:
            case "poisson" | "constant" if not colon:
                return cls(text, _PLAIN[kind])
            case "gamma":
                return cls(text, Gamma(parse_variation(text, rest)))
            case "piecewise":
                return cls(text, parse_profile(text, rest))
            case "trace":
                return cls(text, read_trace(rest) if here else Trace(rest))
        if text == CLOSED:
            raise UsageError(
                "--load closed is a closed loop, which has no arrivals; choose an "
                "open loop, such as poisson"
            )
        if kind in _KINDS:
            raise UsageError(f"--load {shown(text)} is not valid; write {kind} alone")
        close = difflib.get_close_matches(kind, _KINDS, n=1)
        raise UsageError(
            f"--load {shown(text)} is unknown"
            + (f", did you mean {close[0]!r}?" if close else "")
            + "; choose poisson, constant, gamma:CV, piecewise:1x5s,3x1s, trace:FILE or closed"
        )

    def __str__(self) -> str:
        return self.text

    def least_seconds(self, rate: float) -> float:
        """Seconds that a probe at ``rate`` must last to see the whole pattern once; 0 if any
        stretch is like any other.
        """
        return self.process.least_seconds(rate)

    @property
    def own_rate(self) -> float | None:
        """Requests/s of a trace as it was recorded; None for what has no rate of its own."""
        return self.process.own_rate

    @property
    def sha256(self) -> str | None:
        """The digest of a trace's file."""
        return self.process.sha256


Arrivals.POISSON = Arrivals("poisson", _PLAIN["poisson"])
Arrivals.CONSTANT = Arrivals("constant", _PLAIN["constant"])


def schedule(arrivals: Arrivals, rate: float, duration: float, rng: np.random.Generator) -> Floats:
    """Planned send times in seconds from the start, ascending, all below ``duration``.

    ``rate`` is the mean number of requests per second. Whatever the process, the start is a random
    moment of it, so that the mean holds for any ``duration`` and probes do not beat.
    """
    if not rate > 0 or not duration > 0:
        raise ValueError(f"rate {rate} and duration {duration} must be greater than zero")
    times = arrivals.process.times(rate, duration, rng)
    return np.asarray(times[(times >= 0) & (times < duration)], dtype=np.float64)
