"""The rules of thumb of the document that asked the question, each held against what was measured.

How one is judged: a claim names a range. It holds where the interval of 95 % of what was measured
overlaps that range, and does not where it lies wholly outside, be it below or above: what was
claimed is then not what is found here. A value without an interval counts as it is. What could not
be measured here is neither: ``holds`` is None, and ``why`` says what is lacking.
"""

import math
from collections.abc import Callable, Mapping

from tuner.analysis.bands import UNBATCHED
from tuner.analysis.claim import Claim, unknown
from tuner.analysis.claims_delay import long_delay, short_delay
from tuner.analysis.comparison import Ratio
from tuner.analysis.parts import overhead, parts_of
from tuner.analysis.ratios import NBSP, is_tie, ratio, show_ratio
from tuner.analysis.records import Comparison, Contender, Swap, contenders
from tuner.records.results import Evaluation, ProbeRecord
from tuner.units import format_duration, format_number, format_rate

_LOW_LOAD = 100.0
_TWICE = 2.0
_BATCHING = (5.0, 10.0)
_FEW_MILLISECONDS = 0.005
_ONE_INSTANCE = (40.0, 60.0)
_OUTSIDE = (0.8, 1.0)
_FASTAPI_GPU = (0.0, 0.1)
_TRITON_GPU = (0.6, 0.8)
_QUICKER = 0.1
_TUNED = "triton-tuned"


By = Mapping[str, Contender]


def claims(comparison: Comparison, evaluations: list[Evaluation]) -> list[Claim]:
    """One row for each rule of thumb, always all of them, in the order of the document."""
    by_name = _by_role(contenders(comparison, evaluations))
    return [
        _slow_requests(by_name, "alone", _alone),
        _slow_requests(by_name, "near capacity", _near),
        _one_instance(by_name),
        _batching(by_name, UNBATCHED, "dynamic batching gives 5 to 10 times the throughput"),
        _batching(by_name, "fastapi", "Triton serves 5 to 10 times what FastAPI does"),
        _price_of_batching(by_name),
        _low_loads(by_name),
        _high_loads(by_name),
        _gpu(comparison, by_name, ("naive", "fastapi"), _FASTAPI_GPU),
        _gpu(comparison, by_name, (_TUNED,), _TRITON_GPU),
        short_delay(comparison.delays),
        long_delay(comparison.delays),
        _swapping(by_name),
        _medium_loads(by_name),
        _days(),
    ]


def _by_role(found: list[Contender]) -> By:
    """By name; the tuned configuration also where it is the one as found."""
    own = [e for e in found if e.deployed.kind == "triton" and e.deployed.tuned]
    tuned = [each for each in own if each.name != UNBATCHED][:1]
    return dict([(_TUNED, each) for each in tuned] + [(each.name, each) for each in found])


def _lacking(by_name: By, *names: str) -> str | None:
    """Why deployments cannot be held against each other; None where each has a capacity."""
    missing = [n for n in names if n not in by_name or by_name[n].evaluation.capacity is None]
    return f"no capacity of {' and '.join(missing)}" if missing else None


def _overlaps(low: float, high: float, claimed: tuple[float, float]) -> bool:
    return low <= claimed[1] and high >= claimed[0]


def _interval(each: Contender) -> tuple[float, float]:
    """Of its capacity; an open end stays open."""
    evaluation = each.evaluation
    high = math.inf if evaluation.high is None else evaluation.high
    return (evaluation.low or 0.0), high


def _show_capacity(each: Contender) -> str:
    """``FastAPI 212/s (95 %: 205/s to 221/s)``."""
    low, high = _interval(each)
    ends = f"{format_rate(low)} to {format_rate(high)}"
    if math.isinf(high):
        ends = f"at least {format_rate(low)}"
    capacity = format_rate(each.evaluation.capacity)
    return f"{each.deployed.title} {capacity} (95{NBSP}%: {ends})"


def _alone(each: Contender) -> ProbeRecord | None:
    return each.evaluation.unloaded()


def _near(each: Contender) -> ProbeRecord | None:
    return each.evaluation.at_capacity()


def _slow_requests(
    by_name: By, where: str, probe_of: Callable[[Contender], ProbeRecord | None]
) -> Claim:
    """20 of 200 ms are nine tenths outside inference: holds from eight tenths on, in the naive
    form. Inference is what the service itself counted.
    """
    text = f"20 ms of inference become 200 ms in FastAPI: nine tenths outside it ({where})"
    naive = by_name.get("naive")
    probe = probe_of(naive) if naive is not None else None
    parts = parts_of(probe, naive.deployed) if probe and naive else None
    if parts is None or naive is None:
        return unknown(text, "the naive form did not count its parts")
    total, outside = sum(parts.values()), overhead(parts)
    share = outside / total
    holds = _overlaps(share, share, _OUTSIDE)
    inside = format_duration(parts.get("inference", 0.0))
    return Claim(
        text=text,
        measured=f"{_percent(share)}: {inside} of inference in {format_duration(total)}",
        holds=holds,
        why=f"at least 80{NBSP}% counts as nine tenths" if holds else f"less than 80{NBSP}%",
    )


