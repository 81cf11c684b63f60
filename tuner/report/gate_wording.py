"""Words for the verdicts of a gate."""

from tuner.records.gate import Cause, GateRecord, Verdict
from tuner.report.wording import percent
from tuner.units import format_rate

_HEADLINES = {
    Verdict.PASS: "Pass",
    Verdict.FAIL: "Fail",
    Verdict.INCONCLUSIVE: "Inconclusive",
}


def headline(record: GateRecord) -> str:
    """``Fail: 12 % slower than origin/main``."""
    return f"{_HEADLINES[record.verdict]}: {_in_short(record)}"


def _in_short(record: GateRecord) -> str:
    against = record.against
    match record.cause:
        case Cause.NOT_WORSE | Cause.WORSE | Cause.OPEN:
            return f"{record.model} serves {_change(record)} than with {against}"
        case Cause.NEW_FAILED:
            return f"{record.model} does not run"
        case Cause.OLD_FAILED:
            return f"{record.model} of {against} does not run"
        case Cause.NEW_MISSES_SLA:
            return f"{record.model} meets {record.sla} at no rate any more"
        case Cause.OLD_MISSES_SLA:
            return f"{record.model} of {against} meets {record.sla} at no rate, this one does"
        case Cause.BOTH_MISS_SLA:
            return f"neither version of {record.model} meets {record.sla} at any rate"
        case Cause.RATE_MET | Cause.RATE_VIOLATED:
            verb = "meets" if record.cause is Cause.RATE_MET else "violates"
            return f"{record.model} {verb} {record.sla} at {format_rate(record.rate)}"
        case Cause.RATE_OPEN:
            return f"the test of {record.model} at {format_rate(record.rate)} did not decide"
        case Cause.NO_BASELINE:
            return f"{record.model} is new: there is nothing to compare it with"
        case Cause.OTHER_MACHINE:
            return f"{against} was measured on another machine"
        case Cause.INTERRUPTED:
            return f"the gate of {record.model} was interrupted"
        case Cause.UNKNOWN:
            return f"too little of {record.model} was measured"


def _change(record: GateRecord) -> str:
    """``8 % less (5 to 11 %)``; of a lower bound below 0, ``3 % less to 2 % more``."""
    assert record.ratio is not None
    assert record.low is not None
    assert record.high is not None
    value, low, high = record.ratio - 1, record.low - 1, record.high - 1
    word = "more" if value >= 0 else "less"
    if low < 0 < high:
        interval = f"{percent(-low)} less to {percent(high)} more"
    else:
        ends = sorted((abs(low), abs(high)))
        interval = f"{percent(ends[0])} to {percent(ends[1])}"
    return f"{percent(abs(value))} {word} ({interval})"


def reason(record: GateRecord) -> str:
    """What the verdict rests on, and what may be done about it."""
    lost = percent(record.margin)
    match record.cause:
        case Cause.NOT_WORSE:
            return f"With a probability of 95 %, less than the margin of {lost} is lost."
        case Cause.WORSE:
            return (
                f"With a probability of 95 %, it serves less; more than the margin of {lost} is "
                "lost as far as was measured."
            )
        case Cause.OPEN:
            return (
                f"Both is possible: that more than the margin of {lost} is lost, and that less is. "
                "A longer --timeout, a wider --margin or a calmer machine decides."
            )
        case Cause.NEW_FAILED | Cause.OLD_FAILED:
            return "Its failure is below."
        case Cause.NEW_MISSES_SLA | Cause.OLD_MISSES_SLA | Cause.BOTH_MISS_SLA:
            return "Every rate that was tried has too many late requests, down to the lowest."
        case Cause.RATE_MET:
            return "A sequential test of that rate, at 99 % confidence."
        case Cause.RATE_VIOLATED:
            return "A sequential test of that rate, at 99 % confidence: too many requests are late."
        case Cause.RATE_OPEN:
            return (
                "The rate is too near the capacity, a stall of the machine decided, or the time "
                "was over: a lower rate, a longer --timeout or a calmer machine decides."
            )
        case Cause.NO_BASELINE:
            return "Nothing was measured. The next change of this model is compared with this one."
        case Cause.OTHER_MACHINE:
            return (
                "Capacities of different machines say nothing about a change: compare with a git "
                "revision, which measures both versions here."
            )
        case Cause.INTERRUPTED:
            return "What was measured until then is below. The same command starts anew."
        case Cause.UNKNOWN:
            return "The time was over before two rounds were played: a longer --timeout decides."
