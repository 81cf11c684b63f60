"""The rules of thumb of the document that asked the question, each held against what was measured.

How one is judged: a rule names a range. It holds where the interval of 95 % of what was measured
overlaps that range, and does not where it lies wholly outside, be it below or above: what the rule
says is then not what is found here. A value without an interval counts as it is. What could not be
measured here is neither: ``holds`` is None, and ``reason`` says what is lacking.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tuner.analysis.contenders import Contender, by_role, contenders
from tuner.analysis.ratios import Ratio, is_tie, ratio
from tuner.analysis.stages import overhead, stages_of
from tuner.records.comparison import UNBATCHED, Comparison, Delay, Swap
from tuner.records.results import Evaluation, ProbeRecord

TUNED = "triton-tuned"
Range = tuple[float, float]
Deployments = Mapping[str, Contender]
"""By name and, of the tuned configuration, by role."""


@dataclass(frozen=True)
class RuleSettings:
    """What the document says, as ranges; and what counts as different where it says nothing."""

    overhead: Range = (0.8, 1.0)
    """Share of the latency outside inference: "nine tenths" is meant no more exactly."""
    one_instance: Range = (40.0, 60.0)
    """Requests/s: 50, to within a fifth."""
    batching: Range = (5.0, 10.0)
    """Times the throughput."""
    few_milliseconds: float = 0.005
    """Seconds: the most that is still a few milliseconds."""
    low_load: float = 100.0
    """Requests/s below which FastAPI is to be enough."""
    gives_out: float = 200.0
    """Requests/s by which FastAPI must give out for "above 100": a round number, so up to twice."""
    fastapi_gpu: Range = (0.0, 0.1)
    """Share of time in which the GPU is busy."""
    triton_gpu: Range = (0.6, 0.8)
    """Share of time in which the GPU is busy."""
    quicker: float = 0.1
    """Share of a swap's seconds: swaps that differ by less took as long."""
    short_delays: Range = (0.001, 0.002)
    """Seconds of queue delay."""
    long_delays: Range = (0.005, 0.01)
    """Seconds of queue delay."""
    simulation_off: float = 0.1
    """Share beyond the measured interval: a simulated capacity so far off says nothing of delays.
    """
    same_capacity: float = 0.02
    """Share: simulated capacities nearer than that are the same. The simulator finds each to within
    0.5 % for one stream of arrivals; another stream moves it by more."""


SETTINGS = RuleSettings()


class Rule(StrEnum):
    """In the order of the document."""

    OVERHEAD_ALONE = "overhead alone"
    OVERHEAD_NEAR_CAPACITY = "overhead near capacity"
    ONE_INSTANCE = "one instance"
    BATCHING_GAIN = "batching gain"
    TRITON_GAIN = "triton gain"
    BATCHING_PRICE = "batching price"
    LOW_LOADS = "low loads"
    HIGH_LOADS = "high loads"
    FASTAPI_GPU = "fastapi gpu"
    TRITON_GPU = "triton gpu"
    SHORT_DELAY = "short delay"
    LONG_DELAY = "long delay"
    SWAPPING = "swapping"
    MEDIUM_LOADS = "medium loads"
    DAYS = "days"


class Reason(StrEnum):
    """Why a rule holds, does not, or could not be judged."""

    BELOW = "below the range"
    WITHIN = "overlaps the range"
    ABOVE = "above the range"
    NO_COST = "costs nothing"
    NO_MORE = "serves no more"
    LESS = "serves less"
    MORE = "serves more"
    SHORTER_AS_GOOD = "a shorter delay serves as much"
    ANOTHER_BETTER = "another delay serves more"
    FASTAPI_LOSES_FEWER = "fastapi loses fewer"
    TRITON_LOSES_FEWER = "triton loses fewer"
    FASTAPI_QUICKER = "fastapi is quicker"
    TRITON_QUICKER = "triton is quicker"
    AS_QUICK = "neither is quicker"
    NO_STAGES = "stages were not counted"
    NO_CAPACITY = "no capacity"
    NO_BATCHING = "the tuned configuration does not batch"
    NO_LONE_LATENCY = "no latency of lone requests"
    NO_GPU = "no GPU"
    NO_GPU_READING = "no GPU reading"
    NO_SWAP = "no swap of both"
    NO_SIMULATION = "no simulation"
    SIMULATION_OFF = "the simulation contradicts the measurement"
    NOT_MEASURABLE = "not measurable"