def _one_instance(by_name: By) -> Claim:
    """A single instance of the naive form: 50 requests/s, to within a fifth."""
    text = "one instance of FastAPI serves 50 requests/s"
    if lacking := _lacking(by_name, "naive"):
        return unknown(text, lacking)
    naive = by_name["naive"]
    low, high = _interval(naive)
    made = by_name.get("fastapi")
    more = f"; {_show_capacity(made)}" if made and made.evaluation.capacity else ""
    return Claim(
        text=text,
        measured=_show_capacity(naive) + more,
        holds=_overlaps(low, high, _ONE_INSTANCE),
        why=_where(low, high, _ONE_INSTANCE, "40 to 60/s"),
    )


def _where(low: float, high: float, claimed: tuple[float, float], words: str) -> str:
    if low > claimed[1]:
        return f"more than {words}"
    return f"less than {words}" if high < claimed[0] else f"overlaps {words}"


def _batching(by_name: By, other: str, text: str) -> Claim:
    """The tuned configuration against the same instances without batching, or against FastAPI."""
    if lacking := _lacking(by_name, _TUNED, other):
        return unknown(text, lacking)
    tuned = by_name[_TUNED]
    if not tuned.deployed.batching:
        return unknown(text, "the tuned configuration does not batch")
    found = ratio(tuned, by_name[other])
    assert found is not None
    return Claim(
        text=text,
        measured=_times(tuned, by_name[other], found),
        holds=_overlaps(found.low, found.high, _BATCHING),
        why=_where(found.low, found.high, _BATCHING, "5 to 10 times"),
    )


def _times(first: Contender, second: Contender, found: Ratio) -> str:
    one, other = (format_rate(each.evaluation.capacity) for each in (first, second))
    return f"{show_ratio(found)}: {one} against {other}"


def _price_of_batching(by_name: By) -> Claim:
    """The median one at a time, tuned less unbatched: holds up to 5 ms, the upper limit of a few.
    Its interval is as far as the medians' intervals allow.
    """
    text = "batching costs a lone request a few milliseconds"
    tuned, plain = (_median_alone(by_name.get(name)) for name in (_TUNED, UNBATCHED))
    if tuned is None or plain is None:
        return unknown(text, "no latency one request at a time of both, with and without batching")
    least, most = tuned[1] - plain[2], tuned[2] - plain[1]
    more = tuned[0] - plain[0]
    holds = least <= _FEW_MILLISECONDS
    why = "more than 5 ms"
    if holds:
        why = "at most 5 ms" if most > 0 else "it costs nothing here"
    sign = "more" if more >= 0 else "less"
    medians = f"{format_duration(tuned[0])} against {format_duration(plain[0])}"
    return Claim(
        text=text, measured=f"{format_duration(abs(more))} {sign}: {medians}", holds=holds, why=why
    )


def _median_alone(each: Contender | None) -> tuple[float, float, float] | None:
    """Median of one request at a time and the ends of its interval, which may be the median."""
    probe = each.evaluation.unloaded() if each is not None else None
    median = probe.latency.get("p50") if probe is not None else None
    if probe is None or median is None or not math.isfinite(median):
        return None
    low, high = probe.latency_interval.get("p50", (median, median))
    return median, low, median if high is None else high


def _low_loads(by_name: By) -> Claim:
    """Holds unless the well-made form is shown to serve less than 100 requests/s."""
    text = "FastAPI is enough below 100 requests/s"
    if lacking := _lacking(by_name, "fastapi"):
        return unknown(text, lacking)
    low, high = _interval(by_name["fastapi"])
    claimed = (_LOW_LOAD, math.inf)
    return Claim(
        text=text,
        measured=_show_capacity(by_name["fastapi"]),
        holds=_overlaps(low, high, claimed),
        why="it serves less than 100/s" if high < _LOW_LOAD else "it keeps the promise at 100/s",
    )


def _high_loads(by_name: By) -> Claim:
    """Holds where FastAPI gives out at most at twice that rate, for a round number is meant no more
    exactly, and Triton serves more beyond the intervals.
    """
    text = "above 100 requests/s it takes Triton"
    best = _best_triton(by_name)
    if (lacking := _lacking(by_name, "fastapi")) or best is None:
        return unknown(text, lacking or "no capacity of Triton")
    made = by_name["fastapi"]
    measured = f"{_show_capacity(made)}; {_show_capacity(best)}"
    found = ratio(best, made)
    gives_out = _interval(made)[0] <= _TWICE * _LOW_LOAD
    more = found is not None and found.low > 1
    why = f"FastAPI gives out by {format_rate(_TWICE * _LOW_LOAD)}, and Triton serves more"
    if not gives_out:
        why = f"FastAPI serves more than {format_rate(_TWICE * _LOW_LOAD)}"
    elif not more:
        why = "Triton does not serve more beyond the intervals"
    return Claim(text=text, measured=measured, holds=gives_out and more, why=why)


