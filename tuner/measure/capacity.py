"""From probes to capacity: which rate next, when to stop, and what all probes together say."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scipy.special import ndtr

from tuner.goals.sla import Bound
from tuner.goals.verdict import LateCount, SlaOutcome
from tuner.stats.estimators import INTERVAL_WIDTH
from tuner.stats.fit import Fit, ProbePoint, fit_rate, fit_rounds, lowest

_GIVE_UP = 0.03
_FAR = 8.0
_GUESS = 0.9
_OFFSETS = (0.5, 0.0, 1.0, -0.5)
_STEP_DOWN, _STEP_UP = 0.1, 0.15
_LEAST, _MOST = 0.4, 1.35
_EASY, _MOST_EASY = 0.6, 2.0
_ONE_SIDED, _UNKEPT = 2.0, 4.0
_EVEN, _CERTAIN = 0.5, 20.0
_CLIENT_ROOM = 0.97
_CLEARLY_LOWER = 0.9
_FEWEST_PROBES = 3
_TWICE = 2
_MARGIN, _CLIFF_MARGIN = 0.05, 0.1
_OPEN_ERROR, _LEAST_ERROR = 0.3, 1e-3


@dataclass(frozen=True)
class Finding:
    """What one probe says about its rate (requests/s).

    ``margin`` is the ratio of percentile to bound, None without data. ``counts`` has one entry per
    bound, and one stall in it as one late request. ``repeat`` says that one stall decided;
    ``client_limited`` that the client, not the server, was at its end; ``seconds`` its length.
    """

    rate: float
    outcome: SlaOutcome
    margin: float | None
    counts: tuple[LateCount, ...] = ()
    repeat: bool = False
    client_limited: bool = False
    seconds: float = 0.0
    constraints: tuple[tuple[str, bool], ...] = ()
    """Each constraint, and whether the probe broke it."""
    round: int = 0
    """Which round of a confirmation it was in."""

    @property
    def kept(self) -> bool:
        """Whether the samples, taken at face value, keep the Sla, and the readings the rest."""
        broken = any(broken for _, broken in self.constraints)
        return self.margin is not None and self.margin <= 1 and not broken


@dataclass(frozen=True)
class Capacity:
    """The highest rate that meets the Sla, in requests/s; None where there is none.

    It is the median of what the probes leave possible, ``low`` and ``high`` are the central 95 %.
    ``recommended`` keeps a margin of it (see ``recommend``). ``steepness`` is that of the share of
    late requests (see ``tuner.stats.fit.Fit``). ``margin`` is that of the probe nearest below.
    ``client_limited`` says that the client was at its end: the server may hold more. ``beaten``
    says that the rate to beat is out of reach; where no rate was kept by then, only ``low`` and
    ``high`` are known.
    """

    rate: float | None
    low: float | None = None
    high: float | None = None
    steepness: float | None = None
    recommended: float | None = None
    margin: float | None = None
    client_limited: bool = False
    beaten: bool = False

    def chance_above(self, other: "Capacity") -> float:
        """The probability that it is higher than another one, both taken as log-normal."""
        if not self.rate:
            return 0.0
        if not other.rate:
            return 1.0
        error = math.hypot(*(_log_error(each) for each in (self, other)))
        return float(ndtr(math.log(self.rate / other.rate) / error))


def _log_error(capacity: Capacity) -> float:
    """The standard error of the logarithm that the 95 % interval stands for."""
    if not capacity.low or not capacity.high:
        return _OPEN_ERROR
    return max(math.log(capacity.high / capacity.low) / INTERVAL_WIDTH, _LEAST_ERROR)


@dataclass(frozen=True)
class Effort:
    """How finely to look: until the interval is ``width`` wide (high / low - 1), or ``seconds`` are
    spent on probes, of which there are at least ``fewest`` and at most ``most_probes``.

    A candidate that exceeds ``to_beat`` requests/s with less than the probability ``doubt`` is left
    at that.
    """

    width: float = 0.06
    seconds: float = 12.0
    to_beat: float = 0.0
    doubt: float = 0.025
    fewest: int = _FEWEST_PROBES
    most_probes: int = 16


Probe = Callable[[float], Finding]


def find_capacity(
    probe: Probe, start: float, effort: Effort, known: "list[Finding] | None" = None
) -> Capacity:
    """Probe from ``start`` requests/s on, each time where it tells most, and fit all probes.

    ``known`` are earlier findings of the same configuration; the new ones are appended to it. Gives
    up, with no rate, when not even a small share of ``start`` is met.
    """
    findings = known if known is not None else []
    begin, spent = len(findings), 0.0
    rate = start
    for number in range(effort.most_probes):
        finding = probe(rate)
        findings.append(finding)
        spent += finding.seconds
        fit = fit_findings(findings, start)
        if is_beaten(fit, effort):
            break
        if _is_enough(findings, begin, fit, spent, effort) or fit.rate < _GIVE_UP * start:
            break
        rate = _next_rate(findings, fit, _OFFSETS[number % len(_OFFSETS)])
        if rate >= _CLIENT_ROOM * client_limit(findings):
            break
    found = conclude(findings, start, _GIVE_UP * start)
    fit = fit_findings(findings, start)
    if not is_beaten(fit, effort):
        return found
    if found.rate is None:
        return replace(found, low=fit.low, high=fit.high, beaten=True)
    return replace(found, beaten=True)


def is_beaten(fit: Fit, effort: Effort) -> bool:
    """Whether the rate to beat is out of reach, as surely as is asked."""
    return effort.to_beat > 0 and fit.chance_above(effort.to_beat) < effort.doubt


def conclude(findings: list[Finding], guess: float, least: float = 0.0) -> Capacity:
    """What findings of one configuration say together; no rate where none kept the Sla."""
    fit = fit_findings(findings, guess)
    kept = [f for f in findings if f.kept and not f.client_limited]
    limit = client_limit(findings)
    limited = math.isfinite(limit) or all(f.client_limited for f in findings)
    margins = [f.margin for f in findings if f.margin is not None]
    if not kept or fit.rate < least:
        return Capacity(None, margin=min(margins, default=None), client_limited=limited)
    highest = max(f.rate for f in kept)
    if fit.high > limit:  # all that is known is what the client could send
        fit = _cut(fit, highest)
    nearest = max((f for f in kept if f.rate <= fit.high), key=lambda f: f.rate, default=kept[0])
    return Capacity(
        rate=fit.rate,
        low=fit.low,
        high=fit.high,
        steepness=fit.steepness,
        recommended=recommend(fit),
        margin=nearest.margin,
        client_limited=limited and fit.rate >= highest,
    )


def client_limit(findings: list[Finding]) -> float:
    """The rate at which the client is at its end: it was, at two rates at least, and never was not
    at a higher one; +inf where that is not so. Once may be a moment of the machine.
    """
    sent = max((f.rate for f in findings if not f.client_limited), default=0.0)
    limited = [f.rate for f in findings if f.client_limited and f.rate > sent]
    return min(limited) if len(limited) >= _TWICE else math.inf


def recommend(fit: Fit) -> float:
    """The rate to operate at: 5 % below capacity, 10 % at a cliff, and never above ``low``."""
    margin = _CLIFF_MARGIN if fit.is_cliff else _MARGIN
    return min(fit.low, (1 - margin) * fit.rate)


def fit_findings(findings: list[Finding], guess: float) -> Fit:
    """The belief about the capacity: where the first of the bounds breaks, by all servers together.

    Probes at which the client was at its end say nothing of the server, and are left out.
    """
    return _fit(findings, guess)[0]


def fit_by_round(findings: list[Finding], guess: float) -> list[Fit]:
    """The belief about the capacity of each server, in the order of their rounds."""
    return _fit(findings, guess)[1]


def _fit(findings: list[Finding], guess: float) -> tuple[Fit, list[Fit]]:
    rounds = [
        [f for f in findings if f.round == each and not f.client_limited]
        for each in dict.fromkeys(f.round for f in findings)
    ]
    used = [f for each in rounds for f in each]
    bounds = dict.fromkeys(count.bound for f in used for count in f.counts)
    if not bounds:
        nothing = fit_rate([], _EVEN, _GUESS * guess)
        return nothing, [nothing] * len(rounds)
    begin = _GUESS * guess
    fits = [fit_rounds([_points(r, b) for r in rounds], b.budget, begin) for b in bounds]
    names = dict.fromkeys(name for f in used for name, broken in f.constraints if broken)
    fits += [fit_rounds([_sides(r, name) for r in rounds], _EVEN, begin) for name in names]
    each = [lowest(list(of_one)) for of_one in zip(*(rounds for _, rounds in fits), strict=True)]
    return lowest([common for common, _ in fits]), each


def _sides(findings: list[Finding], constraint: str) -> list[ProbePoint]:
    """A reading has no counts: it tells only on which side of the constraint its rate lies."""
    return [
        ProbePoint(finding.rate, _CERTAIN if broken else 0.0, _CERTAIN)
        for finding in findings
        for name, broken in finding.constraints
        if name == constraint
    ]


def _points(findings: list[Finding], bound: Bound) -> list[ProbePoint]:
    """Counts in effective requests.

    Probes near the bound share one design effect, their mean: each alone, it is larger where more
    happened to be late, and the capacity would come out too high.
    """
    pairs = [(f, c) for f in findings for c in f.counts if c.bound == bound and c.n]
    near = [c for _, c in pairs if c.late <= _FAR * bound.budget * c.n]
    shared = sum(c.effect * c.n for c in near) / sum(c.n for c in near) if near else 1.0
    points = []
    for finding, count in pairs:
        effect = shared if count in near else max(shared, count.effect)
        points.append(ProbePoint(finding.rate, count.late / effect, count.n / effect))
    return points


def _is_enough(findings: list[Finding], begin: int, fit: Fit, spent: float, effort: Effort) -> bool:
    if len(findings) - begin < effort.fewest:
        return False
    if not any(f.kept for f in findings):
        return spent >= _UNKEPT * effort.seconds
    if all(f.kept for f in findings[begin:]):  # only a lower bound is known yet
        return spent >= _ONE_SIDED * effort.seconds
    return fit.width <= effort.width or spent >= effort.seconds


def _next_rate(findings: list[Finding], fit: Fit, offset: float) -> float:
    """Near the capacity, on either side by turns: ``offset`` more in log odds of being late.

    Rates a little above tell more per request than those below, where almost nothing is late.
    """
    aside = max(-_STEP_DOWN, min(offset / fit.steepness, _STEP_UP))
    rates = [finding.rate for finding in findings]
    at_most = _MOST_EASY if all((f.margin or 9.0) < _EASY for f in findings) else _MOST
    if len(findings) >= _TWICE and not any(f.kept for f in findings):
        at_most = _CLEARLY_LOWER * min(rates) / max(rates)
    return max(_LEAST * min(rates), min(fit.rate * (1 + aside), at_most * max(rates)))


def _cut(fit: Fit, at: float) -> Fit:
    return Fit(min(fit.rate, at), min(fit.low, at), fit.high, fit.steepness, fit.logs, fit.below)


def find_concurrency(probe: Callable[[int], Finding], effort: Effort) -> Capacity:
    """In a closed loop: the highest throughput at a concurrency that meets the Sla.

    Concurrency doubles until the Sla breaks or throughput falls, then the gap is halved. The
    interval reaches from the best throughput to the one at the next concurrency that broke it.
    """
    met: list[Finding] = []
    broken: list[Finding] = []
    low, high = 0, 0
    concurrency = 1
    for _ in range(effort.most_probes):
        finding = probe(concurrency)
        if finding.outcome is SlaOutcome.MET:
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
    if best is None:
        margins = [f.margin for f in broken if f.margin is not None]
        return Capacity(None, margin=min(margins, default=None))
    ceiling = min((f.rate for f in broken if f.rate > best.rate), default=math.inf)
    return Capacity(
        rate=best.rate,
        low=best.rate,
        high=ceiling if math.isfinite(ceiling) else None,
        margin=best.margin,
    )
