"""The sentences of a comparison's recommendation, each written once."""

from tuner.analysis.bands import Band
from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.analysis.costs import Usage
from tuner.analysis.recommend import (
    BandsForClients,
    BandStep,
    FallsShort,
    Finding,
    Question,
    Shortfall,
    Takes,
    Times,
    TokenisingTime,
)
from tuner.analysis.replicas import Advantage, ReplicaPlan
from tuner.report.wording import NBSP, count, interval_words, list_known, ratio_words
from tuner.units import format_cores, format_duration, format_rate, format_size

CLIENTS = {
    "any": "any client",
    "text": "clients that send text",
    "tensors": "clients that send tensors",
}
_SIMPLICITY = {
    "service": "which runs already",
    "naive": "the simplest to run",
    "fastapi": "the simplest to run",
    "triton": "one server more to run, and no FastAPI",
    "hybrid": "two servers to run",
}
_ADVANTAGES = {
    Advantage.ONLY: "the only one that keeps the promise",
    Advantage.FEWEST: "the fewest replicas",
    Advantage.FEWEST_CORES_UNKNOWN: "no other takes fewer replicas, and cores were not read",
    Advantage.FEWEST_AND_LEAST_CORES: (
        "no other takes fewer replicas, and it takes the least cores"
    ),
    Advantage.FIRST_FOR_TEXT: "the first for clients that send text",
}
_SHORTFALLS = {
    Shortfall.UNMEASURED: "{title} was not measured.",
    Shortfall.FAILED: "{title} could not be measured: {failure}",
    Shortfall.KEEPS_NO_RATE: "{title} keeps {kept} at no rate that was tried.",
    Shortfall.CLIENT_FELL_BEHIND: (
        "{title} may serve more: the load generator fell behind before it did."
    ),
}


def promise(findings: ComparisonFindings) -> str:
    """``p99 ≤ 20 ms``; as it stands in the record where this version cannot read it."""
    return str(findings.sla or findings.comparison.sla)


def headline(findings: ComparisonFindings) -> str:
    """The answer in one line: for clients that send text where there is one for them."""
    answers = findings.recommendation.answers
    answer = next((answer for answer in answers if answer.bands), None)
    if answer is None:
        return f"No deployment keeps {promise(findings)}"
    steps = band_steps(answer.bands, findings)
    return steps if answer is answers[0] else f"For {CLIENTS[answer.clients]} alone: {steps}"


def band_steps(bands: tuple[Band, ...], findings: ComparisonFindings) -> str:
    """``FastAPI up to 269/s, then Triton tuned up to 1,034/s``."""
    titles = findings.titles
    return ", then ".join(
        f"{titles[band.deployment]} up to {format_rate(band.high)}" for band in bands[:-1]
    )


def answer_sentence(findings: ComparisonFindings) -> str:
    """Below the headline: the bands of all kinds of clients."""
    answers = [answer for answer in findings.recommendation.answers if answer.bands]
    if not answers:
        return "What came nearest is in the table below."
    steps = [f"For {CLIENTS[a.clients]}: {band_steps(a.bands, findings)}." for a in answers]
    return f"Within {promise(findings)}. {' '.join(steps)} Above, it takes replicas."


def reasons(findings: ComparisonFindings) -> list[str]:
    """The sentences behind the recommendation."""
    kept = promise(findings)
    sentences = (_reason(finding, kept) for finding in findings.recommendation.findings)
    return [sentence for sentence in sentences if sentence]


def _reason(finding: Finding, kept: str) -> str | None:
    match finding:
        case BandsForClients():
            return _bands_sentence(finding, kept)
        case Times():
            return _times_sentence(finding)
        case TokenisingTime(seconds):
            return (
                "Clients of Triton alone have to tokenise for themselves, which took them "
                f"{format_duration(seconds)} a request here."
            )
        case Takes():
            return _takes_sentence(finding)
        case FallsShort(shortfall, title, failure):
            return _SHORTFALLS[shortfall].format(
                title=title, kept=kept, failure=failure or "no reason was recorded"
            )


