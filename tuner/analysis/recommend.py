"""Which deployment, up to which rate, and what it costs, with reasons.

The rule by which one is chosen stands in ``tuner.analysis.bands``.
"""

from collections.abc import Iterator, Sequence

from tuner.analysis.bands import (
    UNBATCHED,
    Answer,
    Band,
    bands,
    counts,
    is_clearly_less,
    kinds_of_clients,
    slots,
)
from tuner.analysis.costs import Costs, Usage, costs
from tuner.analysis.ratios import NBSP, is_tie, ratio, show_ratio
from tuner.analysis.records import Comparison, Contender, contenders
from tuner.errors import UnitError
from tuner.goals.sla import Sla
from tuner.records.results import Evaluation, Interval, Record, State
from tuner.units import format_cores, format_duration, format_rate, format_size

CLIENTS = {
    "any": "any client",
    "text": "clients that send text",
    "tensors": "clients that send tensors",
}
_SIMPLE = {
    "service": "which runs already",
    "naive": "the simplest to run",
    "fastapi": "the simplest to run",
    "triton": "one server more to run, and no FastAPI",
    "hybrid": "two servers to run",
}


class Recommendation(Record):
    """``reasons`` are sentences with their figures."""

    answers: tuple[Answer, ...]
    costs: Costs
    reasons: tuple[str, ...]


def recommend(comparison: Comparison, evaluations: list[Evaluation]) -> Recommendation:
    """From records alone; without bands where no deployment keeps the promise."""
    found = contenders(comparison, evaluations)
    answers = tuple(
        Answer(clients=clients, bands=bands(slots(found, clients)))
        for clients in kinds_of_clients(comparison)
    )
    spent = costs([each for each in found if counts(each, found)])
    reasons = tuple(_reasons(comparison, found, answers, spent))
    return Recommendation(answers=answers, costs=spent, reasons=reasons)


def sla_of(comparison: Comparison) -> Sla | None:
    """The promise as it was given or as it prints itself; None where it is neither."""
    try:
        return Sla.parse(comparison.sla.replace(" and ", ",").replace("≤", "<"))
    except UnitError:
        return None


def promise_of(comparison: Comparison) -> str:
    """``p99 ≤ 20 ms``; as it stands in the record where this version cannot read it."""
    return str(sla_of(comparison) or comparison.sla)


def headline(recommendation: Recommendation, comparison: Comparison) -> str:
    """The answer in one line: for clients that send text where there is one for them."""
    found = [answer for answer in recommendation.answers if answer.bands]
    if not found:
        return f"No deployment keeps {promise_of(comparison)}"
    titles = {deployed.name: deployed.title for deployed in comparison.deployments}
    steps = ", then ".join(
        f"{titles[band.deployment]} up to {format_rate(band.high)}" for band in found[0].bands[:-1]
    )
    if found[0] is recommendation.answers[0]:
        return steps
    return f"For {CLIENTS[found[0].clients]} alone: {steps}"


def _reasons(
    comparison: Comparison, found: Sequence[Contender], answers: Sequence[Answer], spent: Costs
) -> Iterator[str]:
    by_name = {each.name: each for each in found}
    promise = promise_of(comparison)
    for answer in answers:
        yield from _of_answer(answer, by_name, promise)
    yield from _of_naive(by_name)
    yield from _of_tuning(by_name)
    yield from _of_tokenising(comparison, by_name)
    yield from _of_costs(spent, by_name)
    for deployed in comparison.deployments:
        if deployed.name in by_name:
            yield from _doubts(by_name[deployed.name], promise)
        else:
            yield f"{deployed.title} was not measured."


def _of_answer(answer: Answer, by_name: dict[str, Contender], promise: str) -> Iterator[str]:
    who = CLIENTS[answer.clients].capitalize()
    if not answer.bands:
        yield f"{who}: no deployment for them keeps {promise} at any rate that was tried."
        return
    told, previous = [], None
    for band in answer.bands[:-1]:
        told.append(_of_band(band, by_name[band.deployment], previous, promise))
        told += [_of_tie(by_name[name], by_name[band.deployment]) for name in band.ties]
        previous = by_name[band.deployment]
    last = answer.bands[-1]
    title = by_name[last.deployment].deployed.title
    told.append(f"Above {format_rate(last.low)} it takes replicas, best of {title}.")
    yield f"{who}: {' '.join(told)}"


