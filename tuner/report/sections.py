"""The parts of the page that tell numbers: cards, the table of candidates, failures, method."""

from collections.abc import Iterator
from math import isfinite

from tuner.analysis.comparison import completeness
from tuner.model.space import short_name
from tuner.records.results import Evaluation, GpuReading, ProbeRecord, State
from tuner.report.html import Html, facts, items, join, tag, text
from tuner.report.story import NBSP, Story, Subject, count, percent, same, times
from tuner.units import (
    format_clock,
    format_cores,
    format_duration,
    format_number,
    format_rate,
    format_size,
)

_STATES = {
    State.OK: "met",
    State.INFEASIBLE: "not met",
    State.BEATEN: "left behind",
    State.FAILED: "failed",
}


def cards(story: Story) -> Html:
    """The key figures, most important first."""
    found = [_capacity_card(story, s) for s in story.subjects if s.name != "closest"]
    if story.gain is not None and len(story.subjects) == 2:
        found.append(card("gain", times(story.gain), _gain_note(story)))
    elif story.winner is None:
        found += _nearest_card(story)
    found.append(card("candidates", str(story.candidates), _states(story)))
    spent = sum(e.seconds for e in story.evaluations)
    found.append(card("time spent", format_clock(spent), "min:s, launches included"))
    return tag("div", join(found), class_="cards")


def card(name: str, value: str, note: str, kind: str = "", **attributes: object) -> Html:
    content = (
        tag("div", text(name), class_="name"),
        tag("div", text(value), class_="value"),
        tag("div", text(note), class_="note"),
    )
    return tag("div", *content, class_=f"card {kind}".strip(), **attributes)


def _capacity_card(story: Story, subject: Subject) -> Html:
    name, evaluation = subject.name, subject.evaluation
    yardstick = story.yardstick
    if yardstick.objective is not None:
        return _cost_card(story, subject)
    if evaluation.capacity is None:
        failed = evaluation.state is State.FAILED
        note = "could not be measured" if failed else "no rate kept the promise"
        return card(f"{name}, capacity", "none", note, name)
    words = []
    probe = evaluation.at_capacity()
    if probe is not None and story.sla is not None:
        percentile = story.sla.primary.name
        words.append(f"{percentile} there {format_duration(probe.latency.get(percentile))}")
    if evaluation.low is not None and evaluation.high is not None:
        low, high = format_rate(evaluation.low), format_rate(evaluation.high)
        words.append(f"95 %: {low} to {high}")
    if evaluation.recommended is not None:
        proof = evaluation.proof()
        proven = f", proven at {format_rate(proof.rate)}" if proof else ", not proven"
        words.append(f"recommended: {format_rate(evaluation.recommended)}{proven}")
    return card(f"{name}, capacity", format_rate(evaluation.capacity), "; ".join(words), name)


def _cost_card(story: Story, subject: Subject) -> Html:
    name, evaluation, yardstick = subject.name, subject.evaluation, story.yardstick
    title = f"{name}, {yardstick.name}"
    value = yardstick.value(evaluation)
    if value is None:
        failed = evaluation.state is State.FAILED
        note = "could not be measured" if failed else "did not keep the promise there"
        return card(title, "none", note, name)
    low, high = yardstick.range(evaluation)
    words = []
    if low is not None and high is not None and low != high:
        words.append(f"95 %: {yardstick.show(low)} to {yardstick.show(high)}")
    asked = evaluation.verdict()
    if asked is not None:
        words.append("promise proven there" if evaluation.proof() else "promise not proven there")
    return card(title, yardstick.show(value), "; ".join(words), name)


def _gain_note(story: Story) -> str:
    if story.gain_range is None:
        if story.yardstick.objective is not None:
            return "baseline over winner"
        return "capacity of winner over baseline"
    low, high = story.gain_range
    return f"95 %: {times(low)} to {times(high)}, measured by turns"


def _nearest_card(story: Story) -> Iterator[Html]:
    nearest = story.closest
    if nearest is None or nearest.margin is None:
        return
    value = percent(nearest.margin) if isfinite(nearest.margin) else "no answer"
    yield card("closest", value, f"of the bound, with {nearest.label}")


def _states(story: Story) -> str:
    latest = {e.candidate: e.state for e in story.evaluations}
    counts = {state: list(latest.values()).count(state) for state in State}
    words = [f"{number} {_STATES[state]}" for state, number in counts.items() if number]
    return ", ".join(words)


def table(story: Story) -> Html:
    """One row per evaluation; a click on a heading sorts."""
    names = (
        "trial",
        "phase",
        "candidate",
        "result",
        story.yardstick.name,
        "95 % from",
        "95 % to",
        "× baseline",
    )
    percentile = story.sla.primary.name if story.sla else "p99"
    heads = [*names, f"{percentile} {_where(story)}", "probes", "time"]
    head = join(heading(name, name in ("phase", "candidate", "result")) for name in heads)
    body = join(_row(story, e, percentile) for e in story.evaluations)
    whole = tag("table", tag("thead", tag("tr", head)), tag("tbody", body))
    return tag("div", whole, class_="scroll", tabindex=0)