def _times_sentence(finding: Times) -> str:
    first, second, ratio = finding.first.title, finding.second.title, finding.ratio
    serves = f"{first} serves {ratio_words(ratio)} what {second} does"
    match finding.question:
        case Question.IS_NAIVE_ENOUGH if ratio.low > 1:
            return f"{serves}: here the plain form is enough."
        case Question.IS_NAIVE_ENOUGH if ratio.is_tie:
            return f"{serves}: a tie, which the well-made form wins."
        case Question.IS_NAIVE_ENOUGH:
            return f"{serves}, and is not recommended."
        case Question.DOES_TUNING_PAY if ratio.is_tie:
            return f"{serves}: a tie, so it may stay as found."
        case Question.DOES_BATCHING_PAY:
            return (
                f"{first} serves more than {second}: it costs more here to put requests together "
                "than a batch saves."
            )
        case _:
            return f"{serves}."


def _bands_sentence(finding: BandsForClients, kept: str) -> str:
    clients = CLIENTS[finding.answer.clients].capitalize()
    if not finding.steps:
        return f"{clients}: no deployment for them keeps {kept} at any rate that was tried."
    sentences = [sentence for step in finding.steps for sentence in _step_sentences(step, kept)]
    reach = format_rate(finding.answer.reach)
    sentences.append(f"Above {reach} it takes replicas, best of {finding.best.title}.")
    return f"{clients}: {' '.join(sentences)}"


def _step_sentences(step: BandStep, kept: str) -> list[str]:
    title, edge = step.chosen.title, step.band.edge
    interval = "" if edge is None else f", {interval_words(*edge)}"
    capacity = format_rate(step.chosen.evaluation.capacity)
    reach = (
        f"up to {format_rate(step.band.high)}, {_SIMPLICITY[step.chosen.deployed.kind]} "
        f"(capacity {capacity}{interval})"
    )
    sentences = [f"{title} keeps {kept} {reach}."]
    if step.below is not None:
        gain = step.gain
        more = f"; it serves {ratio_words(gain)} what {step.below.title} does" if gain else ""
        sentences = [f"Above, {title} {reach}{more}."]
    for other, ratio in step.ties:
        times = f" ({ratio_words(ratio)})" if ratio else ""
        sentences.append(f"{other.title} and {title} are a tie{times}, which the simpler one wins.")
    return sentences


def _takes_sentence(finding: Takes) -> str | None:
    usages = [(finding.titles[u.deployment], usage_words(u)) for u in finding.costs.together]
    known = "; ".join(f"{title} {usage}" for title, usage in usages if usage)
    if not known or finding.costs.rate is None:
        return None
    return f"At {format_rate(finding.costs.rate)}, which each of them keeps, they take: {known}."


def usage_words(usage: Usage) -> str:
    """``1.4 cores, 820 MiB``; empty where nothing was read."""
    return list_known(
        None if usage.cores is None else format_cores(usage.cores),
        None if usage.memory is None else format_size(round(usage.memory)),
        None if usage.gpu is None else f"{100 * usage.gpu:.0f}{NBSP}% of the GPU",
    )


def plan_reason(plan: ReplicaPlan) -> str:
    """``the fewest replicas: one serves 1,034/s``."""
    serves = f"one serves {format_rate(plan.safe_rate)}"
    if plan.simulated:
        serves += " as simulated, more than the load generator could send"
    return serves if plan.advantage is None else f"{_ADVANTAGES[plan.advantage]}: {serves}"


def plan_sentence(rate: float, plans: list[ReplicaPlan]) -> str:
    """What serves ``rate`` requests/s, for clients that send text, too."""
    if not plans:
        return f"No deployment keeps the promise, so none serves {format_rate(rate)}."
    first = plans[0]
    sentence = f"{format_rate(rate)}: {_replicas(first)}"
    own = next((plan for plan in plans if plan.sends == "text"), None)
    if own is not None and first.sends == "tensors":
        sentence += f"; for clients that send text {_replicas(own)}"
    return f"{sentence}."


def _replicas(plan: ReplicaPlan) -> str:
    return f"{count(plan.replicas, 'replica')} of {plan.title}, {format_rate(plan.rate)} each"
