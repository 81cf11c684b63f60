"""The sentences of findings, each written once, for pages and terminals alike.

Those of a comparison's recommendation and rules of thumb are in ``wording_recommendation`` and
``wording_rules``.
"""

import math
from collections.abc import Iterator, Sequence

from tuner.analysis.breakdown import Breakdown, break_down
from tuner.analysis.doubts import (
    BaselineDiffers,
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
from tuner.analysis.steps import StepUse, bottleneck
from tuner.goals.objective import Objective
from tuner.goals.sla import Bound
from tuner.load.mix import Mix
from tuner.records.results import HostReading, Insight, Outcome, ProbeRecord, State
from tuner.stats.stalls import Unfitness
from tuner.units import (
    format_cores,
    format_duration,
    format_number,
    format_rate,
    format_size,
)

NBSP = "\N{NO-BREAK SPACE}"
_TOLD = 0.015
"""Share: a smaller gain is none in a simulation."""
STATES = {
    State.OK: "met",
    State.INFEASIBLE: "not met",
    State.BEATEN: "eliminated",
    State.FAILED: "failed",
}
HIDDEN_COMPUTE = (
    '"infer" includes waiting: the model keeps several batches in flight (parameters[pipeline]), '
    "and each waits for the one before it."
)
NO_GAIN_EXPORTED = (
    "it holds the best configuration measured, not shown to be better than your current one"
)
_LACKING = {
    Lack.BASELINE: "The baseline was not measured, so no gain is known.",
    Lack.CONFIRMATION: (
        "Not confirmed: the search measures each candidate once, and the best of many single "
        "measurements tends to be too high."
    ),
    Lack.OWN_CONFIRMATION: ("{subject}: measured once by the search, not confirmed."),
    Lack.EVALUATION: "Not measured: {subject}. The comparison did not finish.",
    Lack.UPPER_END: (
        "{subject}: no probed rate violates the SLA, so the true capacity may be higher."
    ),
    Lack.VERIFICATION: (
        "{subject}: the recommended rate was not verified, a lower one was. Operate at the "
        "verified rate if the SLA must hold."
    ),
    Lack.CLIENT: (
        "{subject}: the load generator saturated before the server, so the true capacity may be "
        "higher. Raise --workers or give the load generator its own cores."
    ),
}


def bottleneck_sentences(
    uses: Sequence[StepUse], insight: Insight | None, what: str
) -> Iterator[str]:
    """Which of the models is the busiest, and what one more instance of it would gain; ``what``
    they are: steps, or models.
    """
    worst = bottleneck(list(uses))
    if worst is None:
        return
    busy = f"{100 * worst.utilization:.0f}{NBSP}%"
    sentence = f"Bottleneck: {worst.model}, busy {busy} of the time."
    more = None if insight is None else insight.one_more.get(worst.model)
    if more is not None:
        change = f"{100 * abs(more - 1):.0f}{NBSP}%"
        verb = f"gain {change}" if more >= 1 else f"lose {change}"
        verb = verb if abs(more - 1) >= _TOLD else "gain nothing"
        sentence += f" One more instance of it would {verb} (simulated)."
    yield sentence
    if insight is None or not insight.one_more:
        return
    best = max(insight.one_more, key=insight.one_more.__getitem__)
    most = insight.one_more[best]
    if most - 1 < _TOLD:
        yield (
            f"No {what} would gain from one more instance (simulated): what they share, such as "
            "the device or the cores, is the limit."
        )
    elif best != worst.model:
        yield f"One more instance of {best} would gain {100 * (most - 1):.0f}{NBSP}% (simulated)."


def describe_mix(mix: Mix) -> str:
    """``17 % detector, 83 % classifier``, and what is held."""
    parts = [f"{100 * share:.3g} % {model}" for model, share in mix.shares.items()]
    parts += [f"{model} held at {format_rate(rate)}" for model, rate in mix.held]
    return ", ".join(parts)


def doubt_sentence(doubt: Doubt) -> str:
    """What a reader must know, with its figures and, where there is one, the remedy."""
    match doubt:
        case Lacking(lack, subject):
            return upper_first(_LACKING[lack].format(subject=subject))
        case UnsteadyRounds(subject, low, high, objective):
            ends = " to ".join(_amount(end, objective) for end in (low, high))
            return (
                f"{upper_first(subject)}: rounds range from {ends}, more than chance explains. The "
                "machine was not steady, which widens the interval."
            )
        case ClientLimitedProbes(number):
            verb = "does" if number == 1 else "do"
            return (
                f"Client-limited: {count(number, 'probe')} violated the SLA only because the "
                f"client sent late, and {verb} not count. Raise --workers or send the load from "
                "another machine to see whether the server serves more."
            )
        case Refutation() | Drift():
            return _change_sentence(doubt)
        case CpuSteal() | GpuThrottled() | GpuShared():
            return _machine_sentence(doubt)
        case CachedAnswers(share):
            return (
                f"Triton answered {percent(share)} of the requests from its response cache. The "
                "capacity holds only for traffic with as many repeats."
            )
        case BaselineDiffers(searched, compared):
            return (
                "The machine changed: the search measured the baseline at "
                f"{format_rate(searched)}, the comparison at {format_rate(compared)}, so the tuned "
                "configuration may not be the best under these conditions."
            )
        case MachineStalls() | ForeignLoad():
            return _stall_sentence(doubt)


def _change_sentence(doubt: Refutation | Drift) -> str:
    if isinstance(doubt, Refutation):
        hoped, other = doubt.hoped, doubt.other
        return (
            f"Trial {hoped.trial} ({hoped.label}) reached {format_rate(doubt.searched_capacity)} "
            f"in the search and {format_rate(doubt.confirmed_capacity)} in its confirmation, so "
            f"trial {other.trial} ({other.label}) was confirmed, too."
        )
    first, later = (_amount(value, doubt.objective) for value in (doubt.first, doubt.later))
    return (
        f"The machine changed: the baseline measured {first} at first and {later} later, outside "
        "both intervals. Candidates measured far apart in time are not comparable; those of the "
        "confirmation are, since they were measured interleaved."
    )


def _machine_sentence(doubt: CpuSteal | GpuThrottled | GpuShared) -> str:
    match doubt:
        case CpuSteal(share):
            return (
                f"CPU steal: the hypervisor took {percent(share)} of this machine's busy CPU time, "
                "which delays requests and replies. Measure on dedicated CPUs for reliable numbers."
            )
        case GpuThrottled(probes, read, reasons):
            return (
                f"GPU throttled: in {count(probes, 'probe')} of {read:,} the GPU lowered its clock "
                f"({', '.join(reasons)}). A power cap applies to every such card; heat and "
                "hardware slowdowns are specific to this machine and lower the capacity."
            )
        case GpuShared(probes, read, others):
            return (
                f"GPU in use by others: in {count(probes, 'probe')} of {read:,} the server shared "
                f"its GPU with {', '.join(others)}. On a GPU of its own it may serve more."
            )


def _stall_sentence(doubt: MachineStalls | ForeignLoad) -> str:
    if isinstance(doubt, ForeignLoad):
        return (
            f"Other load: other processes used half a core or more for {percent(doubt.share)} of "
            "the time. Stop them and measure again, or read the capacities as those of a shared "
            "machine."
        )
    sentences = [
        f"Machine stalls: {doubt.per_minute:.0f} a minute, up to {format_duration(doubt.longest)}. "
        "No server answers during a stall."
    ]
    if doubt.decided:
        sentences.append(
            f"They decided {count(doubt.decided, 'probe')} of {doubt.probes:,}; there, the "
            "capacity rests on the requests that no stall touched."
        )
    if doubt.undecidable:
        sentences.append(
            f"{upper_first(count(doubt.undecidable, 'probe'))} of {doubt.probes:,} had too many "
            "affected requests for a verdict."
        )
    return " ".join([*sentences, "Measure on dedicated CPUs."])


def unfit_sentence(unfit: Unfitness, bound: Bound) -> str:
    """Said before anything is measured."""
    return (
        f"this machine stalls {unfit.per_minute:.0f} times a minute, up to "
        f"{format_duration(unfit.longest)} (observed for {format_duration(unfit.seconds)}): "
        f"{percent(unfit.share)} of the time, but {bound} allows only {percent(bound.budget)} of "
        "the requests to be late. No server can meet that SLA here"
    )


def undisturbed_words(probe: ProbeRecord) -> str:
    """``met without machine stalls (3 of 800 late, 20 % left out)``; empty if none touched it."""
    rest = probe.undisturbed
    if rest is None:
        return ""
    left_out = f"{percent(rest.left_out)} left out"
    if rest.outcome is None:
        return f"undecidable without machine stalls ({left_out})"
    late = f"{rest.late:,} of {rest.n:,} late"
    return f"{rest.outcome} without machine stalls ({late}, {left_out})"


def _amount(value: float, objective: Objective | None) -> str:
    """A capacity, or a cost."""
    return format_rate(value) if objective is None else objective.show(value)


_MOST_NAMED = 3
"""Candidates that a sentence names."""


def completeness(outcome: Outcome, minimised: bool) -> str:
    """How much of the space was seen, and how likely a better candidate was missed."""
    size = "" if outcome.candidates is None else f" of {outcome.candidates:,}"
    measured = f"Measured {outcome.measured:,}{size} candidates"
    if not outcome.simulated:
        return f"{measured}."
    measured += f", simulated {outcome.simulated:,}."
    missed = missed_sentence(outcome, minimised)
    return f"{measured} {missed}{_equals(outcome)}" if missed else measured


def missed_sentence(outcome: Outcome, minimised: bool) -> str | None:
    """The probability that a better candidate was not measured; None if nothing tells it."""
    if not outcome.simulated or outcome.missed is None:
        return None
    by = _by(outcome)
    better = f"costs at least {by} less" if minimised else f"is more than {by} better"
    chance = "less than 1 %" if outcome.missed < 0.01 else f"{100 * outcome.missed:.0f} %"
    return f"Estimated probability that an unmeasured configuration {better}: {chance}."


def _by(outcome: Outcome) -> str:
    return f"{100 * outcome.by:.0f} %"


def _equals(outcome: Outcome) -> str:
    """Which candidates were treated as equal to the best, in a sentence that begins with a space;
    empty if there are none.
    """
    alike, parts = outcome.alike, []
    if alike:
        shown = "; ".join(alike[:_MOST_NAMED])
        more = f" and {len(alike) - _MOST_NAMED} more" if len(alike) > _MOST_NAMED else ""
        parts.append(f"{count(len(alike), 'other')} the same ({shown}{more})")
    if outcome.near:
        parts.append(f"{count(outcome.near, 'other')} within {_by(outcome)}")
    if not parts:
        return ""
    return f" Treated as equal to the best in the simulation: {', and '.join(parts)}."


def time_sentence(probe: ProbeRecord) -> str | None:
    """``mean latency 12.3 ms at 300/s: client 0.1, … rest 0.1 ms · mean batch 6.18 · server 1
    core``, as far as it is known.
    """
    breakdown = break_down(probe)
    mean = probe.server.mean_batch if probe.server is not None else None
    clauses = (
        None if breakdown is None or breakdown.mean <= 0 else _parts_of_mean(probe, breakdown),
        None if mean is None else f"mean batch {format_number(mean)}",
        None if probe.host is None else _used(probe.host),
    )
    return " · ".join(clause for clause in clauses if clause) or None


def _parts_of_mean(probe: ProbeRecord, breakdown: Breakdown) -> str:
    """All parts with the same number of decimals, so that they add up."""
    decimals = min(6, max(0, 2 - math.floor(math.log10(breakdown.mean * 1000))))

    def ms(seconds: float) -> str:
        return f"{seconds * 1000:.{decimals}f}"

    known = ", ".join(f"{name} {ms(v)}" for name, v in breakdown.parts.items() if v is not None)
    at = f" at {format_rate(probe.rate)}" if probe.rate is not None else ""
    clause = f"mean latency {ms(breakdown.mean)} ms{at}: {known} ms"
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
    """``3.1 × (95 %: 2.9 to 3.4)``."""
    return f"{times(ratio.value)} ({ratio_interval_words(ratio)})"


def ratio_interval_words(ratio: Ratio) -> str:
    """``95 %: 2.9 to 3.4``, with the decimals of the ratio itself; two for an end next to 1, which
    show whether the interval contains 1.
    """

    def end(value: float) -> str:
        decimals = 2 if abs(value - 1) < 0.05 else _decimals(ratio.value)
        return f"{value:.{decimals}f}"

    is_open = not math.isfinite(ratio.high)
    ends = f"at least {end(ratio.low)}" if is_open else f"{end(ratio.low)} to {end(ratio.high)}"
    return f"95{NBSP}%: {ends}"


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
    return f"{ratio:.{_decimals(ratio)}f}{NBSP}×"


def _decimals(ratio: float) -> int:
    return 0 if ratio >= 20 else 1 if ratio >= 2 else 2


def percent(share: float) -> str:
    """Of a share 0..1, with as many digits as can matter."""
    value = 100 * share
    digits = f"{value:.3g}" if value > 90 else f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return f"{digits}{NBSP}%"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def upper_first(text: str) -> str:
    """Names such as "FastAPI" keep their other capitals."""
    return text[:1].upper() + text[1:]