def _where(story: Story) -> str:
    return "at capacity" if story.yardstick.objective is None else "there"


def heading(name: str, has_words: bool) -> Html:
    words = "words" if has_words else None
    return tag("th", tag("button", text(name), type="button"), class_=words, scope="col")


def _row(story: Story, evaluation: Evaluation, percentile: str) -> Html:
    probe = evaluation.at_capacity()
    latency = probe.latency.get(percentile) if probe else None
    yardstick = story.yardstick
    value, (low, high) = yardstick.value(evaluation), yardstick.range(evaluation)
    reference = yardstick.value(story.baseline) if story.baseline else None
    ratio = value / reference if value and reference else None
    cells = (
        number(evaluation.trial, str(evaluation.trial)),
        tag("td", text(evaluation.phase), class_="words"),
        tag("td", text(evaluation.label), class_="words wide"),
        tag("td", text(_STATES[evaluation.state]), class_="words"),
        number(value, yardstick.show(value)),
        number(low, yardstick.show(low)),
        number(high, yardstick.show(high)),
        number(ratio, f"{ratio:.2f}" if ratio else "-"),
        number(latency, format_duration(latency)),
        number(len(evaluation.probes), str(len(evaluation.probes))),
        number(evaluation.seconds, format_clock(evaluation.seconds)),
    )
    return tag("tr", join(cells), class_=_kind(story, evaluation))


def _kind(story: Story, evaluation: Evaluation) -> str | None:
    for subject in story.subjects:
        if same(subject.evaluation, evaluation):
            return subject.name
    return "none" if evaluation.capacity is None else None


def number(value: float | None, words: str) -> Html:
    """A cell with what sorting goes by: empty, so last, where there is no data."""
    return tag("td", text(words), data_value="" if value is None else value)


def failures(story: Story) -> Html | None:
    """Candidates without a capacity, with the reason; None where there are none."""
    failed = [e for e in story.evaluations if e.state is State.FAILED or e.failure]
    rows = [
        (
            tag("dt", text(f"trial {e.trial}: {e.label}" + (f" ({e.cause})" if e.cause else ""))),
            tag("dd", text(_reason(e)), class_="reason"),
        )
        for e in failed
    ]
    return tag("dl", *map(join, rows), class_="facts") if rows else None


def _reason(evaluation: Evaluation) -> str:
    return (evaluation.failure or "no reason was recorded").strip()


def search(story: Story) -> Html | None:
    """How much of the space was seen, and why the search ended; None before it did."""
    if story.outcome is None:
        return None
    told = [
        f"It ended because {story.outcome.reason}.",
        completeness(story.outcome, _better(story)),
    ]
    behind = sum(e.state is State.BEATEN for e in story.evaluations)
    if behind:
        told.append(
            f"Left behind: {count(behind, 'candidate')} that did not keep a rate which the best "
            "one had reached. Of such a capacity only a range is known."
        )
    in_place = sum(not e.relaunched for e in story.evaluations)
    if in_place:
        told.append(
            f"Servers changed in place: {in_place}, where a candidate differed from the one before "
            "in instances alone. What was confirmed got fresh ones."
        )
    parts = [items(told)]
    lacking = story.not_measured()
    if lacking:
        rows = tuple((short_name(path), ", ".join(words)) for path, words in lacking.items())
        parts += [tag("h3", text("Values that no measured candidate had")), facts(rows)]
    return join(parts)


def _better(story: Story) -> str:
    serves = story.yardstick.objective is None
    return "serves more by over" if serves else "comes to less by over"


