"""The sentences of a search's result, each written once, for pages and terminals alike."""

from math import isinf

from tuner.analysis.ratios import Ratio
from tuner.analysis.search_findings import GainVerdict, SearchFindings
from tuner.records.results import Evaluation, State
from tuner.report.metric import Metric
from tuner.report.wording import (
    NBSP,
    completeness,
    count,
    percent,
    ratio_interval_words,
    ratio_words,
    times,
    upper_first,
)
from tuner.units import format_rate

_KEEP = "keep your current configuration"


def sla_text(findings: SearchFindings) -> str:
    """``p99 ≤ 20 ms, gpu_memory<20GiB``: the SLA and the constraints."""
    return ", ".join(map(str, [findings.sla, *findings.constraints]))


def sla_text_at_rate(findings: SearchFindings) -> str:
    """The same with the rate, if one was given."""
    objective = findings.objective
    if objective is None:
        return sla_text(findings)
    at_rate = f"{findings.sla} at {format_rate(objective.rate)}"
    return ", ".join(map(str, [at_rate, *findings.constraints]))


def candidate_name(evaluation: Evaluation) -> str:
    """Its settings in a line; a baseline without any is the current configuration."""
    return evaluation.label if evaluation.candidate.settings else "your current configuration"


def headline(findings: SearchFindings) -> str:
    winner, sla = findings.winner, sla_text_at_rate(findings)
    if not findings.evaluations:
        return "Nothing has been measured yet"
    if winner is None:
        return f"No candidate meets {sla}"
    metric = Metric(findings.objective)
    value = metric.show(metric.value(winner))
    reached = (
        f"{upper_first(metric.name)}: {value}" if findings.objective else f"{value} within {sla}"
    )
    match findings.gain_verdict:
        case GainVerdict.BASELINE_BEST if findings.candidates == 1:
            return reached if findings.objective else f"The baseline serves {reached}"
        case GainVerdict.BASELINE_BEST:
            return f"No candidate is better: {_KEEP}"
        case GainVerdict.NOT_SHOWN:
            return f"No gain shown: {_KEEP}"
        case GainVerdict.TOO_SMALL:
            return f"Gain below 2{NBSP}%: {_KEEP}"
        case GainVerdict.SHOWN if findings.objective is not None:
            return f"{less_words(findings.gain or 1.0)} less {metric.name}: {value}"
        case GainVerdict.SHOWN:
            return f"{times(findings.gain or 1.0)} the requests within {sla}"
        case _:
            return reached


def gain_words(findings: SearchFindings) -> str | None:
    """``2.3 × (95 %: 1.7 to 3.1)``; of a cost ``33 % less (95 %: 27 % to 38 %)``. None without a
    gain; without an interval if baseline and winner were not measured interleaved.
    """
    gain, interval = findings.gain, findings.gain_interval
    if gain is None or findings.baseline_wins:
        return None
    if findings.objective is None:
        return times(gain) if interval is None else ratio_words(interval)
    ends = "" if interval is None else f" ({gain_interval_words(findings, interval)})"
    return f"{less_words(gain)} less{ends}"


def gain_interval_words(findings: SearchFindings, interval: Ratio) -> str:
    if findings.objective is None:
        return ratio_interval_words(interval)
    return f"95{NBSP}%: {less_words(interval.low)} to {less_words(interval.high)}"


def less_words(gain: float) -> str:
    """``33 %``: the share by which a cost shrinks."""
    share = 100 * (1 - 1 / gain)
    return f"{share:.1f}{NBSP}%" if abs(share) < 10 else f"{share:.0f}{NBSP}%"


def answer(findings: SearchFindings) -> str:
    """One or two sentences below the headline."""
    if not findings.evaluations:
        return "This page fills as soon as the first candidate is measured."
    first, last = findings.baseline, findings.winner
    if last is None:
        return _how_near(findings.closest)
    metric = Metric(findings.objective)
    value, name = metric.show(metric.value(last)), candidate_name(last)
    if first is None:
        return f"{upper_first(name)}: {value}. The baseline was not measured."
    if findings.baseline_wins:
        return f"{upper_first(candidate_name(first))}: {value} within {sla_text_at_rate(findings)}."
    if first.state is State.FAILED:
        return f"{upper_first(name)}: {value}. The baseline could not be measured."
    if first.capacity is None:
        at = "at that rate" if findings.objective else "at any probed rate"
        return f"{upper_first(name)}: {value}. The baseline does not meet the SLA {at}."
    if findings.gain_verdict is not GainVerdict.SHOWN:
        return f"The best candidate ({name}) measured {_best_words(findings)}."
    if not findings.gain_fits_values:
        return f"{upper_first(metric.name)}: {value}."
    return f"{value} instead of {metric.show(metric.value(first))}."