def _best_triton(by_name: By) -> Contender | None:
    own = [
        each
        for each in by_name.values()
        if each.deployed.kind == "triton" and each.name != UNBATCHED and each.evaluation.capacity
    ]
    return max(own, key=lambda each: each.evaluation.capacity or 0.0, default=None)


def _gpu(
    comparison: Comparison, by_name: By, names: tuple[str, ...], claimed: tuple[float, float]
) -> Claim:
    """Near the capacity of the first of ``names`` that was read."""
    text = f"Triton keeps the GPU busy for 60 to 80{NBSP}%"
    if claimed is _FASTAPI_GPU:
        text = f"FastAPI keeps the GPU busy for less than 10{NBSP}%"
    if comparison.gpu is None:
        return unknown(text, "no GPU here")
    for each in (by_name[name] for name in names if name in by_name):
        probe = each.evaluation.at_capacity()
        busy = probe.gpu.utilisation if probe is not None and probe.gpu is not None else None
        if busy is not None:
            at = format_rate(probe.throughput) if probe is not None else "-"
            words = f"{100 * claimed[0]:.0f} to {100 * claimed[1]:.0f}{NBSP}%"
            return Claim(
                text=text,
                measured=f"{each.deployed.title} {_percent(busy)} at {at}",
                holds=_overlaps(busy, busy, claimed),
                why=_where(busy, busy, claimed, words).replace("overlaps", "lies in"),
            )
    return unknown(text, "the GPU did not tell how busy it is")


def _swapping(by_name: By) -> Claim:
    """Of the two forms of FastAPI the one that swaps better, against Triton. Better is to lose a
    smaller share of the requests and, of equal shares, to take less time. Holds if FastAPI is
    better: of equal shares, if it is quicker by more than a tenth.
    """
    text = "a model is swapped more easily in FastAPI"
    services = [_swap(by_name.get(name)) for name in ("naive", "fastapi")]
    tritons = [_swap(by_name.get(name)) for name in (_TUNED, "triton")]
    service = min((found for found in services if found), key=lambda f: f[:2], default=None)
    triton = min((found for found in tritons if found), key=lambda f: f[:2], default=None)
    if service is None or triton is None:
        return unknown(text, "no swap of both a FastAPI service and Triton")
    (lost, seconds, own), (other_lost, other_seconds, other) = service, triton
    quicker = other_seconds > (1 + _QUICKER) * seconds
    slower = seconds > (1 + _QUICKER) * other_seconds
    why = "as few requests are lost, and neither is quicker by more than a tenth"
    if lost != other_lost:
        why = f"{'FastAPI' if lost < other_lost else 'Triton'} loses fewer requests"
    elif quicker or slower:
        why = f"as few requests are lost, and {'FastAPI' if quicker else 'Triton'} is quicker"
    holds = lost < other_lost or (lost == other_lost and quicker)
    return Claim(text=text, measured=f"{own}; {other}", holds=holds, why=why)


def _swap(each: Contender | None) -> tuple[float, float, str] | None:
    """The share of requests that were lost, seconds, and both in words."""
    swap = each.deployed.swap if each is not None else None
    if each is None or swap is None or swap.seconds is None or swap.failure is not None:
        return None
    return swap.lost / max(1, swap.requests), swap.seconds, f"{each.deployed.title} {_told(swap)}"


def _told(swap: Swap) -> str:
    return f"{format_duration(swap.seconds)}, {swap.lost:,} of {swap.requests:,} lost"


def _medium_loads(by_name: By) -> Claim:
    """Holds where FastAPI in front of Triton serves more than FastAPI, beyond the intervals: then
    there are rates for it. How much of Triton's own capacity it keeps is told, not judged.
    """
    text = "FastAPI in front of Triton suits medium loads"
    if lacking := _lacking(by_name, "hybrid", "fastapi"):
        return unknown(text, lacking)
    hybrid, made = by_name["hybrid"], by_name["fastapi"]
    more, best = ratio(hybrid, made), _best_triton(by_name)
    direct = ratio(hybrid, best) if best is not None else None
    assert more is not None
    measured = f"{show_ratio(more)} FastAPI's capacity"
    if direct is not None:
        measured += f", {show_ratio(direct)} Triton's own"
    why = "it serves less than FastAPI"
    if more.low > 1:
        why = "it serves rates that FastAPI does not"
    elif is_tie(hybrid, made):
        why = "it serves no more than FastAPI, within the intervals"
    return Claim(text=text, measured=measured, holds=more.low > 1, why=why)


def _days() -> Claim:
    text = "FastAPI takes 1 to 2 days to develop, Triton 3 to 5"
    return unknown(text, "days of work are nothing that a load can measure")


def _percent(share: float) -> str:
    return f"{format_number(100 * share)}{NBSP}%"
