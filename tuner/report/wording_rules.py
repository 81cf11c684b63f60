"""The sentences of the rules of thumb, each written once: the rule, what was measured, and why."""

import math

from tuner.analysis.contenders import Contender
from tuner.analysis.rules import (
    Capacities,
    CapacityRatio,
    Delays,
    Evidence,
    GpuBusy,
    Judgement,
    LoneLatencies,
    OverheadShare,
    Reason,
    Rule,
    ShareOfOthers,
    Swaps,
    capacity_interval,
)
from tuner.records.comparison import Delay, Swap
from tuner.report.wording import NBSP, interval_words, ratio_words, swap_words
from tuner.units import format_duration, format_number, format_rate

_OVERHEAD = "20 ms of inference become 200 ms in FastAPI: 90 % overhead"
RULES = {
    Rule.OVERHEAD_ALONE: f"{_OVERHEAD} (one request at a time)",
    Rule.OVERHEAD_NEAR_CAPACITY: f"{_OVERHEAD} (near capacity)",
    Rule.ONE_INSTANCE: "one instance of FastAPI serves 50 requests/s",
    Rule.BATCHING_GAIN: "dynamic batching gives 5 to 10 times the throughput",
    Rule.TRITON_GAIN: "Triton serves 5 to 10 times what FastAPI does",
    Rule.BATCHING_PRICE: "batching adds a few milliseconds to a single request",
    Rule.LOW_LOADS: "FastAPI is enough below 100 requests/s",
    Rule.HIGH_LOADS: "above 100 requests/s, Triton is needed",
    Rule.FASTAPI_GPU: f"FastAPI keeps the GPU busy for less than 10{NBSP}%",
    Rule.TRITON_GPU: f"Triton keeps the GPU busy for 60 to 80{NBSP}%",
    Rule.SHORT_DELAY: "a queue delay of 1 to 2 ms if latency matters",
    Rule.LONG_DELAY: "a queue delay of 5 to 10 ms if throughput matters",
    Rule.SWAPPING: "swapping a model is easier in FastAPI",
    Rule.MEDIUM_LOADS: "FastAPI in front of Triton suits medium loads",
    Rule.DAYS: "FastAPI takes 1 to 2 days to develop, Triton 3 to 5",
}
_RANGES = {
    Rule.ONE_INSTANCE: "40 to 60/s",
    Rule.BATCHING_GAIN: "5 to 10 times",
    Rule.TRITON_GAIN: "5 to 10 times",
    Rule.FASTAPI_GPU: f"0 to 10{NBSP}%",
    Rule.TRITON_GPU: f"60 to 80{NBSP}%",
}
_UNKNOWN = {
    Reason.NO_STAGES: "FastAPI (naive) reported no stage times",
    Reason.NO_BATCHING: "the tuned configuration does not batch",
    Reason.NO_LONE_LATENCY: "single-request latency is not known both with and without batching",
    Reason.NO_GPU: "no GPU here",
    Reason.NO_GPU_READING: "the GPU did not report its utilization",
    Reason.NO_SWAP: "a swap was not measured for both FastAPI and Triton",
    Reason.NO_SIMULATION: "no simulation of such a delay and a shorter one",
    Reason.SIMULATION_OFF: "the simulation does not match what was measured here",
    Reason.NOT_MEASURABLE: "development time cannot be measured by load",
}
_OVERHEAD_REASONS = {
    Reason.WITHIN: f"at least 80{NBSP}% counts as 90{NBSP}%",
    Reason.BELOW: f"less than 80{NBSP}%",
}
_REASONS = {
    Rule.OVERHEAD_ALONE: _OVERHEAD_REASONS,
    Rule.OVERHEAD_NEAR_CAPACITY: _OVERHEAD_REASONS,
    Rule.BATCHING_PRICE: {
        Reason.ABOVE: "more than 5 ms",
        Reason.WITHIN: "at most 5 ms",
        Reason.NO_COST: "it costs nothing here",
    },
    Rule.LOW_LOADS: {
        Reason.BELOW: "it serves less than 100/s",
        Reason.WITHIN: "it meets the SLA at 100/s",
    },
    Rule.HIGH_LOADS: {
        Reason.MORE: "FastAPI serves at most 200/s, and Triton serves more",
        Reason.ABOVE: "FastAPI serves more than 200/s",
        Reason.NO_MORE: "the intervals do not show that Triton serves more",
    },
    Rule.SWAPPING: {
        Reason.FASTAPI_LOSES_FEWER: "FastAPI loses fewer requests",
        Reason.TRITON_LOSES_FEWER: "Triton loses fewer requests",
        Reason.FASTAPI_QUICKER: "equal losses, and FastAPI is faster",
        Reason.TRITON_QUICKER: "equal losses, and Triton is faster",
        Reason.AS_QUICK: f"equal losses, and the times differ by at most 10{NBSP}%",
    },
    Rule.MEDIUM_LOADS: {
        Reason.MORE: "it serves rates that FastAPI does not",
        Reason.NO_MORE: "the intervals do not show that it serves more than FastAPI",
        Reason.LESS: "it serves less than FastAPI",
    },
}