@dataclass(frozen=True)
class OverheadShare:
    """Of ``total`` seconds of mean latency, ``inference`` were computation."""

    inference: float
    total: float

    @property
    def share(self) -> float:
        return (self.total - self.inference) / self.total


@dataclass(frozen=True)
class Capacities:
    """Of the deployments that a rule is judged by."""

    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class CapacityRatio:
    """``first`` serves ``ratio`` times what ``second`` does."""

    first: Contender
    second: Contender
    ratio: Ratio


@dataclass(frozen=True)
class LoneLatencies:
    """Medians in seconds, one request at a time."""

    batched: float
    unbatched: float


@dataclass(frozen=True)
class GpuBusy:
    """``share`` of the time at ``rate`` requests/s, in the probe near capacity."""

    contender: Contender
    share: float
    rate: float | None


@dataclass(frozen=True)
class Delays:
    """Simulations of the delay that the rule names, and of the one it is held against; ``best`` of
    all that were simulated.
    """

    own: Delay
    other: Delay
    best: Delay


@dataclass(frozen=True)
class Swaps:
    """The better one of each side."""

    fastapi: tuple[Contender, Swap]
    triton: tuple[Contender, Swap]


@dataclass(frozen=True)
class ShareOfOthers:
    """The hybrid's capacity over FastAPI's, and over the best Triton's if there is one."""

    of_fastapi: Ratio
    of_triton: Ratio | None


Evidence = (
    OverheadShare
    | Capacities
    | CapacityRatio
    | LoneLatencies
    | GpuBusy
    | Delays
    | Swaps
    | ShareOfOthers
)


@dataclass(frozen=True)
class Judgement:
    """``holds`` is None where the rule could not be judged; there is no evidence then.
    ``lacking`` names the deployments that have no capacity.
    """

    rule: Rule
    holds: bool | None
    reason: Reason
    evidence: Evidence | None = None
    lacking: tuple[str, ...] = ()


def judge_rules(comparison: Comparison, evaluations: list[Evaluation]) -> list[Judgement]:
    """One for each rule of thumb, always all of them, in the order of the document."""
    deployments = by_role(contenders(comparison, evaluations))
    has_gpu = comparison.gpu is not None
    return [
        _overhead(Rule.OVERHEAD_ALONE, deployments, lambda e: e.unloaded()),
        _overhead(Rule.OVERHEAD_NEAR_CAPACITY, deployments, lambda e: e.at_capacity()),
        _one_instance(deployments),
        _batching(Rule.BATCHING_GAIN, deployments, UNBATCHED),
        _batching(Rule.TRITON_GAIN, deployments, "fastapi"),
        _price_of_batching(deployments),
        _low_loads(deployments),
        _high_loads(deployments),
        _gpu(Rule.FASTAPI_GPU, deployments, ("naive", "fastapi"), has_gpu),
        _gpu(Rule.TRITON_GPU, deployments, (TUNED,), has_gpu),
        _delay(Rule.SHORT_DELAY, _short_delay, comparison, deployments),
        _delay(Rule.LONG_DELAY, _long_delay, comparison, deployments),
        _swapping(deployments),
        _medium_loads(deployments),
        unknown(Rule.DAYS, Reason.NOT_MEASURABLE),
    ]


def unknown(rule: Rule, reason: Reason, *lacking: str) -> Judgement:
    return Judgement(rule, None, reason, lacking=lacking)


def _place(low: float, high: float, claimed: Range) -> Reason:
    if low > claimed[1]:
        return Reason.ABOVE
    return Reason.BELOW if high < claimed[0] else Reason.WITHIN


def _in_range(
    rule: Rule, interval: tuple[float, float], claimed: Range, evidence: Evidence
) -> Judgement:
    reason = _place(*interval, claimed)
    return Judgement(rule, reason is Reason.WITHIN, reason, evidence)


