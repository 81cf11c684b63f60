"""The tables of a comparison's report, and all that its page says."""

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.analysis.claim import Claim
from tuner.analysis.claims import claims
from tuner.analysis.costs import Usage
from tuner.analysis.kept import read_comparison
from tuner.analysis.recommend import Recommendation, headline, recommend
from tuner.analysis.records import Comparison
from tuner.analysis.replicas import Plan, plan
from tuner.records.manifest import Manifest
from tuner.records.results import Evaluation, ProbeRecord, State
from tuner.records.run import Run
from tuner.report.compare_figures import Look, looks
from tuner.report.html import Html, join, paragraph, tag, text
from tuner.report.sections import heading, number
from tuner.report.story import NBSP, count
from tuner.units import format_cores, format_duration, format_number, format_rate, format_size

_STATES = {
    State.OK: "met",
    State.INFEASIBLE: "not met",
    State.BEATEN: "left behind",
    State.FAILED: "failed",
}
_HOLDS = {True: "yes", False: "no", None: "not measured"}


@dataclass(frozen=True)
class Told:
    """All that the page says, computed once."""

    manifest: Manifest
    comparison: Comparison
    evaluations: list[Evaluation]
    looks: list[Look]
    recommendation: Recommendation
    claims: list[Claim]
    plans: list[Plan]

    @classmethod
    def of(cls, run: Run) -> "Told":
        comparison, evaluations = read_comparison(run), run.evaluations()
        rate = comparison.target_rate
        return cls(
            run.manifest(),
            comparison,
            evaluations,
            looks(comparison, evaluations),
            recommend(comparison, evaluations),
            claims(comparison, evaluations),
            [] if rate is None else plan(comparison, evaluations, rate),
        )

    @property
    def headline(self) -> str:
        if not self.evaluations:
            return "Nothing has been measured yet"
        return headline(self.recommendation, self.comparison)


def deployments_table(told: Told) -> Html:
    names = (
        "deployment",
        "capacity",
        "95 % from",
        "95 % to",
        "operate at",
        "p50 alone",
        "p50 near capacity",
        "p99 near capacity",
        "cores",
        "memory",
        "cold start",
        "swap",
        "lost",
    )
    return _sortable(names, ("deployment",), [_row(look) for look in told.looks])


def _sortable(names: Sequence[str], words: Sequence[str], rows: Sequence[Html]) -> Html:
    head = join(heading(name, name in words) for name in names)
    whole = tag("table", tag("thead", tag("tr", head)), tag("tbody", *rows))
    return tag("div", whole, class_="scroll", tabindex=0)


def _row(look: Look) -> Html:
    found = look.contender.evaluation if look.contender else None
    one = found.unloaded() if found else None
    near = found.at_capacity() if found else None
    host, swap = (near.host if near else None), look.deployed.swap
    cores, memory = (host.cpu, host.memory) if host else (None, None)
    safe = look.contender.safe_rate if look.contender else None
    low, high = (found.low, found.high) if found and found.capacity else (None, None)
    return tag(
        "tr",
        _named(look),
        number(found.capacity if found else None, _capacity(found)),
        _rate(low),
        _rate(high),
        _rate(safe),
        _seconds(_latency(one, "p50")),
        _seconds(_latency(near, "p50")),
        _seconds(_latency(near, "p99")),
        number(cores, "-" if cores is None else format_number(cores)),
        number(memory, "-" if memory is None else format_size(memory)),
        _seconds(look.deployed.cold_start),
        _seconds(swap.seconds if swap else None),
        number(swap.lost if swap else None, f"{swap.lost:,}" if swap else "-"),
        class_="none" if safe is None else None,
    )


def _capacity(found: Evaluation | None) -> str:
    if found is None:
        return "not measured"
    return _STATES[found.state] if found.capacity is None else format_rate(found.capacity)


def _named(look: Look) -> Html:
    mark = f"box-shadow: inset 3px 0 {look.colour}"
    return tag("td", text(look.deployed.title), class_="words wide short", style=mark)


def _rate(value: float | None) -> Html:
    return number(value, format_rate(value))


def _seconds(value: float | None) -> Html:
    return number(value, format_duration(value))


def _latency(probe: ProbeRecord | None, name: str) -> float | None:
    return probe.latency.get(name) if probe is not None else None


