"""The report of a comparison, made from its records alone."""

from collections.abc import Iterator, Sequence

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.records.results import State
from tuner.records.run import Run
from tuner.report import compare_figures
from tuner.report.compare_answer import comparison_answer
from tuner.report.compare_tables import (
    costs_table,
    delays_table,
    deployments_table,
    plans_table,
    rules_table,
)
from tuner.report.drawing import Drawing
from tuner.report.frame import ending, figures, head, render_page, section
from tuner.report.html import (
    Html,
    code,
    diff,
    facts,
    failures,
    fold,
    items,
    join,
    paragraph,
    tag,
    text,
)
from tuner.report.probe_facts import probe_facts
from tuner.report.series import ShownDeployment, deployments
from tuner.report.wording import doubt_sentence
from tuner.report.wording_recommendation import NAIVE, answer_sentence, headline, reasons, sla_text
from tuner.units import format_rate

_METHOD = (
    "The same code starts, probes and stops every deployment, on the same machine and with the "
    "same requests, interleaved in several rounds, so that changes of the machine affect all.",
    "Latency counts from the planned send time, so a slow server cannot delay the clock. A failed "
    "request counts as late.",
    "Capacity: the highest rate that meets the SLA, where a curve fitted to the late requests of "
    "all probes reaches what the SLA allows. The interval contains the true value with a "
    "probability of 95 %. The recommended rate is below it.",
    "Recommended is the simplest deployment that meets the SLA at a rate. From simple to complex: "
    "a service of yours that runs already; FastAPI, one process; Triton, a server of its own; "
    "FastAPI in front of Triton, two servers. A more complex one is recommended only if it serves "
    "more beyond the intervals of both. Triton without batching is never recommended.",
    "Services count their own stages, Triton its queue and computation. What Triton did not count "
    "of FastAPI's call to it is transport. If the counts exceed the latency that the client saw, "
    "they are scaled down.",
    "Rates of replicas add up: a Poisson stream split at random stays Poisson.",
    "A rule of thumb holds if the measured interval overlaps the range that it names.",
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
        return "This page fills as soon as the first deployment is measured."
    return answer_sentence(findings)


def _below_headline(findings: ComparisonFindings) -> str:
    """The page shows bands below, so it need not tell them in words."""
    if any(each.bands for each in findings.recommendation.answers):
        return f"The simplest deployment that meets {sla_text(findings)} at each rate:"
    return answer(findings)


def _body(run: Run, findings: ComparisonFindings, drawn: Sequence[Drawing]) -> Html:
    experiment, comparison = run.manifest().experiment, findings.comparison
    shown = deployments(comparison, findings.evaluations)
    is_begun = bool(findings.evaluations)
    costs = findings.recommendation.costs
    return join(
        (
            head(
                f"{experiment.model.name} · run {run.folder.name}",
                title(findings),
                _below_headline(findings),
                comparison_answer(findings, shown) if is_begun else None,
                list(map(doubt_sentence, findings.doubts())),
            ),
            section("Why", items(reasons(findings)) if is_begun else None),
            section(
                f"What {format_rate(comparison.target_rate)} takes", plans_table(findings, shown)
            ),
            section("Figures", figures(drawn)),
            section("All deployments", deployments_table(shown) if is_begun else None),
            section("Resources", costs_table(costs, shown)),
            section("Rules of thumb", rules_table(findings) if is_begun else None),
            section(
                "Queue delay of the tuned configuration, simulated", delays_table(comparison.delays)
            ),
            section("Configurations of Triton", _configs(findings, shown)),
            section("Failures", failures(_failures(shown))),
            section("How it was measured", _measurement(findings, shown, experiment.seed)),
            ending(run.manifest(), run.folder.name),
        )
    )


def _configs(findings: ComparisonFindings, shown: Sequence[ShownDeployment]) -> Html | None:
    """Each one once; what the tuned one changes is marked, if it is shown to serve more."""
    owners: dict[str, list[str]] = {}
    for each in shown:
        if each.deployed.config:
            owners.setdefault(each.deployed.config, []).append(each.plain_title)
    if not owners:
        return None
    parts = [
        tag("div", tag("h3", text(", ".join(titles))), code(config, f"config-{place}"))
        for place, (config, titles) in enumerate(owners.items())
    ]
    tritons = [e.deployed for e in shown if e.deployed.kind == "triton" and e.deployed.config]
    plain = next((deployed.config for deployed in tritons if not deployed.tuned), None)
    tuned = next((d.config for d in tritons if d.tuned and d.batching), None)
    if any(each.tuned for each in tritons):
        title = tag("h3", text("What tuning changes"))
        changes = paragraph("Tuning found nothing better than the baseline.")
        if plain and tuned and plain != tuned and findings.has_better_configuration:
            changes = diff(plain, tuned)
        parts.append(tag("div", title, changes))
    return tag("div", join(parts), class_="columns")


def _how_run(shown: ShownDeployment) -> str:
    what = shown.deployed.what.replace("Triton as found", "Triton (baseline)")
    return f"{what}. {NAIVE}" if shown.deployed.kind == "naive" else what


def _failures(shown: Sequence[ShownDeployment]) -> Iterator[tuple[str, str]]:
    for each in shown:
        title, evaluation, swap = each.plain_title, each.evaluation, each.deployed.swap
        if evaluation is not None and (evaluation.state is State.FAILED or evaluation.failure):
            yield title, evaluation.failure or "no reason was recorded"
        if swap is not None and swap.failure is not None:
            yield f"{title}, swap", swap.failure


def _measurement(findings: ComparisonFindings, shown: Sequence[ShownDeployment], seed: int) -> Html:
    comparison = findings.comparison
    runs = [(each.plain_title, _how_run(each)) for each in shown]
    parts = [items(_METHOD), tag("h3", text("How each was run")), facts(runs)]
    swaps = [
        (each.plain_title, f"{swap.how}, at {format_rate(swap.rate)}")
        for each in shown
        if (swap := each.deployed.swap) is not None
    ]
    if swaps:
        parts += [tag("h3", text("How the model was replaced")), facts(swaps)]
    for each in shown:
        probe = each.evaluation.at_capacity() if each.evaluation else None
        if probe is not None and each.evaluation is not None:
            what = facts(probe_facts(probe, each.evaluation))
            parts.append(fold(f"{each.plain_title}: the probe near capacity", what))
    probes = [probe for each in findings.evaluations for probe in each.probes]
    total = (
        ("seed", str(seed)),
        ("load", comparison.load),
        ("cores of the machine", str(comparison.cores)),
        ("GPU", comparison.gpu or "none"),
        ("search of the tuned configuration", comparison.tuned_run or "-"),
        ("probes", str(len(probes))),
        ("requests", f"{sum(p.n for p in probes):,}"),
    )
    return join((*parts, facts(total)))