def reason_words(judgement: Judgement) -> str:
    """Why the rule holds, does not, or could not be judged."""
    rule, reason = judgement.rule, judgement.reason
    if reason is Reason.NO_CAPACITY:
        return f"no known capacity: {' and '.join(judgement.lacking)}"
    if reason in _UNKNOWN:
        return _UNKNOWN[reason]
    if rule in _REASONS:
        return _REASONS[rule][reason]
    if isinstance(judgement.evidence, Delays):
        return _delay_reason(rule, reason, judgement.evidence)
    inside = "lies in" if isinstance(judgement.evidence, GpuBusy) else "overlaps"
    word = {Reason.BELOW: "less than", Reason.ABOVE: "more than"}.get(reason, inside)
    return f"{word} {_RANGES[rule]}"


def _delay_reason(rule: Rule, reason: Reason, delays: Delays) -> str:
    other, best = _delay_name(delays.other), _delay_name(delays.best)
    match reason:
        case Reason.SHORTER_AS_GOOD:
            return f"{other} serves as much or more"
        case Reason.ANOTHER_BETTER:
            return f"{best} serves more"
        case Reason.NO_MORE:
            return f"it serves no more than {other}"
        case _:
            none_more = ", and none serves more" if rule is Rule.LONG_DELAY else ""
            return f"it serves more than {other}{none_more}"


def evidence_words(evidence: Evidence | None) -> str:
    """The figures that a rule was judged by; a dash where there are none."""
    match evidence:
        case None:
            return "-"
        case OverheadShare(inference, total):
            times = f"{format_duration(inference)} of inference in {format_duration(total)}"
            return f"{_percent(evidence.share)}: {times}"
        case Capacities(contenders):
            return "; ".join(map(capacity_words, contenders))
        case CapacityRatio(first, second, ratio):
            one, other = (format_rate(each.evaluation.capacity) for each in (first, second))
            return f"{ratio_words(ratio)}: {one} against {other}"
        case LoneLatencies(batched, unbatched):
            sign = "more" if batched >= unbatched else "less"
            medians = f"{format_duration(batched)} against {format_duration(unbatched)}"
            return f"{format_duration(abs(batched - unbatched))} {sign}: {medians}"
        case GpuBusy(contender, share, rate):
            return f"{contender.title} {_percent(share)} at {format_rate(rate)}"
        case Delays(own, other):
            return f"simulated: {_delay_words(own)}; {_delay_words(other)}"
        case Swaps(fastapi, triton):
            return f"{_swap_of(*fastapi)}; {_swap_of(*triton)}"
        case ShareOfOthers(of_fastapi, of_triton):
            direct = "" if of_triton is None else f", {ratio_words(of_triton)} Triton's"
            return f"{ratio_words(of_fastapi)} FastAPI's capacity{direct}"


def capacity_words(contender: Contender) -> str:
    """``FastAPI 212/s (95 %: 205/s to 221/s)``."""
    low, high = capacity_interval(contender)
    ends = interval_words(low, None if math.isinf(high) else high)
    return f"{contender.title} {format_rate(contender.evaluation.capacity)} ({ends})"


def _swap_of(contender: Contender, swap: Swap) -> str:
    return f"{contender.title} {swap_words(swap.seconds, swap.lost, swap.requests)}"


def _delay_name(delay: Delay) -> str:
    return f"{format_duration(delay.delay)} of delay" if delay.delay else "no delay"


def _delay_words(delay: Delay) -> str:
    alone = "" if delay.p50 is None else f", single-request p50 {format_duration(delay.p50)}"
    return f"{_delay_name(delay)}: {format_rate(delay.capacity)}{alone}"


def _percent(share: float) -> str:
    return f"{format_number(100 * share)}{NBSP}%"