def _without_capacity(deployments: Deployments, *names: str) -> tuple[str, ...]:
    known = {name for name, each in deployments.items() if each.evaluation.capacity is not None}
    return tuple(name for name in names if name not in known)


def capacity_interval(contender: Contender) -> tuple[float, float]:
    """Of 95 %, in requests/s; an open end is 0 or infinite."""
    evaluation = contender.evaluation
    return evaluation.low or 0.0, math.inf if evaluation.high is None else evaluation.high


def _overhead(
    rule: Rule, deployments: Deployments, probe_of: Callable[[Evaluation], ProbeRecord | None]
) -> Judgement:
    """20 of 200 ms are nine tenths outside inference: holds from eight tenths on, in the naive
    form. Inference is what the service itself counted.
    """
    naive = deployments.get("naive")
    probe = probe_of(naive.evaluation) if naive is not None else None
    stages = stages_of(probe, naive.deployed) if probe and naive else None
    if stages is None:
        return unknown(rule, Reason.NO_STAGES)
    total = sum(stages.values())
    evidence = OverheadShare(total - overhead(stages), total)
    return _in_range(rule, (evidence.share, evidence.share), SETTINGS.overhead, evidence)


def _one_instance(deployments: Deployments) -> Judgement:
    """A single instance of the naive form, held against 50 requests/s."""
    if lacking := _without_capacity(deployments, "naive"):
        return unknown(Rule.ONE_INSTANCE, Reason.NO_CAPACITY, *lacking)
    made = deployments.get("fastapi")
    others = (made,) if made is not None and made.evaluation.capacity else ()
    evidence = Capacities((deployments["naive"], *others))
    interval = capacity_interval(deployments["naive"])
    return _in_range(Rule.ONE_INSTANCE, interval, SETTINGS.one_instance, evidence)


def _batching(rule: Rule, deployments: Deployments, other: str) -> Judgement:
    """The tuned configuration against the same instances without batching, or against FastAPI."""
    if lacking := _without_capacity(deployments, TUNED, other):
        return unknown(rule, Reason.NO_CAPACITY, *lacking)
    tuned = deployments[TUNED]
    if not tuned.deployed.batching:
        return unknown(rule, Reason.NO_BATCHING)
    times = ratio(tuned, deployments[other])
    assert times is not None
    evidence = CapacityRatio(tuned, deployments[other], times)
    return _in_range(rule, (times.low, times.high), SETTINGS.batching, evidence)


def _price_of_batching(deployments: Deployments) -> Judgement:
    """The median one at a time, tuned less unbatched: holds up to 5 ms, the upper limit of a few.
    Its interval is as far as the medians' intervals allow.
    """
    batched, plain = (_median_alone(deployments.get(name)) for name in (TUNED, UNBATCHED))
    if batched is None or plain is None:
        return unknown(Rule.BATCHING_PRICE, Reason.NO_LONE_LATENCY)
    least, most = batched[1] - plain[2], batched[2] - plain[1]
    evidence = LoneLatencies(batched[0], plain[0])
    if least > SETTINGS.few_milliseconds:
        return Judgement(Rule.BATCHING_PRICE, False, Reason.ABOVE, evidence)
    reason = Reason.WITHIN if most > 0 else Reason.NO_COST
    return Judgement(Rule.BATCHING_PRICE, True, reason, evidence)


def _median_alone(contender: Contender | None) -> tuple[float, float, float] | None:
    """Median of one request at a time and the ends of its interval, which may be the median."""
    probe = contender.evaluation.unloaded() if contender is not None else None
    median = probe.latency.get("p50") if probe is not None else None
    if probe is None or median is None or not math.isfinite(median):
        return None
    low, high = probe.latency_interval.get("p50", (median, median))
    return median, low, median if high is None else high


def _low_loads(deployments: Deployments) -> Judgement:
    """Holds unless the well-made form is shown to serve less than 100 requests/s."""
    if lacking := _without_capacity(deployments, "fastapi"):
        return unknown(Rule.LOW_LOADS, Reason.NO_CAPACITY, *lacking)
    made = deployments["fastapi"]
    claimed = (SETTINGS.low_load, math.inf)
    return _in_range(Rule.LOW_LOADS, capacity_interval(made), claimed, Capacities((made,)))