def measurement(story: Story) -> Html:
    """The meaning of the numbers, and the facts of the probes that the answer rests on."""
    meaning = [
        f"Capacity is the highest rate that keeps {story.promise}: where a curve through the late "
        "requests of all probes crosses what the promise allows. Its interval holds the truth "
        "with a probability of 95 %, as far as the machine stays what it was.",
        "The recommended rate is 5 % below capacity, 10 % where the promise breaks within a few "
        "per cent of load, and never above the interval's lower end. A rate is called proven only "
        "after a probe that, by itself, showed at its stated confidence that the promise is kept.",
        "Late requests come in groups, since those in a queue wait together. Each group counts "
        "for the little that it says, so verdicts need more requests than if each told for itself.",
        "Latency counts from the moment at which a request was planned to be sent, so a server "
        "that falls behind cannot slow down the clock; a failed request is infinitely late.",
        "A probe at which the client itself gave out says nothing of the server, and is left out.",
    ]
    objective = story.yardstick.objective
    if objective is not None:
        meaning[:2] = [
            f"Every candidate was offered {format_rate(objective.rate)}. One that keeps "
            f"{story.promise} comes to its {objective}, the mean of its rounds: the less, the "
            "better. Its interval of 95 % is from how rounds differ, and from their own errors.",
            "The promise is called proven only after a probe that, by itself, showed at its stated "
            "confidence that it is kept.",
        ]
    parts = [items(meaning)]
    for subject in story.subjects:
        probe = subject.evaluation.at_capacity()
        if probe is not None:
            near = "near capacity" if objective is None else "at that rate"
            what = "proven" if subject.evaluation.proof() else near
            title = tag("h3", text(f"{subject.name.capitalize()}, {what}"))
            parts.append(tag("div", title, facts(probe_facts(probe, subject.evaluation))))
    total = facts(
        (
            ("seed of the run", str(story.manifest.experiment.seed)),
            ("probes in all", str(sum(len(e.probes) for e in story.evaluations))),
            ("requests in all", f"{sum(p.n for e in story.evaluations for p in e.probes):,}"),
        )
    )
    return join((parts[0], tag("div", join(parts[1:]), class_="columns"), total))


def probe_facts(probe: ProbeRecord, evaluation: Evaluation) -> list[tuple[str, str]]:
    late = f"{probe.violations} of {probe.n:,} ({percent(probe.violations / max(1, probe.n))})"
    latencies = ", ".join(_latency(probe, name) for name in probe.latency)
    return [
        ("phase", evaluation.phase),
        ("load", f"{probe.load}, {format_rate(probe.rate)} for {format_duration(probe.seconds)}"),
        *((("items per request", f"{probe.items:.3g}"),) if probe.items != 1 else ()),
        ("seed of the schedule", str(probe.seed)),
        ("late or failed", late),
        ("failed", count(probe.errors, "request")),
        ("verdict", f"{probe.outcome} at {percent(probe.confidence)}"),
        ("latency (95 %)", latencies),
        ("served (95 %)", _served(probe)),
        ("client sent late by (p99)", format_duration(probe.lateness_p99)),
        ("client CPU", _client_cores(probe)),
        *_host_facts(probe),
        *(_gpu_facts(probe.gpu) if probe.gpu is not None else ()),
    ]


def _latency(probe: ProbeRecord, name: str) -> str:
    """``p99 12 ms (11.2 ms to 12.9 ms)``; an end that is not known is left open."""
    shown = f"{name} {format_duration(probe.latency[name])}"
    if name in probe.latency_interval:
        low, high = probe.latency_interval[name]
        shown += f" ({format_duration(low)} to {'?' if high is None else format_duration(high)})"
    return shown.replace(" ", NBSP)


def _served(probe: ProbeRecord) -> str:
    if probe.throughput_interval is None:
        return format_rate(probe.throughput)
    low, high = probe.throughput_interval
    return f"{format_rate(probe.throughput)} ({format_rate(low)} to {format_rate(high)})"


def _client_cores(probe: ProbeRecord) -> str:
    if probe.host is not None and probe.host.client_cores is not None:
        return _cores(probe.host.client_cores)
    if probe.client_cpu is None or probe.seconds <= 0:
        return "-"
    return _cores(probe.client_cpu / probe.seconds)


def _cores(cores: float) -> str:
    return format_cores(cores).replace(" ", NBSP)


def _host_facts(probe: ProbeRecord) -> Iterator[tuple[str, str]]:
    """What is known of the server's processes and batches; what is not, is left out."""
    if probe.host is not None and probe.host.cpu is not None:
        yield "server CPU", _cores(probe.host.cpu)
    if probe.host is not None and probe.host.memory is not None:
        yield "server memory", format_size(probe.host.memory).replace(" ", NBSP)
    if probe.server is not None and probe.server.mean_batch is not None:
        yield "mean batch", format_number(probe.server.mean_batch)


def _gpu_facts(gpu: GpuReading) -> Iterator[tuple[str, str]]:
    """What is known of the GPU; what is not, is left out."""
    if gpu.devices is not None and gpu.devices > 1:
        yield "GPUs", f"{gpu.devices}; means over them"
    if gpu.utilisation is not None:
        yield "GPU busy", percent(gpu.utilisation)
    if gpu.memory is not None:
        yield "GPU memory", format_size(gpu.memory)
    if gpu.power is not None:
        yield "GPU power", f"{gpu.power:.0f}{NBSP}W"
    if gpu.clock is not None:
        yield "GPU clock", f"{gpu.clock:,.0f}{NBSP}MHz"
    if gpu.temperature is not None:
        yield "GPU temperature", f"{gpu.temperature:.0f}{NBSP}°C"
    if gpu.throttled:
        yield "GPU throttled", ", ".join(gpu.throttled)
    if gpu.others:
        yield "GPU shared with", ", ".join(gpu.others)
