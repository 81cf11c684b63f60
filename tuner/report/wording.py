"""The sentences of findings, each written once, for pages and terminals alike.

Those of a comparison's recommendation and rules of thumb are in ``wording_recommendation`` and
``wording_rules``.
"""

import math

from tuner.analysis.breakdown import Breakdown, break_down
from tuner.analysis.doubts import (
    CachedAnswers,
    ClientLimitedProbes,
    CpuSteal,
    Doubt,
    Drift,
    GpuShared,
    GpuThrottled,
    Lack,
    Lacking,
    Refutation,
    UnsteadyRounds,
)
from tuner.analysis.ratios import Ratio
from tuner.analysis.stalls import ForeignLoad, MachineStalls
from tuner.goals.objective import Objective
from tuner.goals.sla import Bound
from tuner.records.results import HostReading, Outcome, ProbeRecord, State
from tuner.stats.stalls import Unfitness
from tuner.units import (
    format_cores,
    format_duration,
    format_number,
    format_rate,
    format_size,
)

NBSP = "\N{NO-BREAK SPACE}"
STATES = {
    State.OK: "met",
    State.INFEASIBLE: "not met",
    State.BEATEN: "left behind",
    State.FAILED: "failed",
}
HIDDEN_COMPUTE = (
    '"infer" is not the time on the card alone: the model keeps several batches in hand '
    "(parameters[pipeline]), and each also waits for the one before it."
)
_LACKING = {
    Lack.BASELINE: "The model as found was not measured: there is nothing to compare with.",
    Lack.CONFIRMATION: (
        "Not confirmed: the figures come from the search alone, which measures each candidate "
        "once; the best of many such measurements tends to flatter."
    ),
    Lack.OWN_CONFIRMATION: (
        "{subject}: taken from the search, not confirmed by a second measurement."
    ),
    Lack.EVALUATION: "Not measured: {subject}. The comparison did not come to its end.",
    Lack.UPPER_END: (
        "{subject}: no rate was found at which the promise breaks, so the true capacity may be "
        "higher."
    ),
    Lack.CLIENT: (
        "{subject}: the load generator fell behind before the server did, so the true capacity may "
        "be higher: raise --workers, or give it cores of its own."
    ),
}


def doubt_sentence(doubt: Doubt) -> str:
    """What a reader must know, with its figures and, where there is one, the remedy."""
    match doubt:
        case Lacking(lack, subject):
            return upper_first(_LACKING[lack].format(subject=subject))
        case UnsteadyRounds(subject, low, high, objective):
            ends = " and ".join(_amount(end, objective) for end in (low, high))
            return (
                f"{upper_first(subject)}: its rounds lie between {ends}, further apart than chance "
                "allows: the machine was not steady, and the interval is wide for it."
            )
        case ClientLimitedProbes(number):
            return (
                f"Client-limited: {count(number, 'probe')} broke the promise only because the "
                "client sent late. No capacity is taken from them: more --workers, or a machine of "
                "its own for the load, would show whether the server holds more."
            )
        case Refutation() | Drift():
            return _change_sentence(doubt)
        case CpuSteal() | GpuThrottled() | GpuShared():
            return _machine_sentence(doubt)
        case CachedAnswers(share):
            return (
                f"Triton answered {percent(share)} of the requests from its response cache, "
                "without executing the model. The capacity holds for traffic that repeats as much."
            )
        case MachineStalls() | ForeignLoad():
            return _stall_sentence(doubt)


def _change_sentence(doubt: Refutation | Drift) -> str:
    if isinstance(doubt, Refutation):
        hoped, other = doubt.hoped, doubt.other
        return (
            f"Trial {hoped.trial} ({hoped.label}) was put at "
            f"{format_rate(doubt.searched_capacity)} by the search and at "
            f"{format_rate(doubt.confirmed_capacity)} by its confirmation: of many measurements "
            f"the best one was also lucky. So trial {other.trial} ({other.label}) was confirmed as "
            "well."
        )
    verb = "held" if doubt.objective is None else "came to"
    return (
        f"The machine changed: the model as found {verb} {_amount(doubt.first, doubt.objective)} "
        f"at first and {_amount(doubt.later, doubt.objective)} later, more than the intervals "
        "allow. Candidates that were measured far apart in time do not compare; what was confirmed "
        "was measured by turns."
    )


