"""The sentences of a search's result, each written once, for pages and terminals alike."""

from math import isinf

from tuner.analysis.search_findings import SearchFindings
from tuner.goals.objective import Objective
from tuner.records.results import Evaluation, State
from tuner.report.metric import Metric
from tuner.report.wording import completeness, count, percent, times
from tuner.units import format_rate

SAME = 0.02
"""A gain up to this share is no gain: capacities are found in steps of about that size."""


def promise(findings: SearchFindings) -> str:
    """``p99 ≤ 20 ms, gpu_memory<20GiB``: the SLA and the constraints."""
    return ", ".join(map(str, [findings.sla, *findings.constraints]))


def promise_at(findings: SearchFindings) -> str:
    """The same with the rate, where one was given."""
    objective = findings.objective
    if objective is None:
        return promise(findings)
    at_rate = f"{findings.sla} at {format_rate(objective.rate)}"
    return ", ".join(map(str, [at_rate, *findings.constraints]))


def headline(findings: SearchFindings) -> str:
    winner, gain = findings.winner, findings.gain
    if not findings.evaluations:
        return "Nothing has been measured yet"
    if winner is None:
        return f"No candidate keeps {promise_at(findings)}"
    if findings.objective is not None:
        return _cost_headline(findings, winner, findings.objective)
    rate = f"{format_rate(winner.capacity)} within {promise_at(findings)}"
    if findings.baseline_wins:
        if findings.candidates == 1:
            return f"The model as found serves {rate}"
        return "The configuration as found is the best of all that were measured"
    if gain is None:
        return rate
    if gain < 1 + SAME:
        return f"No gain worth a change: {rate}"
    return f"{times(gain)} the requests within {promise_at(findings)}"


def _cost_headline(findings: SearchFindings, winner: Evaluation, objective: Objective) -> str:
    value, gain = objective.show(winner.cost.value if winner.cost else None), findings.gain
    if findings.baseline_wins:
        return f"The configuration as found is the best of all: {objective.title} {value}"
    if gain is None or gain < 1 + SAME:
        return f"{objective.title}: {value}"
    return f"{times(gain)} less {objective.title}: {value}"


def answer(findings: SearchFindings) -> str:
    """One or two sentences below the headline."""
    if not findings.evaluations:
        return "This page will fill as soon as the first candidate is done."
    first, last = findings.baseline, findings.winner
    if last is None:
        return _how_near(findings.closest)
    metric = Metric(findings.objective)
    rate = metric.show(metric.value(last))
    if first is None:
        return f"{last.label}: {rate}. The model as found was not measured."
    if findings.baseline_wins:
        return f"{first.label}: {rate} within {promise_at(findings)}."
    if first.state is State.FAILED:
        return f"{last.label}: {rate}. The model as found could not be measured."
    if first.capacity is None:
        at = "at that rate" if findings.objective else "at any rate that was tried"
        return f"{last.label}: {rate}. The model as found does not keep the promise {at}."
    return f"{rate} instead of {metric.show(metric.value(first))}, with {last.label}."


def _how_near(nearest: Evaluation | None) -> str:
    if nearest is None or nearest.bound_ratio is None:
        return "No candidate could be measured; the reasons are below."
    who = f"Closest came {nearest.label}"
    if nearest.baseline:
        who = f"Closest came the model as found ({nearest.label})"
    if isinf(nearest.bound_ratio):
        return f"{who}; even there failed requests reach the percentile."
    if nearest.bound_ratio <= 1 and nearest.cost is not None:
        return f"{who}: within the bound in most probes, but not in all that counted."
    if nearest.bound_ratio <= 1:
        return f"{who}: within the bound at face value, but too few requests to prove it."
    return f"{who}: it misses the bound by {percent(nearest.bound_ratio - 1)}."


def search_sentences(findings: SearchFindings) -> list[str]:
    """How much of the space was seen, and why the search ended; none before it did."""
    outcome, evaluations = findings.outcome, findings.evaluations
    if outcome is None:
        return []
    minimised = findings.objective is not None
    sentences = [f"It ended because {outcome.reason}.", completeness(outcome, minimised)]
    behind = sum(e.state is State.BEATEN for e in evaluations)
    if behind:
        sentences.append(
            f"Left behind: {count(behind, 'candidate')} that did not keep a rate which the best "
            "one had reached. Of such a capacity only a range is known."
        )
    in_place = sum(not e.relaunched for e in evaluations)
    if in_place:
        sentences.append(
            f"Servers changed in place: {in_place}, where a candidate differed from the one before "
            "in instances alone. What was confirmed got fresh ones."
        )
    return sentences


def method_sentences(findings: SearchFindings) -> list[str]:
    """What the numbers mean."""
    kept, objective = promise_at(findings), findings.objective
    meaning = [
        f"Capacity is the highest rate that keeps {kept}: where a curve through the late "
        "requests of all probes crosses what the promise allows. Its interval holds the truth "
        "with a probability of 95 %, as far as the machine stays what it was.",
        "The recommended rate is 7 to 15 % below capacity, 10 % where the promise breaks within a "
        "few per cent of load, and never above the interval's lower end. A rate is called proven "
        "only after a probe of at least 5 s in which the promise was kept, and if that probe, or "
        "all probes together, show at the stated confidence that it is.",
    ]
    if objective is not None:
        meaning = [
            f"Every candidate was offered {format_rate(objective.rate)}. One that keeps "
            f"{kept} comes to its {objective}, the mean of its rounds: the less, the "
            "better. Its interval of 95 % is from how rounds differ, and from their own errors.",
            "The promise is called proven only after a probe that, by itself, showed at its stated "
            "confidence that it is kept.",
        ]
    return [
        *meaning,
        "Late requests come in groups, since those in a queue wait together. Each group counts "
        "for the little that it says, so verdicts need more requests than if each told for itself.",
        "Latency counts from the moment at which a request was planned to be sent, so a server "
        "that falls behind cannot slow down the clock; a failed request is infinitely late.",
        "A probe at which the client itself gave out says nothing of the server, and is left out.",
    ]