def _high_loads(deployments: Deployments) -> Judgement:
    """Holds where FastAPI gives out at most at twice that rate, for a round number is meant no more
    exactly, and Triton serves more beyond the intervals.
    """
    best = _best_triton(deployments)
    lacking = _without_capacity(deployments, "fastapi") or (() if best else ("Triton",))
    if lacking or best is None:
        return unknown(Rule.HIGH_LOADS, Reason.NO_CAPACITY, *lacking)
    made = deployments["fastapi"]
    evidence, times = Capacities((made, best)), ratio(best, made)
    if capacity_interval(made)[0] > SETTINGS.gives_out:
        return Judgement(Rule.HIGH_LOADS, False, Reason.ABOVE, evidence)
    more = times is not None and times.low > 1
    return Judgement(Rule.HIGH_LOADS, more, Reason.MORE if more else Reason.NO_MORE, evidence)


def _best_triton(deployments: Deployments) -> Contender | None:
    own = [e for e in deployments.values() if e.is_batched_triton and e.evaluation.capacity]
    return max(own, key=lambda each: each.evaluation.capacity or 0.0, default=None)


def _gpu(rule: Rule, deployments: Deployments, names: tuple[str, ...], has_gpu: bool) -> Judgement:
    """Near the capacity of the first of ``names`` that was read."""
    if not has_gpu:
        return unknown(rule, Reason.NO_GPU)
    claimed = SETTINGS.triton_gpu if rule is Rule.TRITON_GPU else SETTINGS.fastapi_gpu
    for contender in (deployments[name] for name in names if name in deployments):
        probe = contender.evaluation.at_capacity()
        busy = probe.gpu.utilisation if probe is not None and probe.gpu is not None else None
        if probe is not None and busy is not None:
            evidence = GpuBusy(contender, busy, probe.throughput)
            return _in_range(rule, (busy, busy), claimed, evidence)
    return unknown(rule, Reason.NO_GPU_READING)


def _delay(
    rule: Rule,
    judge: Callable[[tuple[Delay, ...]], Judgement],
    comparison: Comparison,
    deployments: Deployments,
) -> Judgement:
    """Judged by simulation, if that comes to what was measured of the tuned configuration."""
    simulated, tuned = comparison.simulated.get(TUNED), deployments.get(TUNED)
    if simulated is not None and tuned is not None and tuned.evaluation.capacity is not None:
        low, high = capacity_interval(tuned)
        off = SETTINGS.simulation_off
        if not (1 - off) * low <= simulated <= (1 + off) * high:
            return unknown(rule, Reason.SIMULATION_OFF)
    return judge(comparison.delays)


def _short_delay(delays: tuple[Delay, ...]) -> Judgement:
    """Waiting 1 to 2 ms adds to a lone request's latency, so where latency matters it is worth it
    only if it serves more than the shortest delay does: holds if by over 2 %. Simulated.
    """
    known = _simulated(delays)
    own = [delay for delay in known if _is_in(delay, SETTINGS.short_delays)]
    shorter = [delay for delay in known if delay.delay < SETTINGS.short_delays[0]]
    if not own or not shorter:
        return unknown(Rule.SHORT_DELAY, Reason.NO_SIMULATION)
    best, least = max(own, key=_capacity), min(shorter, key=lambda delay: delay.delay)
    gain = _capacity(best) / _capacity(least) if _capacity(least) else math.inf
    holds = gain > 1 + SETTINGS.same_capacity
    evidence = Delays(best, least, max(known, key=_capacity))
    return Judgement(Rule.SHORT_DELAY, holds, Reason.MORE if holds else Reason.NO_MORE, evidence)


