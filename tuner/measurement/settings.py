"""Settings of measurements: durations, confidences and ranges, each with its unit and reason.

docs/explanation/measuring.md has those of searches and measurements as a table.
"""

from dataclasses import dataclass, replace

from tuner.goals.verdict import judge_as_loadgen
from tuner.measurement.capacity import Effort
from tuner.measurement.watch import Thoroughness

SEARCH_PROBE = Thoroughness(seconds=3.0, least_seconds=1.5, most_seconds=20.0, confidence=0.95)
"""One of several probes that a capacity is fitted to."""
SHORT_PROBE = replace(SEARCH_PROBE, seconds=2.0)
"""If the capacity is roughly known, from a simulation or an earlier round."""
RACE_PROBE = replace(SHORT_PROBE, seconds=1.5)
"""Of a candidate that was simulated, in a search: what matters is measured again."""
CHALLENGE_PROBE = replace(SHORT_PROBE, least_seconds=1.0, settle=True)
"""Whether a challenger meets the SLA at the rate to beat: ends with the first verdict."""
SHARE_PROBE = replace(SEARCH_PROBE, seconds=2.0, least_seconds=2.0)
"""Latency below capacity: always full length, since it decides nothing."""
CLOSED_PROBE = Thoroughness(
    seconds=15.0, least_seconds=1.5, most_seconds=30.0, confidence=0.95, settle=True
)
"""One concurrency of a closed loop, judged by itself: no fit pools these."""
VERIFICATION = Thoroughness(
    seconds=20.0, least_seconds=5.0, most_seconds=20.0, confidence=0.95, settle=True
)
"""The full test of one rate. What comes every few seconds is seen in the first five. What 20 s
leave open, since late requests come in long clusters, another 20 s mostly do, too."""
JUDGEMENT = replace(VERIFICATION, seconds=90.0, most_seconds=90.0, confidence=0.99)
"""The verdict of ``measure --rate``: it may take longer, at a higher confidence."""
LOADGEN_VERIFICATION = Thoroughness(
    seconds=60.0,
    least_seconds=60.0,
    most_seconds=120.0,
    confidence=0.99,
    settle=True,
    judge=judge_as_loadgen,
)
"""As MLPerf LoadGen's Server scenario asks: at least 60 s."""


@dataclass(frozen=True)
class CapacityEfforts:
    """What a capacity may cost, by what it is for."""

    search: Effort = Effort(width=0.08, seconds=12.5)
    """Nothing is expected: as narrow as a ranking needs, in about four probes of 3 s."""
    race: Effort = Effort(width=0.1, seconds=3.0, doubt=0.2, fewest=2, first_step=1.15)
    """A candidate that was simulated: two short probes; the confirmation is finer. Simulations are
    mostly right within 12 %: the second probe is no farther above."""
    baseline: Effort = Effort(width=0.3, seconds=3.0, fewest=1, first_step=1.15)
    """The baseline of a search that simulates: what it is worth, the confirmation tells."""
    measure: Effort = Effort(width=0.04, seconds=15.0, other_launches=True)
    """The command ``measure``: one candidate has all the attention."""
    first_server: Effort = Effort(seconds=9.0, other_launches=True, verified=True)
    """The first round of a confirmation on fresh servers: a launch is paid for, so use it."""
    next_server: Effort = Effort(
        width=0.0, seconds=6.0, fewest=2, other_launches=True, verified=True
    )
    """Its later rounds: the rate is known; all of the time goes into the interval."""
    side_by_side: Effort = Effort(
        width=0.0, seconds=1.5, fewest=1, reach=0.15, other_launches=True, verified=True
    )
    """A round of a confirmation on servers that are kept: rounds are cheap, so they are short. Its
    capacity is roughly known: a rate far from it tells nothing."""
    glance: Effort = Effort(
        width=0.0, seconds=0.0, fewest=1, reach=0.15, other_launches=True, verified=True
    )
    """A round of a finalist that can hardly win: one probe, so that its rounds stay paired."""
    gate_first: Effort = Effort(seconds=6.0, other_launches=True)
    """The first round of a gate on a fresh server."""
    gate_next: Effort = Effort(width=0.0, seconds=3.0, fewest=2, reach=0.15, other_launches=True)
    """Its later rounds: servers differ more than a longer probe would tell."""
    first_deployment: Effort = Effort(seconds=8.0, other_launches=True)
    """The first round of a comparison side by side: nothing is expected of a deployment."""
    next_deployment: Effort = Effort(width=0.0, seconds=4.0, fewest=2, other_launches=True)
    """Its later rounds."""