def _machine_sentence(doubt: CpuSteal | GpuThrottled | GpuShared) -> str:
    match doubt:
        case CpuSteal(share):
            return (
                f"The hypervisor took {share:.0%} of the time in which this machine's processors "
                "wanted to run: late sends and late answers are also its own. Measure where "
                "processors are not shared, or take the figures for what this host gives now."
            )
        case GpuThrottled(probes, read, reasons):
            return (
                f"GPU throttled: in {count(probes, 'probe')} of {read} the GPU lowered its clock "
                f"({', '.join(reasons)}). A power cap holds wherever that card serves; heat and "
                "hardware slowdowns belong to this machine and this hour, and cost capacity."
            )
        case GpuShared(probes, read, others):
            return (
                f"GPU in use by others: in {count(probes, 'probe')} of {read} the server shared "
                f"its GPU with {', '.join(others)}. With the GPU to itself it may serve more."
            )


def _stall_sentence(doubt: MachineStalls | ForeignLoad) -> str:
    if isinstance(doubt, ForeignLoad):
        return (
            f"Other processes of this machine had half a core or more for {percent(doubt.share)} "
            "of the time: the server shared its processors with them. End them, or take the "
            "figures for what is left."
        )
    said = (
        f"The machine itself stalled {doubt.per_minute:.0f} times a minute, for up to "
        f"{format_duration(doubt.longest)}: no server answers then"
    )
    if doubt.decided:
        said += (
            f". In {count(doubt.decided, 'probe')} of {doubt.probes} this made the difference: "
            "they are stated as they happened, and the capacity rests on the requests that no "
            "stall can have touched"
        )
    if doubt.undecidable:
        said += (
            f". {upper_first(count(doubt.undecidable, 'probe'))} of {doubt.probes} had too many "
            "such requests to tell"
        )
    return f"{said}. Measure where processors are not shared."


def unfit_sentence(unfit: Unfitness, bound: Bound) -> str:
    """Said before anything is measured."""
    return (
        f"this machine stalls {unfit.per_minute:.0f} times a minute, for up to "
        f"{format_duration(unfit.longest)} (seen in {format_duration(unfit.seconds)}): "
        f"{percent(unfit.share)} of the time, and {bound} allows {percent(bound.budget)} of the "
        "requests to be late, so it is unfit for that SLA, whatever the server"
    )


def undisturbed_words(probe: ProbeRecord) -> str:
    """``met without the machine's stalls (3 of 800 late, 20 % left out)``; empty if none touched
    it.
    """
    rest = probe.undisturbed
    if rest is None:
        return ""
    left_out = f"{percent(rest.left_out)} left out"
    if rest.outcome is None:
        return f"undecidable without the machine's stalls ({left_out})"
    late = f"{rest.late:,} of {rest.n:,} late"
    return f"{rest.outcome} without the machine's stalls ({late}, {left_out})"


def _amount(value: float, objective: Objective | None) -> str:
    """A capacity, or a cost."""
    return format_rate(value) if objective is None else objective.show(value)


_MOST_NAMED = 3
"""Candidates that a sentence names."""


def completeness(outcome: Outcome, minimised: bool) -> str:
    """How much of the space was seen, and how likely a better candidate was missed."""
    size = (
        "of more than can be counted"
        if outcome.candidates is None
        else f"of {outcome.candidates:,}"
    )
    measured = f"{outcome.measured} {size} candidates were measured"
    if not outcome.simulated:
        return f"{measured}."
    measured += f", {outcome.simulated:,} simulated."
    if outcome.missed is None:
        return measured
    better = "comes to less by over" if minimised else "serves more by over"
    chance = (
        "less than 1 %" if outcome.missed < 0.01 else f"{outcome.missed:.0%}".replace("%", " %")
    )
    by = f"{100 * outcome.by:.0f} %"
    return (
        f"{measured} The chance that one of the others {better} {by} is "
        f"put at {chance}, as far as the simulation, set right by what was measured, can tell."
        f"{_equals(outcome, by)}"
    )


