"""The report of a comparison, made from its records alone."""

from collections.abc import Iterator, Sequence

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.records.results import State
from tuner.records.run import Run
from tuner.report import compare_figures
from tuner.report.compare_tables import (
    costs_table,
    delays_table,
    deployments_table,
    plans_table,
    rules_table,
)
from tuner.report.drawing import Drawing
from tuner.report.frame import ending, figure, head, render_page, section
from tuner.report.html import (
    Html,
    card,
    code,
    diff,
    facts,
    failures,
    fold,
    items,
    join,
    tag,
    text,
)
from tuner.report.probe_facts import probe_facts
from tuner.report.series import ShownDeployment, deployments
from tuner.report.wording import NBSP, doubt_sentence
from tuner.report.wording_recommendation import answer_sentence, headline, reasons
from tuner.units import format_rate

_METHOD = (
    "Every deployment is started, probed and stopped by the same code, on the same machine, with "
    "the same requests, by turns in several rounds: what the machine does meanwhile "
    "befalls all of them.",
    "Latency counts from the moment at which a request was planned to be sent, so a server that "
    "falls behind cannot slow down the clock; a failed request is infinitely late.",
    "Capacity is the highest rate that keeps the promise: where a curve through the late requests "
    "of all probes crosses what the promise allows. Its interval holds the truth with a "
    "probability of 95 %. The rate to operate at keeps a margin below.",
    "Of the deployments that keep the promise at a rate, the simplest to run is recommended: a "
    "service of yours, which runs already; FastAPI, one process; Triton, a server of its own; "
    "FastAPI in front of Triton, two of them. One that is less simple gets a band of rates only "
    "where it serves more beyond the intervals of both.",
    "Services count their own stages, Triton its queue and its computation. Of the call from "
    "FastAPI to Triton, what Triton did not count is the way there and back. Where such counts "
    "come to more than the client saw, they are shrunk in proportion.",
    "A Poisson stream that is split at random over replicas stays Poisson, so the rates of "
    "replicas add up.",
    "A rule of thumb holds where the interval of what was measured overlaps the range that it "
    "names. What is below it does not hold, and what is above it does not either.",
)


def page(run: Run) -> str:
    """The whole file; RunError where the records cannot be read."""
    findings = ComparisonFindings.of(run)
    drawn = compare_figures.drawings(findings) if findings.evaluations else []
    return render_page(f"{title(findings)} · {run.folder.name}", _body(run, findings, drawn), drawn)


def title(findings: ComparisonFindings) -> str:
    return headline(findings) if findings.evaluations else "Nothing has been measured yet"


def answer(findings: ComparisonFindings) -> str:
    """One or two sentences below the headline."""
    if not findings.evaluations:
        return "This page will fill as soon as the first deployment is done."
    return answer_sentence(findings)


def _body(run: Run, findings: ComparisonFindings, drawn: Sequence[Drawing]) -> Html:
    experiment, comparison = run.manifest().experiment, findings.comparison
    shown = deployments(comparison, findings.evaluations)
    is_begun, rest = bool(findings.evaluations), drawn[1:]
    costs = findings.recommendation.costs
    return join(
        (
            head(
                f"{experiment.model} · run {run.folder.name}",
                title(findings),
                answer(findings),
                cards(shown) if is_begun else None,
                list(map(doubt_sentence, findings.doubts())),
            ),
            join(map(figure, drawn[:1])),
            section("Why", items(reasons(findings)) if is_begun else None),
            section(
                f"What {format_rate(comparison.target_rate)} takes", plans_table(findings, shown)
            ),
            section("Figures", join(map(figure, rest)) if rest else None),
            section("All deployments", deployments_table(shown) if is_begun else None),
            section("What it costs", costs_table(costs, shown)),
            section("Rules of thumb", rules_table(findings) if is_begun else None),
            section(
                "Queue delay of the tuned configuration, simulated", delays_table(comparison.delays)
            ),
            section("Configurations of Triton", _configs(shown)),
            section("Failures", failures(_failures(shown))),
            section("How it was measured", _measurement(findings, shown, experiment.seed)),
            ending(run.manifest(), run.folder.name),
        )
    )


