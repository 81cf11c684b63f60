"""The report of a comparison, made from its records alone."""

from collections.abc import Iterator, Sequence

from tuner.analysis.comparison import cpu_steal, disagreement
from tuner.analysis.recommend import CLIENTS, promise_of
from tuner.records.results import State
from tuner.records.run import Run
from tuner.report.compare_figures import Look, drawings
from tuner.report.compare_tables import (
    Told,
    claims_table,
    costs_table,
    delays_table,
    deployments_table,
    plan_table,
)
from tuner.report.figures import Drawing
from tuner.report.frame import environment, figure, footer, render_page, repeat, section
from tuner.report.html import Html, code, diff, facts, fold, items, join, paragraph, tag, text
from tuner.report.sections import card, probe_facts
from tuner.report.story import NBSP, gpu_doubts
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
    told = Told.of(run)
    drawn = []
    if told.evaluations:
        drawn = drawings(told.comparison, told.evaluations, told.recommendation)
    name = run.folder.name
    return render_page(f"{told.headline} · {name}", _body(told, drawn, name), drawn)


def _body(told: Told, drawn: Sequence[Drawing], name: str) -> Html:
    first, rest = drawn[:1], drawn[1:]
    return join(
        (
            _head(told, name),
            join(map(figure, first)),
            section("Why", items(told.recommendation.reasons)) if told.evaluations else Html(""),
            section(f"What {format_rate(told.comparison.target_rate)} takes", plan_table(told)),
            section("Figures", join(map(figure, rest)) if rest else None),
            section("All deployments", deployments_table(told) if told.evaluations else None),
            section("What it costs", costs_table(told)),
            section("Rules of thumb", claims_table(told) if told.evaluations else None),
            section("Queue delay of the tuned configuration, simulated", delays_table(told)),
            section("Configurations of Triton", _configs(told)),
            section("Failures", _failures(told)),
            section("How it was measured", _measurement(told)),
            environment(told.manifest),
            repeat(told.manifest),
            footer(name),
        )
    )


def _head(told: Told, name: str) -> Html:
    model = str(told.manifest.experiment.model)
    warnings = list(_warnings(told))
    return join(
        (
            tag("p", text(f"{model} · run {name}"), class_="eyebrow"),
            tag("h1", text(told.headline)),
            paragraph(_answer(told), class_="answer"),
            _cards(told) if told.evaluations else Html(""),
            items(warnings, class_="warnings") if warnings else Html(""),
        )
    )


def _answer(told: Told) -> str:
    if not told.evaluations:
        return "This page will fill as soon as the first deployment is done."
    promise = promise_of(told.comparison)
    titles = {look.deployed.name: look.deployed.title for look in told.looks}
    said = []
    for answer in told.recommendation.answers:
        steps = [
            f"{titles[band.deployment]} up to {format_rate(band.high)}"
            for band in answer.bands[:-1]
        ]
        if steps:
            said.append(f"For {CLIENTS[answer.clients]}: {', then '.join(steps)}.")
    if not said:
        return "What came nearest is in the table below."
    return f"Within {promise}. {' '.join(said)} Above, it takes replicas."


def _cards(told: Told) -> Html:
    return tag("div", *map(_card, told.looks), class_="cards many")


def _card(look: Look) -> Html:
    title, colour = look.deployed.title, look.colour
    style = f"border-top: 3px solid {colour}"
    if look.contender is None:
        return card(title, "-", "not measured", style=style)
    found = look.contender.evaluation
    if found.capacity is None:
        failed = found.state is State.FAILED
        note = "could not be measured" if failed else "no rate kept the promise"
        return card(title, "none", note, style=style)
    words = []
    if found.low is not None:
        high = "open" if found.high is None else format_rate(found.high)
        words.append(f"95{NBSP}%: {format_rate(found.low)} to {high}")
    words.append(f"operate at {format_rate(look.contender.safe_rate)}")
    return card(title, format_rate(found.capacity), "; ".join(words), style=style)


def _warnings(told: Told) -> Iterator[str]:
    missing = [look.deployed.title for look in told.looks if look.contender is None]
    if told.evaluations and missing:
        yield f"Not measured: {', '.join(missing)}. The comparison did not come to its end."
    for look in told.looks:
        unsteady = disagreement(look.contender.evaluation) if look.contender else None
        if unsteady:
            yield f"{look.deployed.title}: {unsteady}"
        if look.contender and look.contender.evaluation.client_limited:
            yield (
                f"{look.deployed.title}: the client gave out before the server did, so the true "
                "capacity may be higher."
            )
    stolen = cpu_steal(told.evaluations)
    if stolen:
        yield stolen
    yield from gpu_doubts(told.evaluations)


def _configs(told: Told) -> Html | None:
    """Each one once; what the tuned one changes is marked."""
    known: dict[str, list[Look]] = {}
    for look in told.looks:
        if look.deployed.config:
            known.setdefault(look.deployed.config, []).append(look)
    if not known:
        return None
    parts = []
    for number_, (config, owners) in enumerate(known.items()):
        titles = ", ".join(look.deployed.title for look in owners)
        title = tag("h3", text(titles))
        parts.append(tag("div", title, code(config, f"config-{number_}")))
    found = [each for each in told.looks if each.deployed.kind == "triton" and each.deployed.config]
    plain = next((e.deployed.config for e in found if not e.deployed.tuned), None)
    tuned = next(
        (e.deployed.config for e in found if e.deployed.tuned and e.deployed.batching), None
    )
    if plain and tuned and plain != tuned:
        title = tag("h3", text("What tuning changes"))
        parts.append(tag("div", title, diff(plain, tuned)))
    return tag("div", join(parts), class_="columns")


def _failures(told: Told) -> Html | None:
    rows = []
    for look in told.looks:
        found = look.contender.evaluation if look.contender else None
        if found is not None and (found.state is State.FAILED or found.failure):
            reason = (found.failure or "no reason was recorded").strip()
            rows.append((look.deployed.title, reason))
        swap = look.deployed.swap
        if swap is not None and swap.failure is not None:
            rows.append((f"{look.deployed.title}, swap", swap.failure.strip()))
    pairs = (join((tag("dt", text(n)), tag("dd", text(r), class_="reason"))) for n, r in rows)
    return tag("dl", *pairs, class_="facts") if rows else None


def _measurement(told: Told) -> Html:
    parts = [items(_METHOD)]
    rows = [(look.deployed.title, look.deployed.what) for look in told.looks]
    parts += [tag("h3", text("How each was run")), facts(rows)]
    swaps = [(e.deployed.title, e.deployed.swap) for e in told.looks]
    lines = [(title, f"{s.how}, at {format_rate(s.rate)}") for title, s in swaps if s]
    if lines:
        parts += [tag("h3", text("How the model was replaced")), facts(lines)]
    for look in told.looks:
        probe = look.contender.evaluation.at_capacity() if look.contender else None
        if probe is not None and look.contender is not None:
            what = facts(probe_facts(probe, look.contender.evaluation))
            parts.append(fold(f"{look.deployed.title}: the probe near capacity", what))
    probes = [probe for each in told.evaluations for probe in each.probes]
    total = (
        ("seed of the run", str(told.manifest.experiment.seed)),
        ("load", told.comparison.load),
        ("cores of the machine", str(told.comparison.cores)),
        ("GPU", told.comparison.gpu or "none"),
        ("search of the tuned configuration", told.comparison.tuned_run or "-"),
        ("probes in all", str(len(probes))),
        ("requests in all", f"{sum(p.n for p in probes):,}"),
    )
    return join((*parts, facts(total)))