def _equals(outcome: Outcome, by: str) -> str:
    """Which candidates were treated as equal to the best, in a sentence that begins with a space;
    empty if there are none.
    """
    alike, parts = outcome.alike, []
    if alike:
        shown = "; ".join(alike[:_MOST_NAMED])
        more = f" and {len(alike) - _MOST_NAMED} more" if len(alike) > _MOST_NAMED else ""
        parts.append(f"{count(len(alike), 'other')} would do the same ({shown}{more})")
    if outcome.near:
        parts.append(f"{count(outcome.near, 'other')} would come within {by} of it")
    if not parts:
        return ""
    return f" In the simulation, {', and '.join(parts)}: treated as equal to the best one."


def time_sentence(probe: ProbeRecord) -> str | None:
    """``where 12.3 ms went at 300/s: client 0.1, … rest 0.1 ms · mean batch 6.18 · server 1 core``,
    as far as it is known.
    """
    breakdown = break_down(probe)
    mean = probe.server.mean_batch if probe.server is not None else None
    clauses = (
        None if breakdown is None or breakdown.mean <= 0 else _where_it_went(probe, breakdown),
        None if mean is None else f"mean batch {format_number(mean)}",
        None if probe.host is None else _used(probe.host),
    )
    return " · ".join(clause for clause in clauses if clause) or None


def _where_it_went(probe: ProbeRecord, breakdown: Breakdown) -> str:
    """All parts with the same number of decimals, so that they add up."""
    decimals = min(6, max(0, 2 - math.floor(math.log10(breakdown.mean * 1000))))

    def ms(seconds: float) -> str:
        return f"{seconds * 1000:.{decimals}f}"

    known = ", ".join(f"{name} {ms(v)}" for name, v in breakdown.parts.items() if v is not None)
    at = f" at {format_rate(probe.rate)}" if probe.rate is not None else ""
    clause = f"where {ms(breakdown.mean)} ms went{at}: {known} ms"
    if breakdown.rest is None and probe.server is not None:
        return f"{clause}; rest unknown: the server counted {probe.server.requests:,} requests"
    over = breakdown.over
    return f"{clause}; the server counted {ms(over)} ms more" if over > 0 else clause


def _used(host: HostReading) -> str | None:
    known = list_known(
        None if host.cpu is None else format_cores(host.cpu),
        None if host.memory is None else format_size(host.memory),
    )
    return f"server {known}" if known else None


def list_known(*values: str | None) -> str:
    """``1.4 cores, 820 MiB``: those that are known, with commas."""
    return ", ".join(value for value in values if value)


def ratio_words(ratio: Ratio) -> str:
    """``3.12 × (95 %: 2.9 to 3.4)``."""
    low = format_number(ratio.low)
    is_open = not math.isfinite(ratio.high)
    ends = f"at least {low}" if is_open else f"{low} to {format_number(ratio.high)}"
    return f"{format_number(ratio.value)}{NBSP}× (95{NBSP}%: {ends})"


def interval_words(low: float, high: float | None) -> str:
    """``95 %: 205/s to 221/s``; an open end is None or infinite."""
    if high is None or math.isinf(high):
        return f"95{NBSP}%: at least {format_rate(low)}"
    return f"95{NBSP}%: {format_rate(low)} to {format_rate(high)}"


def swap_words(seconds: float | None, lost: int, requests: int) -> str:
    """``3.6 s, 12 of 900 lost``."""
    return f"{format_duration(seconds)}, {lost:,} of {requests:,} lost"


def times(ratio: float) -> str:
    """``2.3 ×``, with as many digits as can matter."""
    digits = 0 if ratio >= 20 else 1 if ratio >= 2 else 2
    return f"{ratio:.{digits}f}{NBSP}×"


def percent(share: float) -> str:
    """Of a share 0..1, with as many digits as can matter."""
    value = 100 * share
    digits = f"{value:.3g}" if value > 90 else f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return f"{digits}{NBSP}%"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def upper_first(text: str) -> str:
    """Names such as "FastAPI" keep their other capitals."""
    return text[:1].upper() + text[1:]