def _best_words(findings: SearchFindings) -> str:
    """``1.60 × (95 %: 0.86 to 3.0) the requests of the baseline``."""
    of = "than the baseline" if findings.objective else "the requests of the baseline"
    return f"{gain_words(findings)} {of}"


def confirmation_words(findings: SearchFindings) -> str:
    """Whether the answer rests on a second, interleaved measurement."""
    shown = findings.to_deploy
    if shown is None or shown.phase != "confirm":
        return "not confirmed by a second measurement"
    rounds = len(shown.cost.by_round if shown.cost else shown.by_round)
    if findings.gain_interval is None:
        return "confirmed by a second measurement"
    interleaved = (
        "measured interleaved with the baseline" if not shown.baseline else "measured interleaved"
    )
    return (
        f"{interleaved}, {count(rounds, 'round')} of fresh servers" if rounds > 1 else interleaved
    )


def _how_near(nearest: Evaluation | None) -> str:
    if nearest is None or nearest.bound_ratio is None:
        return "No candidate could be measured. See the failures below."
    name = candidate_name(nearest)
    who = f"Closest: the baseline ({name})" if nearest.baseline else f"Closest: {name}"
    if isinf(nearest.bound_ratio):
        return f"{who}; too many of its requests failed."
    if nearest.bound_ratio <= 1 and nearest.cost is not None:
        return f"{who}, within the bound in most probes, but not in all that count."
    if nearest.bound_ratio <= 1:
        return f"{who}, within the bound, but with too few requests to verify it."
    return f"{who}, {percent(nearest.bound_ratio - 1)} above the bound."


def search_sentences(findings: SearchFindings) -> list[str]:
    """How much of the space was seen, and why the search ended; none before it did."""
    outcome, evaluations = findings.outcome, findings.evaluations
    if outcome is None:
        return []
    minimised = findings.objective is not None
    sentences = [f"The search ended because {outcome.reason}.", completeness(outcome, minimised)]
    eliminated = sum(e.state is State.BEATEN for e in evaluations)
    if eliminated:
        sentences.append(
            f"Eliminated: {count(eliminated, 'candidate')}, as soon as winning became unlikely. "
            "Only a range is known for the capacity."
        )
    in_place = sum(not e.relaunched for e in evaluations)
    if in_place:
        sentences.append(
            f"Servers reconfigured in place: {in_place:,}, if only the number of instances "
            "changed. The confirmation used fresh servers."
        )
    return sentences


def method_sentences(findings: SearchFindings) -> list[str]:
    """What the numbers mean."""
    sla, objective = sla_text_at_rate(findings), findings.objective
    meaning = [
        f"Capacity: the highest rate that meets {sla}, where a curve fitted to the late requests "
        "of all probes reaches what the SLA allows. The interval contains the true value with a "
        "probability of 95 % if the machine does not change.",
        "Recommended rate: 7 to 15 % below the capacity (10 % if latency rises steeply), and at "
        "most the interval's lower end. It is verified if a probe of at least 5 s met the SLA "
        "there at the stated confidence, by itself or together with all other probes.",
        "Gain: the ratio of winner to baseline in interleaved rounds, so that what changed the "
        "machine in a round affects both. If its interval contains 1, no gain is shown.",
    ]
    if objective is not None:
        meaning = [
            f"Every candidate was offered {format_rate(objective.rate)}. The value of one that "
            f"meets {sla} is its {objective}, the mean of its rounds. Lower is better. The 95 % "
            "interval includes the differences between rounds and the error of each.",
            "The SLA is verified if one probe met it at the stated confidence.",
            "Gain: how much less the winner costs than the baseline in interleaved rounds. If its "
            "interval contains 0 %, no gain is shown.",
        ]
    return [
        *meaning,
        "Late requests come in groups, since they wait in the same queue. Verdicts count groups, "
        "not single requests, and so need more requests.",
        "Latency counts from the planned send time, so a slow server cannot delay the clock. A "
        "failed request counts as late.",
        "A probe in which the client itself was too slow does not count.",
    ]
