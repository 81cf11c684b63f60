"""The first screen of a comparison's report: which deployment, up to which rate, how sure."""

from collections.abc import Iterator, Sequence

from tuner.analysis.bands import Answer, Band
from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.report.html import Html, card, download, items, join, tag, text
from tuner.report.series import ShownDeployment
from tuner.report.wording import count, interval_words, upper_first
from tuner.report.wording_recommendation import CLIENTS
from tuner.units import format_rate


def comparison_answer(
    findings: ComparisonFindings, shown: Sequence[ShownDeployment]
) -> Html | None:
    """The bands of rates as cards, one row for each kind of clients; None without an answer."""
    answers = [answer for answer in findings.recommendation.answers if answer.bands]
    by_name = {each.deployed.name: each for each in shown}
    if not answers:
        return None
    rows = [_row(answer, by_name, len(answers) > 1) for answer in answers]
    return join((*rows, _sure(findings, answers, by_name)))


def _row(answer: Answer, by_name: dict[str, ShownDeployment], named: bool) -> Html:
    title = (
        tag("h2", text(upper_first(CLIENTS[answer.clients])), class_="small") if named else Html("")
    )
    return join((title, tag("div", *(_card(b, by_name) for b in answer.bands), class_="cards")))


def _card(band: Band, by_name: dict[str, ShownDeployment]) -> Html:
    shown = by_name[band.deployment]
    style = f"border-top: 3px solid {shown.color}"
    if band.high is None:
        name = f"above {format_rate(band.low)}"
        return card(name, f"replicas of {shown.plain_title}", "", kind="words", style=style)
    rates = f"{format_rate(band.low)} to {format_rate(band.high)}"
    name = rates if band.low else f"up to {format_rate(band.high)}"
    capacity = shown.evaluation.capacity if shown.evaluation is not None else None
    interval = f" ({interval_words(*band.edge)})" if band.edge else ""
    note = f"capacity {format_rate(capacity)}{interval}"
    return card(name, shown.plain_title, note, kind="words", style=style)


def _sure(
    findings: ComparisonFindings, answers: Sequence[Answer], by_name: dict[str, ShownDeployment]
) -> Html:
    chosen = dict.fromkeys(band.deployment for answer in answers for band in answer.bands)
    deployments = [by_name[name] for name in chosen]
    sentences = list(_certainty(deployments))
    sure = tag("div", tag("h2", text("How sure")), items(sentences), class_="sure")
    configs = [each for each in deployments if each.deployed.config]
    buttons = [
        download(
            f"Download config.pbtxt of {each.plain_title}",
            each.deployed.config or "",
            "config.pbtxt",
        )
        for each in configs
    ]
    return join((sure, tag("div", *buttons, class_="buttons"))) if buttons else sure


def _certainty(chosen: Sequence[ShownDeployment]) -> Iterator[str]:
    """How many rounds the recommended ones were measured in, and which rates were verified."""
    for each in chosen:
        evaluation = each.evaluation
        if evaluation is None:
            continue
        proof, rounds = evaluation.proof(), len(evaluation.by_round)
        verified = (
            f"verified at {format_rate(proof.rate)}" if proof else "recommended rate not verified"
        )
        measured = f", measured in {count(rounds, 'interleaved round')}" if rounds > 1 else ""
        yield f"{each.plain_title}: {verified}{measured}."