def _long_delay(delays: tuple[Delay, ...]) -> Judgement:
    """Holds if the best delay of 5 to 10 ms serves as much as the best of all, to within 2 %, and
    more than the best of at most 2 ms by over 2 %: else a shorter one does as well. Simulated.
    """
    known = _simulated(delays)
    own = [delay for delay in known if _is_in(delay, SETTINGS.long_delays)]
    shorter = [delay for delay in known if delay.delay <= SETTINGS.short_delays[1]]
    if not own or not shorter:
        return unknown(Rule.LONG_DELAY, Reason.NO_SIMULATION)
    best, short, most = (max(group, key=_capacity) for group in (own, shorter, known))
    reason = Reason.MORE
    if _capacity(best) <= (1 + SETTINGS.same_capacity) * _capacity(short):
        reason = Reason.SHORTER_AS_GOOD
    elif _capacity(best) < (1 - SETTINGS.same_capacity) * _capacity(most):
        reason = Reason.ANOTHER_BETTER
    evidence = Delays(best, short, most)
    return Judgement(Rule.LONG_DELAY, reason is Reason.MORE, reason, evidence)


def _simulated(delays: tuple[Delay, ...]) -> list[Delay]:
    """All of them, if the SLA is kept with any."""
    return list(delays) if any(map(_capacity, delays)) else []


def _is_in(delay: Delay, claimed: Range) -> bool:
    rounding = 1e-9
    return claimed[0] - rounding <= delay.delay <= claimed[1] + rounding


def _capacity(delay: Delay) -> float:
    """0 where the SLA is kept at no rate."""
    return delay.capacity or 0.0


def _swapping(deployments: Deployments) -> Judgement:
    """FastAPI as it is recommended (the naive form only where it alone was swapped) against the
    Triton that swaps better. Better is to lose a smaller share of the requests and, of equal
    shares, to take less time. Holds if FastAPI is better: of equal shares, if it is quicker by more
    than a tenth.
    """
    service = _best_swap(deployments, ("fastapi",)) or _best_swap(deployments, ("naive",))
    triton = _best_swap(deployments, (TUNED, "triton"))
    if service is None or triton is None:
        return unknown(Rule.SWAPPING, Reason.NO_SWAP)
    (lost, seconds), (other_lost, other_seconds) = _effort(service[1]), _effort(triton[1])
    reason = Reason.AS_QUICK
    if lost != other_lost:
        fewer = lost < other_lost
        reason = Reason.FASTAPI_LOSES_FEWER if fewer else Reason.TRITON_LOSES_FEWER
    elif other_seconds > (1 + SETTINGS.quicker) * seconds:
        reason = Reason.FASTAPI_QUICKER
    elif seconds > (1 + SETTINGS.quicker) * other_seconds:
        reason = Reason.TRITON_QUICKER
    holds = reason in (Reason.FASTAPI_LOSES_FEWER, Reason.FASTAPI_QUICKER)
    return Judgement(Rule.SWAPPING, holds, reason, Swaps(service, triton))


def _best_swap(deployments: Deployments, names: tuple[str, ...]) -> tuple[Contender, Swap] | None:
    swaps = [
        (each, swap)
        for each in (deployments.get(name) for name in names)
        if each is not None and (swap := each.deployed.swap) is not None
        if swap.seconds is not None and swap.failure is None
    ]
    return min(swaps, key=lambda pair: _effort(pair[1]), default=None)


def _effort(swap: Swap) -> tuple[float, float]:
    """The share of requests that were lost, and seconds."""
    return swap.lost / max(1, swap.requests), swap.seconds or 0.0


def _medium_loads(deployments: Deployments) -> Judgement:
    """Holds where FastAPI in front of Triton serves more than FastAPI, beyond the intervals: then
    there are rates for it. How much of Triton's own capacity it keeps is told, not judged.
    """
    if lacking := _without_capacity(deployments, "hybrid", "fastapi"):
        return unknown(Rule.MEDIUM_LOADS, Reason.NO_CAPACITY, *lacking)
    hybrid, made = deployments["hybrid"], deployments["fastapi"]
    more, best = ratio(hybrid, made), _best_triton(deployments)
    assert more is not None
    reason = Reason.LESS
    if more.low > 1:
        reason = Reason.MORE
    elif is_tie(hybrid, made):
        reason = Reason.NO_MORE
    evidence = ShareOfOthers(more, ratio(hybrid, best) if best is not None else None)
    return Judgement(Rule.MEDIUM_LOADS, more.low > 1, reason, evidence)