def _of_band(band: Band, each: Contender, previous: Contender | None, promise: str) -> str:
    title, simple = each.deployed.title, _SIMPLE[each.deployed.kind]
    capacity = format_rate(each.evaluation.capacity)
    reach = (
        f"up to {format_rate(band.high)}, {simple} (capacity {capacity}{show_interval(band.edge)})"
    )
    if previous is None:
        return f"{title} keeps {promise} {reach}."
    more = ratio(each, previous)
    times = f"; it serves {show_ratio(more)} what {previous.deployed.title} does" if more else ""
    return f"Above, {title} {reach}{times}."


def show_interval(ends: Interval | None) -> str:
    """``, 95 %: 205/s to 221/s``, or nothing."""
    if ends is None:
        return ""
    low, high = ends
    if high is None:
        return f", 95{NBSP}%: at least {format_rate(low)}"
    return f", 95{NBSP}%: {format_rate(low)} to {format_rate(high)}"


def _of_tie(each: Contender, chosen: Contender) -> str:
    found = ratio(each, chosen)
    times = f" ({show_ratio(found)})" if found else ""
    return (
        f"{each.deployed.title} and {chosen.deployed.title} are a tie{times}, which the simpler "
        "one wins."
    )


def _of_naive(by_name: dict[str, Contender]) -> Iterator[str]:
    naive, made = by_name.get("naive"), by_name.get("fastapi")
    found = ratio(naive, made) if naive and made else None
    if naive is None or made is None or found is None:
        return
    said = f"{naive.deployed.title} serves {show_ratio(found)} what {made.deployed.title} does"
    if is_clearly_less(made, naive):
        yield f"{said}: here the plain form is enough."
    elif is_tie(naive, made):
        yield f"{said}: a tie, which the well-made form wins."
    else:
        yield f"{said}, and is not recommended."


def _of_tuning(by_name: dict[str, Contender]) -> Iterator[str]:
    own = [each for each in by_name.values() if each.deployed.kind == "triton"]
    plain = next((e for e in own if not e.deployed.tuned and e.name != UNBATCHED), None)
    tuned = next((e for e in own if e.deployed.tuned and e.name != UNBATCHED), None)
    found = ratio(tuned, plain) if tuned and plain else None
    if tuned is None or plain is None or found is None:
        return
    said = f"{tuned.deployed.title} serves {show_ratio(found)} what {plain.deployed.title} does"
    yield f"{said}: a tie, so it may stay as found." if is_tie(tuned, plain) else f"{said}."
    bare = by_name.get(UNBATCHED)
    if bare is not None and is_clearly_less(tuned, bare):
        yield (
            f"{bare.deployed.title} serves more than {tuned.deployed.title}: it costs more here "
            "to put requests together than a batch saves."
        )


def _of_tokenising(comparison: Comparison, by_name: dict[str, Contender]) -> Iterator[str]:
    """What clients of Triton alone have to do, and what being spared that costs."""
    if comparison.encode_seconds is not None:
        yield (
            "Clients of Triton alone have to tokenise for themselves, which took them "
            f"{format_duration(comparison.encode_seconds)} a request here."
        )
    direct = max(
        (e for e in by_name.values() if e.deployed.kind == "triton" and e.name != UNBATCHED),
        key=lambda each: each.safe_rate or 0.0,
        default=None,
    )
    hybrid = next((e for e in by_name.values() if e.deployed.kind == "hybrid"), None)
    found = ratio(hybrid, direct) if hybrid and direct else None
    if hybrid and direct and found:
        served = f"{show_ratio(found)} what {direct.deployed.title} does"
        yield f"{hybrid.deployed.title} serves {served}."


def _of_costs(spent: Costs, by_name: dict[str, Contender]) -> Iterator[str]:
    told = [
        f"{by_name[usage.deployment].deployed.title} {words}"
        for usage in spent.together
        if (words := show_usage(usage))
    ]
    if told and spent.rate is not None:
        rate = format_rate(spent.rate)
        yield f"At {rate}, which each of them keeps, they take: {'; '.join(told)}."


def show_usage(usage: Usage) -> str:
    """``1.4 cores, 820 MiB``; empty where nothing was read."""
    words = (
        None if usage.cores is None else format_cores(usage.cores),
        None if usage.memory is None else format_size(round(usage.memory)),
        None if usage.gpu is None else f"{100 * usage.gpu:.0f}{NBSP}% of the GPU",
    )
    return ", ".join(word for word in words if word)


def _doubts(each: Contender, promise: str) -> Iterator[str]:
    evaluation, title = each.evaluation, each.deployed.title
    if evaluation.state is State.FAILED:
        yield f"{title} could not be measured: {evaluation.failure or 'no reason was recorded'}"
    elif evaluation.capacity is None:
        yield f"{title} keeps {promise} at no rate that was tried."
    elif evaluation.client_limited:
        yield f"{title} may serve more: the load generator fell behind before it did."