def costs_table(told: Told) -> Html | None:
    """Near each one's capacity, per 1,000 requests/s; and all at one rate."""
    spent = told.recommendation.costs
    near = {usage.deployment: usage for usage in spent.at_capacity}
    together = {usage.deployment: usage for usage in spent.together}
    if not any(usage.cores is not None for usage in (*spent.at_capacity, *spent.together)):
        return None
    has_gpu = any(usage.gpu is not None for usage in spent.at_capacity)
    at = format_rate(spent.rate)
    names = [
        "deployment",
        "cores per 1,000/s",
        "memory per 1,000/s",
        *(["GPU busy"] if has_gpu else []),
        f"cores at {at}",
        f"memory at {at}",
    ]
    rows = [
        _cost_row(look, near.get(look.deployed.name), together.get(look.deployed.name), has_gpu)
        for look in told.looks
        if look.deployed.name in together
    ]
    reading = (
        f"On the left near each one's own capacity; on the right all at {at}, the highest rate "
        "that each of them keeps."
    )
    return join((paragraph(reading, class_="reading"), _sortable(names, ("deployment",), rows)))


def _cost_row(look: Look, near: Usage | None, together: Usage | None, has_gpu: bool) -> Html:
    gpu = near.gpu if near else None
    busy = number(gpu, "-" if gpu is None else f"{100 * gpu:.0f}{NBSP}%")
    return tag(
        "tr",
        _named(look),
        _cores(near.cores_per_1000 if near else None),
        _bytes(near.memory_per_1000 if near else None),
        busy if has_gpu else Html(""),
        _cores(together.cores if together else None),
        _bytes(together.memory if together else None),
    )


def _cores(value: float | None) -> Html:
    return number(value, "-" if value is None else format_number(value))


def _bytes(value: float | None) -> Html:
    return number(value, "-" if value is None else format_size(round(value)))


def claims_table(told: Told) -> Html:
    rows = [
        tag(
            "tr",
            tag("td", text(claim.text), class_="words wide short"),
            tag("td", text(claim.measured), class_="words wide"),
            tag("td", text(_HOLDS[claim.holds]), class_=f"words {_verdict(claim)}"),
            tag("td", text(claim.why), class_="words wide short"),
        )
        for claim in told.claims
    ]
    names = ("claim", "measured here", "holds", "why")
    reading = (
        "Those of the article that asked which way to serve a model fits, held against this model "
        "on this machine."
    )
    return join((paragraph(reading, class_="reading"), _sortable(names, names, rows)))


def _verdict(claim: Claim) -> str:
    return {True: "yes", False: "no", None: "soft"}[claim.holds]


def plan_table(told: Told) -> Html | None:
    rate = told.comparison.target_rate
    if rate is None:
        return None
    if not told.plans:
        return paragraph(f"No deployment keeps the promise, so none serves {format_rate(rate)}.")
    first = told.plans[0]
    each = f"{format_rate(first.rate)} each"
    said = f"{format_rate(rate)}: {count(first.replicas, 'replica')} of {first.title}, {each}"
    own = next((p for p in told.plans if p.sends == "text"), None)
    if own is not None and first.sends == "tensors":
        said += (
            f"; for clients that send text {count(own.replicas, 'replica')} of {own.title}, "
            f"{format_rate(own.rate)} each"
        )
    names = ("deployment", "replicas", "each", "p99", "cores", "memory", "clients send", "why")
    by_name = {look.deployed.name: look for look in told.looks}
    rows = [_plan_row(each, by_name[each.deployment]) for each in told.plans]
    words = ("deployment", "clients send", "why")
    return join((paragraph(f"{said}."), _sortable(names, words, rows)))


def _plan_row(own: Plan, look: Look) -> Html:
    return tag(
        "tr",
        _named(look),
        number(own.replicas, f"{own.replicas:,}"),
        _rate(own.rate),
        _seconds(own.p99),
        number(own.cores, "-" if own.cores is None else format_cores(own.cores)),
        _bytes(own.memory),
        tag("td", text(own.sends), class_="words"),
        tag("td", text(own.reason), class_="words wide short"),
    )


def delays_table(told: Told) -> Html | None:
    if not told.comparison.delays:
        return None
    rows = [
        tag("tr", _seconds(d.delay), _rate(d.capacity), _seconds(d.p50))
        for d in told.comparison.delays
    ]
    whole = _sortable(("queue delay", "capacity", "p50 alone"), (), rows)
    return tag("div", whole, style="max-width: 30rem")
