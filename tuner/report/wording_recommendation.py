"""The sentences of a comparison's recommendation, each written once."""

from tuner.analysis.bands import Answer, Band
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
    "service": "already running",
    "naive": "the simplest to run",
    "fastapi": "the simplest to run",
    "triton": "one server to run, without FastAPI",
    "hybrid": "two servers to run",
}
NAIVE = (
    "FastAPI (naive) computes on the event loop, as most tutorials do: while it computes one "
    "request, all others wait."
)
_ADVANTAGES = {
    Advantage.ONLY: "the only one that meets the SLA",
    Advantage.FEWEST: "the fewest replicas",
    Advantage.FEWEST_CORES_UNKNOWN: "no other needs fewer replicas; cores are unknown",
    Advantage.FEWEST_AND_LEAST_CORES: "no other needs fewer replicas or cores",
    Advantage.FIRST_FOR_TEXT: "the best for clients that send text",
}
_SHORTFALLS = {
    Shortfall.UNMEASURED: "{title} was not measured.",
    Shortfall.FAILED: "{title} could not be measured: {failure}",
    Shortfall.KEEPS_NO_RATE: "{title} meets {sla} at no probed rate.",
    Shortfall.CLIENT_FELL_BEHIND: "{title} may serve more: the load generator saturated first.",
}


def sla_text(findings: ComparisonFindings) -> str:
    """``p99 ≤ 20 ms``; as it stands in the record where this version cannot read it."""
    return str(findings.sla or findings.comparison.sla)


def headline(findings: ComparisonFindings) -> str:
    """The answer: for clients that send text where there is one for them, and what others can use
    besides.
    """
    answers = findings.recommendation.answers
    known = [answer for answer in answers if answer.bands]
    if not known:
        return f"No deployment meets {sla_text(findings)}"
    first, *others = known
    steps = band_steps(first.bands, findings)
    if first is not answers[0]:
        return f"For {CLIENTS[first.clients]} alone: {steps}"
    return ". ".join([steps, *filter(None, (_more_for(first, o, findings) for o in others))])


def _more_for(first: Answer, other: Answer, findings: ComparisonFindings) -> str:
    """What other clients can use beyond the first answer, or instead; empty if nothing."""
    if other.bands == first.bands:
        return ""
    common = 0
    for one, another in zip(first.bands[:-1], other.bands[:-1], strict=False):
        if (one.deployment, one.high) != (another.deployment, another.high):
            break
        common += 1
    steps = band_steps(other.bands[common:], findings)
    if not steps:
        return ""
    above = f"Above {format_rate(other.bands[common - 1].high)}, if" if common else "If"
    return f"{above} clients can send {other.clients}: {steps}"


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
        return "The table below shows what came closest."
    steps = [f"For {CLIENTS[a.clients]}: {band_steps(a.bands, findings)}." for a in answers]
    return f"Within {sla_text(findings)}. {' '.join(steps)} Higher rates need replicas."


def reasons(findings: ComparisonFindings) -> list[str]:
    """The sentences behind the recommendation."""
    sla = sla_text(findings)
    sentences = (_reason(finding, sla) for finding in findings.recommendation.findings)
    told = [sentence for sentence in sentences if sentence]
    return [*told, NAIVE] if _has_naive(findings) else told


def _has_naive(findings: ComparisonFindings) -> bool:
    return any(each.kind == "naive" for each in findings.comparison.deployments)


def _reason(finding: Finding, sla: str) -> str | None:
    match finding:
        case BandsForClients():
            return _bands_sentence(finding, sla)
        case Times():
            return _times_sentence(finding)
        case TokenisingTime(seconds):
            return (
                "Clients of Triton alone must tokenize their requests, which took "
                f"{format_duration(seconds)} a request here."
            )
        case Takes():
            return _takes_sentence(finding)
        case FallsShort(shortfall, title, failure):
            return _SHORTFALLS[shortfall].format(
                title=title, sla=sla, failure=failure or "no reason was recorded"
            )


