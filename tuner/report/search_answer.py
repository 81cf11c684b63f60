"""The first screen of a search's report: what to deploy, what it gains, and how sure that is."""

from collections.abc import Iterator
from math import isfinite

from tuner.analysis.search_findings import GainVerdict, SearchFindings
from tuner.model.repository import configs_of
from tuner.model.space import format_value, short_name
from tuner.records.results import Evaluation
from tuner.report.html import Html, card, download, facts, items, join, tag, text
from tuner.report.metric import Metric
from tuner.report.search_wording import (
    candidate_name,
    confirmation_words,
    gain_interval_words,
    gain_words,
    less_words,
)
from tuner.report.wording import NBSP, missed_sentence, percent, times, upper_first
from tuner.units import format_rate


def search_answer(findings: SearchFindings) -> Html:
    """Key figures; below them the settings with the file to download, and how sure the answer is.
    Where no candidate meets the SLA, what came closest.
    """
    chosen = findings.to_deploy
    if chosen is None:
        return tag("div", *_closest_card(findings), class_="cards")
    shown = tag("div", *_cards(findings, chosen), class_="cards")
    return join((shown, tag("div", _deploy(findings, chosen), _sure(findings), class_="columns")))


def _cards(findings: SearchFindings, chosen: Evaluation) -> Iterator[Html]:
    if findings.gain is not None and not findings.baseline_wins:
        yield card("gain", *_gain(findings), kind="gain" if _is_shown(findings) else "")
    role = "baseline" if chosen.baseline else "winner"
    metric, first = Metric(findings.objective), findings.baseline
    notes = [_interval(metric, chosen)]
    if not chosen.baseline and first is not None and findings.gain_fits_values:
        notes.append(f"baseline: {metric.show(metric.value(first))}")
    yield card(
        f"{metric.name} ({role})", metric.show(metric.value(chosen)), _notes(notes), kind=role
    )
    proof = chosen.proof()
    if findings.objective is None and chosen.recommended is not None:
        yield card("recommended rate", format_rate(chosen.recommended), "the rate to operate at")
    if proof is not None:
        yield card("verified at", format_rate(proof.rate or proof.throughput), _confidence(chosen))
    else:
        yield card("verified", "no", "no probe has shown that a rate meets the SLA")


def _is_shown(findings: SearchFindings) -> bool:
    return findings.gain_verdict is GainVerdict.SHOWN


def _gain(findings: SearchFindings) -> tuple[str, str]:
    """Value and note."""
    gain, interval = findings.gain or 1.0, findings.gain_interval
    if not _is_shown(findings):
        is_small = findings.gain_verdict is GainVerdict.TOO_SMALL
        return f"below 2{NBSP}%" if is_small else "not shown", gain_words(findings) or ""
    value = times(gain) if findings.objective is None else f"{less_words(gain)} less"
    if interval is not None:
        return value, gain_interval_words(findings, interval)
    is_confirmed = findings.winner is not None and findings.winner.phase == "confirm"
    return value, "no interval known" if is_confirmed else "not confirmed"


def _interval(metric: Metric, evaluation: Evaluation) -> str:
    low, high = metric.range(evaluation)
    if low is None or low == high:
        return ""
    end = "or more" if high is None else f"to {metric.show(high)}"
    return f"95{NBSP}%: {metric.show(low)} {end}"


def _notes(notes: list[str]) -> str:
    return "; ".join(filter(None, notes))


def _confidence(evaluation: Evaluation) -> str:
    proof = evaluation.proof()
    assert proof is not None
    return f"{proof.violations:,} of {proof.n:,} requests late or failed"


def _deploy(findings: SearchFindings, chosen: Evaluation) -> Html:
    title = "Deploy: your current configuration" if chosen.baseline else "Deploy"
    rows = list(_settings(findings, chosen)) or [("settings", candidate_name(chosen))]
    several = "" not in configs_of(chosen.config)
    what = "configurations.txt" if several else "config.pbtxt"
    button = download(f"Download {what}", chosen.config, what)
    return tag("div", tag("h2", text(title)), facts(rows), button, class_="deploy")


def _settings(findings: SearchFindings, chosen: Evaluation) -> Iterator[tuple[str, str]]:
    """Each of the chosen one's, and what the baseline has in its place if it differs."""
    before = {} if findings.baseline is None else dict(findings.baseline.candidate.settings)
    for path, value in chosen.candidate.settings:
        shown = format_value(value)
        if path in before and before[path] != value:
            shown += f" (now {format_value(before[path])})"
        yield short_name(path), shown


def _sure(findings: SearchFindings) -> Html:
    sentences = [f"{upper_first(confirmation_words(findings))}."]
    outcome = findings.outcome
    if outcome is not None:
        missed = missed_sentence(outcome, findings.objective is not None)
        sentences += [missed] if missed else []
    return tag("div", tag("h2", text("How sure")), items(sentences), class_="sure")


def _closest_card(findings: SearchFindings) -> Iterator[Html]:
    nearest = findings.closest
    if nearest is None or nearest.bound_ratio is None:
        return
    value = percent(nearest.bound_ratio) if isfinite(nearest.bound_ratio) else "no reply"
    yield card("closest", value, f"of the bound, with {candidate_name(nearest)}")
