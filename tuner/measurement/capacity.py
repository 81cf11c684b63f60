"""Estimates a capacity from probes: which rate is next, when to stop, and the fit of all probes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tuner.errors import OutOfTime
from tuner.goals.verdict import SlaOutcome
from tuner.measurement.fitting import EVIDENCE, ProbeResult, client_limit, fit_results
from tuner.stats.estimators import INTERVAL_WIDTH
from tuner.stats.fit import Fit


@dataclass(frozen=True)
class SeekSettings:
    """When to probe which rate, and when to stop; all settings are ratios."""

    give_up: float = 0.03
    """Of the first rate: a capacity below that is none worth the time."""
    offsets: tuple[float, ...] = (0.5, 0.0, 1.0, -0.5)
    """In turn, log odds of being late above the budget: mostly above the capacity, where a request
    tells more than below, where almost nothing is late.
    """
    step_down: float = 0.1
    step_up: float = 0.15
    """The farthest from the estimate: a flat slope would ask for rates that tell of another regime.
    """
    least: float = 0.4
    """Of the lowest rate so far: one unlucky probe does not send the search to nothing."""
    most: float = 1.35
    """Of the highest rate so far: a queue that is overrun takes long to drain."""
    easy: float = 0.6
    """Of the bound: while every probe stays below it, the rate may rise faster."""
    most_easy: float = 2.0
    """Of the highest rate so far, while it is easy."""
    clearly_lower: float = 0.9
    """Of the lowest rate, as long as none met the SLA."""
    one_sided: float = 2.0
    """Times the planned seconds while every rate met the SLA: the capacity needs one that does not.
    """
    unkept: float = 4.0
    """Times the planned seconds while no rate met the SLA: else the candidate counts as infeasible.
    """


SEEK = SeekSettings()


@dataclass(frozen=True)
class Capacity:
    """The highest rate that meets the Sla, in requests/s; None if there is none.

    It is the median of what the probes leave possible, ``low`` and ``high`` are the central 95 %.
    ``recommended`` keeps a margin of it (see ``recommend``). ``steepness`` is that of the share of
    late requests (see ``tuner.stats.fit.Fit``). ``bound_ratio`` is that of the probe nearest below.
    ``client_limited`` says that the load generator was saturated: the server may serve more.
    ``beaten`` says that the candidate was eliminated; if no rate met the SLA by then, only ``low``
    and ``high`` are known.
    """

    rate: float | None
    low: float | None = None
    high: float | None = None
    steepness: float | None = None
    recommended: float | None = None
    bound_ratio: float | None = None
    client_limited: bool = False
    beaten: bool = False

    def chance_above(self, other: "Capacity") -> float:
        """The probability that it is higher than another one, both taken as log-normal."""
        if not self.rate:
            return 0.0
        if not other.rate:
            return 1.0
        from scipy.special import ndtr  # slow to import: a first server is launched meanwhile

        error = math.hypot(*(_log_error(each) for each in (self, other)))
        return float(ndtr(math.log(self.rate / other.rate) / error))


def _log_error(capacity: Capacity) -> float:
    """The standard error of the logarithm that the 95 % interval stands for."""
    if not capacity.low or not capacity.high:
        return EVIDENCE.open_error
    return max(math.log(capacity.high / capacity.low) / INTERVAL_WIDTH, EVIDENCE.least_error)


@dataclass(frozen=True)
class Effort:
    """How finely to look: until the interval is ``width`` wide (high / low - 1), or ``seconds`` are
    spent on probes, of which there are at least ``fewest`` and at most ``most_probes``.

    All rates lie within the share ``reach`` of the first one, but lower ones while none meets the
    SLA; the second is ``first_step`` times the first at most.

    A candidate whose probability of exceeding ``to_beat`` requests/s is below ``doubt`` is
    eliminated.

    With ``other_launches`` the interval holds for any server of the configuration, not only for the
    one that was measured. With ``verified`` a capacity a little below every rate that was tried is
    one, too, since a full test of the recommended rate follows.
    """

    width: float = 0.06
    seconds: float = 12.0
    to_beat: float = 0.0
    doubt: float = 0.025
    fewest: int = 3
    most_probes: int = 16
    reach: float = math.inf
    first_step: float = math.inf
    other_launches: bool = False
    verified: bool = False


Probe = Callable[[float], ProbeResult]


def find_capacity(
    probe: Probe, start: float, effort: Effort, known: "list[ProbeResult] | None" = None
) -> Capacity:
    """Probe from ``start`` requests/s on, each time at the most informative rate, and fit all
    probes.

    ``known`` are earlier results of the same configuration; the new ones are appended to it. Gives
    up, with no rate, when not even a small share of ``start`` is met. Ends when the time is over;
    OutOfTime if nothing is known by then.
    """
    results = known if known is not None else []
    begin, spent = len(results), 0.0
    rate = start
    for number in range(effort.most_probes):
        try:
            result = probe(rate)
        except OutOfTime:
            if not results:
                raise
            break
        results.append(result)
        spent += result.seconds
        fit = fit_results(results, start)
        if is_beaten(fit, effort):
            break
        if _is_enough(results, begin, fit, spent, effort) or fit.rate < SEEK.give_up * start:
            break
        rate = _next_rate(results, fit, SEEK.offsets[number % len(SEEK.offsets)])
        if len(results) == 1:
            rate = min(rate, effort.first_step * start)
        if any(each.kept for each in results):
            rate = max(rate, start / (1 + effort.reach))
        rate = min(rate, start * (1 + effort.reach))
        if rate >= EVIDENCE.client_room * client_limit(results):
            break
    least = SEEK.give_up * start
    capacity = conclude(results, start, least, effort.other_launches, effort.verified)
    fit = fit_results(results, start)
    if not is_beaten(fit, effort):
        return capacity
    if capacity.rate is None:
        return replace(capacity, low=fit.low, high=fit.high, beaten=True)
    return replace(capacity, beaten=True)


def is_beaten(fit: Fit, effort: Effort) -> bool:
    """Whether the rate to beat is out of reach, at the required probability."""
    return effort.to_beat > 0 and fit.chance_above(effort.to_beat) < effort.doubt


def conclude(
    results: list[ProbeResult],
    guess: float,
    least: float = 0.0,
    other_launches: bool = False,
    verified: bool = False,
) -> Capacity:
    """The capacity by all results of one configuration; no rate if none met the SLA.
    ``other_launches`` and ``verified`` as in ``Effort``.
    """
    fit = fit_results(results, guess)
    kept = [f for f in results if f.kept and not f.client_limited]
    limit = client_limit(results)
    limited = math.isfinite(limit) or all(f.client_limited for f in results)
    ratios = [f.bound_ratio for f in results if f.bound_ratio is not None]
    lowest_tried = min((f.rate for f in results if not f.client_limited), default=math.inf)
    is_below = verified and fit.rate >= EVIDENCE.extrapolated * lowest_tried
    if not (kept or is_below) or fit.rate < least:
        return Capacity(None, bound_ratio=min(ratios, default=None), client_limited=limited)
    highest = max((f.rate for f in kept), default=0.0)
    is_open = fit.high > limit or len(kept) == sum(not f.client_limited for f in results)
    if other_launches and len({f.server for f in results}) == 1:
        fit = _of_other_launches(fit)
    if is_open and kept:  # all that is known is what was kept, or what the client could send
        fit = _cut(fit, highest)
    below = [f for f in kept if f.rate <= fit.high] or kept or results
    nearest = max(below, key=lambda f: f.rate) if kept else min(below, key=lambda f: f.rate)
    return Capacity(
        rate=fit.rate,
        low=fit.low,
        high=fit.high,
        steepness=fit.steepness,
        recommended=recommend(fit),
        bound_ratio=nearest.bound_ratio,
        client_limited=limited and fit.rate >= highest,
    )


def recommend(fit: Fit) -> float:
    """The rate to operate at: 7 % below capacity, 10 % at a cliff, up to 15 % where the share of
    late requests rises gently, and never above ``low``.
    """
    gentle = min(-math.log(EVIDENCE.late_share) / fit.steepness, EVIDENCE.most_margin)
    margin = EVIDENCE.cliff_margin if fit.is_cliff else max(EVIDENCE.margin, gentle)
    return min(fit.low, (1 - margin) * fit.rate)


def _is_enough(
    results: list[ProbeResult], begin: int, fit: Fit, spent: float, effort: Effort
) -> bool:
    if len(results) - begin < effort.fewest:
        return False
    if not any(f.kept for f in results):
        return spent >= SEEK.unkept * effort.seconds
    if all(f.kept for f in results):  # only a lower bound is known yet
        return spent >= SEEK.one_sided * effort.seconds
    return fit.width <= effort.width or spent >= effort.seconds


def _next_rate(results: list[ProbeResult], fit: Fit, offset: float) -> float:
    """Near the capacity, alternating between both sides: ``offset`` more in log odds of being late.

    Rates a little above tell more per request than those below, where almost nothing is late.
    """
    aside = max(-SEEK.step_down, min(offset / fit.steepness, SEEK.step_up))
    rates = [result.rate for result in results]
    at_most = (
        SEEK.most_easy if all((f.bound_ratio or 9.0) < SEEK.easy for f in results) else SEEK.most
    )
    if len(results) > 1 and not any(f.kept for f in results):
        at_most = SEEK.clearly_lower * min(rates) / max(rates)
    return max(SEEK.least * min(rates), min(fit.rate * (1 + aside), at_most * max(rates)))


def _of_other_launches(fit: Fit) -> Fit:
    """With the interval that holds for other servers of the configuration, too."""
    aside = INTERVAL_WIDTH / 2 * EVIDENCE.launches
    low = fit.rate * math.exp(-math.hypot(math.log(fit.rate / fit.low), aside))
    high = fit.rate * math.exp(math.hypot(math.log(fit.high / fit.rate), aside))
    return replace(fit, low=low, high=high)


def _cut(fit: Fit, at: float) -> Fit:
    return Fit(min(fit.rate, at), min(fit.low, at), fit.high, fit.steepness, fit.logs, fit.below)


def find_concurrency(probe: Callable[[int], ProbeResult], effort: Effort) -> Capacity:
    """In a closed loop: the highest throughput at a concurrency that meets the Sla.

    Concurrency doubles until the Sla breaks or throughput falls, then the gap is halved. The
    interval reaches from the best throughput to the one at the next concurrency that broke it.
    """
    met: list[ProbeResult] = []
    broken: list[ProbeResult] = []
    low, high = 0, 0
    concurrency = 1
    for _ in range(effort.most_probes):
        result = probe(concurrency)
        if result.outcome is SlaOutcome.MET:
            met.append(result)
            low = concurrency
        else:
            broken.append(result)
            high = concurrency
        stalled = len(met) > 2 and met[-1].rate < met[-2].rate < met[-3].rate
        if stalled or (high and high - low <= max(1, low // 8)):
            break
        concurrency = (low + high) // 2 if high else 2 * concurrency
    best = max(met, key=lambda f: f.rate, default=None)
    if best is None:
        ratios = [f.bound_ratio for f in broken if f.bound_ratio is not None]
        return Capacity(None, bound_ratio=min(ratios, default=None))
    ceiling = min((f.rate for f in broken if f.rate > best.rate), default=math.inf)
    return Capacity(
        rate=best.rate,
        low=best.rate,
        high=ceiling if math.isfinite(ceiling) else None,
        bound_ratio=best.bound_ratio,
    )
