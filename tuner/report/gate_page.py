"""The report of a gate, made from its records alone."""

from collections.abc import Iterator, Sequence

from tuner.model.repository import configs_of
from tuner.records.gate import NEW, OLD, GateRecord, Verdict, read_gate
from tuner.records.results import Evaluation, State
from tuner.records.run import Run
from tuner.report import gate_figures
from tuner.report.drawing import Drawing
from tuner.report.frame import ending, figures, head, render_page, section
from tuner.report.gate_wording import headline, reason
from tuner.report.html import (
    Html,
    card,
    diff,
    facts,
    failures,
    items,
    join,
    number_cell,
    table,
    tag,
    text,
    word_cell,
)
from tuner.report.probe_facts import probe_facts
from tuner.report.wording import STATES, times
from tuner.units import format_clock, format_rate

_METHOD = (
    "Both versions are measured now, on this machine and with the same requests, in rounds: each "
    "round starts a fresh server of either version. So a slow change of the machine meets both "
    "alike, and what servers of one version differ by averages out.",
    "Capacity: the highest rate that meets the SLA, where a curve fitted to the late requests of "
    "all probes reaches what the SLA allows.",
    "The ratio is that of the two capacities, whose intervals hold for any server of a version.",
    "The rounds end once the verdict is clear. The looks after each of them share the probability "
    "of error: 5 % of passing a change that loses the margin, and 5 % of failing one that loses "
    "nothing.",
)
_METHOD_OF_A_RATE = (
    "One sequential test of the rate, which may be looked at any time: it ends as soon as the "
    "requests so far decide, at a confidence of 99 %. A test that one stall of the machine decided "
    "is repeated.",
)
_KINDS = {Verdict.PASS: "gain", Verdict.FAIL: "baseline", Verdict.INCONCLUSIVE: ""}


def page(run: Run) -> str:
    """The whole file; RunError where the records cannot be read."""
    record, evaluations = read_gate(run), run.evaluations()
    drawn = gate_figures.drawings(evaluations, run.manifest().experiment.sla)
    body = _body(run, record, evaluations, drawn)
    return render_page(f"{headline(record)} · {run.folder.name}", body, drawn)


def _body(
    run: Run, record: GateRecord, evaluations: list[Evaluation], drawn: Sequence[Drawing]
) -> Html:
    manifest = run.manifest()
    return join(
        (
            head(
                f"{record.model} · gate {run.folder.name}",
                headline(record),
                reason(record),
                tag("div", *_cards(record, evaluations), class_="cards"),
                [*manifest.environment.notes, *record.notes, *_unkept(record)],
            ),
            section("Versions", _versions(evaluations) if evaluations else None),
            section("What changed in config.pbtxt", _changes(evaluations)),
            section("Figures", figures(drawn) if evaluations else None),
            section("Failures", failures(_failures(evaluations))),
            section("How it was measured", _measurement(record, evaluations)),
            ending(manifest, run.folder.name),
        )
    )


def _unkept(record: GateRecord) -> Iterator[str]:
    if record.unkept:
        names = ", ".join(record.unkept[:5]) + (" …" if len(record.unkept) > 5 else "")
        yield f"Not in git, so the same files for both versions: {names}"


def _cards(record: GateRecord, evaluations: list[Evaluation]) -> Iterator[Html]:
    if record.ratio is not None and record.low is not None and record.high is not None:
        note = f"{times(record.low)} to {times(record.high)}, after {record.rounds} rounds"
        yield card("new / old", times(record.ratio), note, kind=_KINDS[record.verdict])
    for each in evaluations:
        if each.capacity is not None and record.rate is None:
            low, high = format_rate(each.low), format_rate(each.high)
            role = "winner" if each.deployment == NEW else "baseline"
            yield card(
                f"capacity ({each.deployment})",
                format_rate(each.capacity),
                f"95 %: {low} to {high}",
                kind=role,
            )
    if record.baseline is not None:
        yield card("capacity (stored)", format_rate(record.baseline), record.against)
    if record.rate is not None:
        yield card("judged rate", format_rate(record.rate), record.sla)


def _versions(evaluations: list[Evaluation]) -> Html:
    heads = ("version", "result", "capacity", "95 % from", "95 % to", "rounds", "probes", "time")
    rows = [
        tag(
            "tr",
            word_cell(each.deployment or NEW),
            word_cell(STATES[each.state]),
            number_cell(each.capacity, format_rate(each.capacity)),
            number_cell(each.low, format_rate(each.low)),
            number_cell(each.high, format_rate(each.high)),
            number_cell(len(each.by_round), str(len(each.by_round))),
            number_cell(len(each.probes), str(len(each.probes))),
            number_cell(each.seconds, format_clock(each.seconds)),
        )
        for each in evaluations
    ]
    return table(heads, ("version", "result"), rows)


def _changes(evaluations: list[Evaluation]) -> Html | None:
    """None where there is no other version, or its configuration is the same."""
    by_name = {each.deployment: each for each in evaluations}
    if OLD not in by_name or NEW not in by_name:
        return None
    before, after = configs_of(by_name[OLD].config), configs_of(by_name[NEW].config)
    parts = []
    for model in sorted(before.keys() | after.keys()):
        one, other = before.get(model, ""), after.get(model, "")
        if one != other:
            parts += [tag("h3", text(model))] if model else []
            parts.append(diff(one, other))
    return join(parts) if parts else None


def _failures(evaluations: list[Evaluation]) -> Iterator[tuple[str, str]]:
    for each in evaluations:
        if each.state is State.FAILED or each.failure:
            yield each.deployment or NEW, each.failure or "no reason was recorded"


def _measurement(record: GateRecord, evaluations: list[Evaluation]) -> Html:
    parts = [items(_METHOD if record.rate is None else _METHOD_OF_A_RATE)]
    shown = []
    for each in evaluations:
        probe = each.at_capacity() or each.verdict()
        if probe is not None:
            title = tag("h3", text(f"{each.deployment}, near capacity"))
            shown.append(tag("div", title, facts(probe_facts(probe, each))))
    parts.append(tag("div", join(shown), class_="columns"))
    probes = [probe for each in evaluations for probe in each.probes]
    total = [("probes", f"{len(probes):,}"), ("requests", f"{sum(p.n for p in probes):,}")]
    if record.commit:
        total.insert(0, ("old version", f"{record.against} ({record.commit[:12]})"))
    return join((*parts, facts(total)))