def _times_sentence(finding: Times) -> str:
    first, second, ratio = finding.first.title, finding.second.title, finding.ratio
    serves = f"{first} serves {ratio_words(ratio)} what {second} does"
    match finding.question:
        case Question.IS_NAIVE_ENOUGH if ratio.low > 1:
            return f"{serves}: the naive form is enough here."
        case Question.IS_NAIVE_ENOUGH if ratio.is_tie:
            return f"{serves}: a tie, so FastAPI is preferred."
        case Question.IS_NAIVE_ENOUGH:
            return f"{serves} and is not recommended."
        case Question.DOES_TUNING_PAY if ratio.is_tie:
            return f"{serves}: no gain shown, so keep your current configuration."
        case Question.DOES_BATCHING_PAY if ratio.is_tie:
            return f"{serves}: a tie, so batching gains nothing that is shown here."
        case Question.DOES_BATCHING_PAY:
            return (
                f"{serves}: batching costs more than it saves here. {first} is measured for "
                "comparison only and never recommended."
            )
        case _:
            return f"{serves}."


def _bands_sentence(finding: BandsForClients, sla: str) -> str:
    clients = CLIENTS[finding.answer.clients].capitalize()
    if not finding.steps:
        return f"{clients}: no deployment meets {sla} at any probed rate."
    sentences = [sentence for step in finding.steps for sentence in _step_sentences(step, sla)]
    reach = format_rate(finding.answer.reach)
    sentences.append(f"Above {reach}: replicas of {finding.best.title}.")
    return f"{clients}: {' '.join(sentences)}"


def _step_sentences(step: BandStep, sla: str) -> list[str]:
    title, edge = step.chosen.title, step.band.edge
    interval = "" if edge is None else f", {interval_words(*edge)}"
    capacity = format_rate(step.chosen.evaluation.capacity)
    reach = (
        f"up to {format_rate(step.band.high)}, {_SIMPLICITY[step.chosen.deployed.kind]} "
        f"(capacity {capacity}{interval})"
    )
    sentences = [f"{title} meets {sla} {reach}."]
    if step.below is not None:
        gain = step.gain
        more = f"; it serves {ratio_words(gain)} what {step.below.title} does" if gain else ""
        sentences = [f"Above, {title} {reach}{more}."]
    for other, ratio in step.ties:
        times = f" at {ratio_words(ratio)}" if ratio else ""
        sentences.append(f"{other.title} and {title} tie{times}; the simpler one is preferred.")
    return sentences


def _takes_sentence(finding: Takes) -> str | None:
    usages = [(finding.titles[u.deployment], usage_words(u)) for u in finding.costs.together]
    known = "; ".join(f"{title} {usage}" for title, usage in usages if usage)
    if not known or finding.costs.rate is None:
        return None
    return (
        f"Resources at {format_rate(finding.costs.rate)}, a rate that all of them serve: {known}."
    )


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
        serves += " (simulated; the load generator saturated first)"
    return serves if plan.advantage is None else f"{_ADVANTAGES[plan.advantage]}: {serves}"


def plan_sentence(rate: float, plans: list[ReplicaPlan]) -> str:
    """What serves ``rate`` requests/s, for clients that send text, too."""
    if not plans:
        return f"No deployment serves {format_rate(rate)} within the SLA."
    first = plans[0]
    sentence = f"{format_rate(rate)}: {_replicas(first)}"
    own = next((plan for plan in plans if plan.sends == "text"), None)
    if own is not None and first.sends == "tensors":
        sentence += f"; for clients that send text {_replicas(own)}"
    return f"{sentence}."


def _replicas(plan: ReplicaPlan) -> str:
    return f"{count(plan.replicas, 'replica')} of {plan.title}, {format_rate(plan.rate)} each"