@dataclass(frozen=True)
class StartSettings:
    """Where probing begins."""

    of_saturation: float = 0.7
    """Share of the closed-loop throughput: below the capacity of most open-loop queues."""
    challenge: float = 1.03
    """Times the best capacity so far: what a challenger has to beat clearly to matter."""
    unloaded_seconds: float = 0.5
    """Seconds of one request at a time: tens of requests for all but the slowest models."""


@dataclass(frozen=True)
class ConfirmationSettings:
    """How finalists are compared."""

    fewest_rounds: int = 3
    """Of fresh servers: from which a bad one can be told from two that agree."""
    fewest_looks: int = 2
    """Rounds of servers that are kept: at two different times of the machine."""
    looks: int = 4
    """The same at most: two to find the capacity, two to see it again."""
    rounds: int = 5
    """At most: further ones hardly narrow the intervals, as servers of one configuration differ."""
    precision: float = 0.07
    """Standard error of the logarithm of a finalist's capacity, where its server is kept. Much
    of it is what launches differ by, which no further round makes less; half of all are off by
    less than 5 % then."""
    rounds_at_rate: int = 3
    """Where a cost at one rate is compared: its reading scatters more than any rule could tell."""
    error: float = 0.05
    """Probability that the comparison with the baseline ends with the wrong one of them ahead: its
    looks share it, one after each round."""
    loss: float = 0.01
    """Share of the winner's capacity that is expected to be lost by leaving another finalist, below
    which it is left: as much as a search goes on for."""
    verification_share: float = 0.35
    """Of the time that is left for a confirmation: kept for the verification at its end."""
    agreement: float = 0.08
    """max / min - 1 of the winner's servers, beyond their errors: wider, one of them had a bad
    time, and a further one tells which."""
    outdone: float = 0.05
    """Probability of being the best below which a finalist's rounds are cut short."""
    above: float = 1.05
    """Times the capacity so far: where a round begins if the one before ended with a rate that was
    kept. Rates on either side of it tell most, and one of them per round is enough."""
    below: float = 0.98
    """The same, if it ended with one that was not."""
    attempts: tuple[float, ...] = (0.8, 0.1, 0.1)
    """Each verification's share of the probability of error: they add up to one, and the first, at
    the recommended rate, mostly is the only one.
    """
    easier: float = 0.85
    """Times the rate that a verification failed at: low enough to be clearly easier."""


@dataclass(frozen=True)
class WarmUpSettings:
    """Saturation by detection."""

    least_concurrency: int = 8
    """Requests: keeps a small model busy in spite of the client's own time."""
    most_concurrency: int = 256
    """Requests: more only wait, and a slow model would take minutes to drain them."""
    candidate_concurrency: int = 8
    """Requests during calibration, where the sweep that follows saturates the server anyhow."""


@dataclass(frozen=True)
class FixedRateSettings:
    """Probes at the given rate of a search that minimizes a cost."""

    seconds: float = 4.0
    """Seconds at least: readings of the GPU and the host are means over the probe."""


@dataclass(frozen=True)
class DeploymentSettings:
    """Probes below capacity in a comparison."""

    shares: tuple[float, ...] = (0.5, 0.25, 0.75)
    """Of the capacity, round by round: half load first, as most services are sized for it."""


@dataclass(frozen=True)
class GateSettings:
    """How two versions of a model are compared until the verdict is clear."""

    error: float = 0.05
    """Probability of passing a change that loses the margin, and of failing one that loses nothing:
    the looks after each round share it."""
    rounds: int = 8
    """At most. Each has a fresh server of either version: servers of one version differ by some
    per cent, which only further launches average out."""
    round_seconds: float = 15.0
    """Of two launches and their probes: so many rounds are planned for as fit into the time limit,
    since the error is shared by all that are planned."""
    fewest: int = 4
    most: int = 24

    def within(self, timeout: float, versions: int = 2) -> "GateSettings":
        """With as many rounds of so many versions as are to be expected in so many seconds."""
        rounds = round(timeout / (self.round_seconds * versions / 2))
        return replace(self, rounds=min(max(rounds, self.fewest), self.most))


EFFORTS = CapacityEfforts()
GATE = GateSettings()
START = StartSettings()
CONFIRMATION = ConfirmationSettings()
WARM_UP = WarmUpSettings()
FIXED_RATE = FixedRateSettings()
DEPLOYMENTS = DeploymentSettings()