def cards(shown: Sequence[ShownDeployment]) -> Html:
    """The capacity of each deployment."""
    return tag("div", *map(_card, shown), class_="cards many")


def _card(shown: ShownDeployment) -> Html:
    title, colour = shown.deployed.title, shown.colour
    style = f"border-top: 3px solid {colour}"
    if shown.contender is None:
        return card(title, "-", "not measured", style=style)
    evaluation = shown.contender.evaluation
    if evaluation.capacity is None:
        failed = evaluation.state is State.FAILED
        note = "could not be measured" if failed else "no rate kept the promise"
        return card(title, "none", note, style=style)
    notes = []
    if evaluation.low is not None:
        high = "open" if evaluation.high is None else format_rate(evaluation.high)
        notes.append(f"95{NBSP}%: {format_rate(evaluation.low)} to {high}")
    notes.append(f"operate at {format_rate(shown.contender.safe_rate)}")
    return card(title, format_rate(evaluation.capacity), "; ".join(notes), style=style)


def _configs(shown: Sequence[ShownDeployment]) -> Html | None:
    """Each one once; what the tuned one changes is marked."""
    owners: dict[str, list[str]] = {}
    for each in shown:
        if each.deployed.config:
            owners.setdefault(each.deployed.config, []).append(each.deployed.title)
    if not owners:
        return None
    parts = [
        tag("div", tag("h3", text(", ".join(titles))), code(config, f"config-{place}"))
        for place, (config, titles) in enumerate(owners.items())
    ]
    tritons = [e.deployed for e in shown if e.deployed.kind == "triton" and e.deployed.config]
    plain = next((deployed.config for deployed in tritons if not deployed.tuned), None)
    tuned = next((d.config for d in tritons if d.tuned and d.batching), None)
    if plain and tuned and plain != tuned:
        title = tag("h3", text("What tuning changes"))
        parts.append(tag("div", title, diff(plain, tuned)))
    return tag("div", join(parts), class_="columns")


def _failures(shown: Sequence[ShownDeployment]) -> Iterator[tuple[str, str]]:
    for each in shown:
        title, evaluation, swap = each.deployed.title, each.evaluation, each.deployed.swap
        if evaluation is not None and (evaluation.state is State.FAILED or evaluation.failure):
            yield title, evaluation.failure or "no reason was recorded"
        if swap is not None and swap.failure is not None:
            yield f"{title}, swap", swap.failure


def _measurement(findings: ComparisonFindings, shown: Sequence[ShownDeployment], seed: int) -> Html:
    comparison = findings.comparison
    runs = [(each.deployed.title, each.deployed.what) for each in shown]
    parts = [items(_METHOD), tag("h3", text("How each was run")), facts(runs)]
    swaps = [
        (each.deployed.title, f"{swap.how}, at {format_rate(swap.rate)}")
        for each in shown
        if (swap := each.deployed.swap) is not None
    ]
    if swaps:
        parts += [tag("h3", text("How the model was replaced")), facts(swaps)]
    for each in shown:
        probe = each.evaluation.at_capacity() if each.evaluation else None
        if probe is not None and each.evaluation is not None:
            what = facts(probe_facts(probe, each.evaluation))
            parts.append(fold(f"{each.deployed.title}: the probe near capacity", what))
    probes = [probe for each in findings.evaluations for probe in each.probes]
    total = (
        ("seed of the run", str(seed)),
        ("load", comparison.load),
        ("cores of the machine", str(comparison.cores)),
        ("GPU", comparison.gpu or "none"),
        ("search of the tuned configuration", comparison.tuned_run or "-"),
        ("probes in all", str(len(probes))),
        ("requests in all", f"{sum(p.n for p in probes):,}"),
    )
    return join((*parts, facts(total)))
