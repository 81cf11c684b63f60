"""The posterior of a configuration's capacity from all of its probes."""

import math
from dataclasses import dataclass

from tuner.goals.sla import Bound
from tuner.goals.verdict import LateCount, SlaOutcome
from tuner.measurement.watch import share_used
from tuner.stats.fit import Fit, ProbePoint, fit_rate, fit_servers, lowest


@dataclass(frozen=True)
class FittingSettings:
    """What a probe says of the rates about it."""

    guess: float = 0.9
    """Of the first rate: where the fit's prior is centered."""
    far: float = 8.0
    """Times the error budget: farther out a probe only says on which side its rate lies."""
    far_below: float = 0.5
    """Of the error budget: a probe in which less is late keeps its bound by far."""
    side: float = 0.5
    """The budget of a constraint: a reading is broken or not."""
    certainty: float = 20.0
    """Requests that such a reading counts as: enough to outweigh the prior, not other readings."""
    client_room: float = 0.97
    """Of the rate at which the client was at its end: nearer to it nothing is learned."""
    client_probes: int = 2
    """Probes that show it: one may be a moment of the machine."""
    margin: float = 0.07
    """From the capacity to the recommended rate, at least. Servers of one configuration differ by
    3 % from launch to launch, so what is stated and what another server holds do by 4 %: 7 % is 1.7
    times that, which nineteen of twenty keep if the scatter is normal."""
    most_margin: float = 0.15
    """The same at most, where the share of late requests hardly depends on the rate."""
    late_share: float = 0.25
    """Of the error budget that is late at the recommended rate, as the fit has it: where it rises
    gently, 7 % below the capacity nearly as many are late as there."""
    cliff_margin: float = 0.1
    """The same at a cliff, where a little more load makes many times as many requests late."""
    extrapolated: float = 0.9
    """Of the lowest rate that was tried: so far below it the fit is believed if a test follows."""
    launches: float = 0.03
    """Standard deviation of the logarithms of the capacities of one configuration's servers, where
    only one was launched and so tells nothing of it."""
    open_error: float = 0.3
    """Standard error of a capacity's logarithm of which no interval is known."""
    least_error: float = 1e-3
    """The same at least: no capacity is known better than to 0.1 %."""


EVIDENCE = FittingSettings()


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe at its rate (requests/s).

    ``bound_ratio`` is the ratio of percentile to bound, None without data. ``counts`` has one entry
    per bound, and one stall in it as one late request. ``repeat`` says that one stall decided;
    ``client_limited`` that the load generator, not the server, was saturated; ``seconds`` its
    length.
    """

    rate: float
    outcome: SlaOutcome
    bound_ratio: float | None
    counts: tuple[LateCount, ...] = ()
    repeat: bool = False
    client_limited: bool = False
    seconds: float = 0.0
    constraints: tuple[tuple[str, bool], ...] = ()
    """Each constraint, and whether the probe broke it."""
    server: int = 0
    """Which of a configuration's servers it was of, in the order of their launches."""

    @property
    def kept(self) -> bool:
        """Whether the samples, at face value, meet the SLA, and the readings all constraints."""
        broken = any(broken for _, broken in self.constraints)
        return self.bound_ratio is not None and self.bound_ratio <= 1 and not broken

    @property
    def keeps_by_far(self) -> bool:
        """Whether the SLA is met with less than half of each error budget used."""
        return self.kept and share_used(self.counts) <= EVIDENCE.far_below


def client_limit(results: list[ProbeResult]) -> float:
    """The rate at which the load generator is saturated: it was at two rates at least, and at all
    higher ones; else +inf. Once may be a moment of the machine.
    """
    sent = max((f.rate for f in results if not f.client_limited), default=0.0)
    limited = [f.rate for f in results if f.client_limited and f.rate > sent]
    return min(limited) if len(limited) >= EVIDENCE.client_probes else math.inf


def fit_results(results: list[ProbeResult], guess: float) -> Fit:
    """The posterior of the capacity: where the first of the bounds breaks, by all servers together.

    Probes with a saturated load generator say nothing about the server, and are excluded.
    """
    return _fit(results, guess)[0]


def error_of_one_server(fit: Fit) -> float:
    """The standard error of ln(capacity) of a configuration of which only one server is known."""
    return math.hypot(fit.error, EVIDENCE.launches)


def fit_by_server(results: list[ProbeResult], guess: float) -> list[Fit]:
    """The posterior of the capacity of each server, in the order of their launches."""
    return _fit(results, guess)[1]


def _fit(results: list[ProbeResult], guess: float) -> tuple[Fit, list[Fit]]:
    servers = [
        [result for result in results if result.server == number and not result.client_limited]
        for number in dict.fromkeys(result.server for result in results)
    ]
    used = [result for of_server in servers for result in of_server]
    bounds = dict.fromkeys(count.bound for result in used for count in result.counts)
    begin = EVIDENCE.guess * guess
    if not bounds:
        nothing = fit_rate([], EVIDENCE.side, begin)
        return nothing, [nothing] * len(servers)
    fits = [fit_servers([_points(r, b) for r in servers], b.budget, begin) for b in bounds]
    names = dict.fromkeys(name for r in used for name, broken in r.constraints if broken)
    fits += [fit_servers([_sides(r, n) for r in servers], EVIDENCE.side, begin) for n in names]
    by_server = zip(*(fits_by_server for _, fits_by_server in fits), strict=True)
    return lowest([common for common, _ in fits]), [lowest(list(fits)) for fits in by_server]


def _sides(results: list[ProbeResult], constraint: str) -> list[ProbePoint]:
    """A reading has no counts: it tells only on which side of the constraint its rate lies."""
    return [
        ProbePoint(result.rate, EVIDENCE.certainty if broken else 0.0, EVIDENCE.certainty)
        for result in results
        for name, broken in result.constraints
        if name == constraint
    ]


def _points(results: list[ProbeResult], bound: Bound) -> list[ProbePoint]:
    """Counts in effective requests.

    Probes near the bound share one design effect, their mean: each alone, it is larger where more
    happened to be late, and the capacity would come out too high.
    """
    pairs = [(f, c) for f in results for c in f.counts if c.bound == bound and c.n]
    near = [c for _, c in pairs if c.late <= EVIDENCE.far * bound.budget * c.n]
    shared = sum(c.effect * c.n for c in near) / sum(c.n for c in near) if near else 1.0
    points = []
    for result, count in pairs:
        effect = shared if count in near else max(shared, count.effect)
        points.append(ProbePoint(result.rate, count.late / effect, count.n / effect))
    return points
