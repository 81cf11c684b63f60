"""One gain everywhere, which nothing beside it contradicts; a doubtful one is none."""

from collections.abc import Callable

import pytest

from tests.manifests import make_manifest
from tests.search_records import BATCH, COUNT, EXPERIMENT, evaluate, priced
from tuner.analysis.search_findings import GainVerdict, SearchFindings
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.report.page import write_report
from tuner.report.search_wording import answer, gain_words, headline
from tuner.report.summary import summary_html

Rounds = tuple[tuple[float, float], ...]


def rounds(*rates: float, error: float = 0.01) -> Rounds:
    return tuple((rate, error) for rate in rates)


def confirmed(
    first: Rounds, last: Rounds, capacities: tuple[float, float] = (100.0, 200.0)
) -> list[Evaluation]:
    """A baseline and a winner with these rounds, and capacities of all their probes."""
    phase = {"phase": "confirm"}
    return [
        evaluate(0, {BATCH: 8}, baseline=True, capacity=capacities[0], by_round=first, **phase),
        evaluate(1, {BATCH: 16, COUNT: 2}, capacity=capacities[1], by_round=last, **phase),
    ]


def findings(evaluations: list[Evaluation]) -> SearchFindings:
    return SearchFindings(make_manifest(**EXPERIMENT), evaluations)


def page_of(run: Run) -> str:
    return write_report(run).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")


def test_capacities_stand_beside_a_gain_that_is_their_ratio() -> None:
    known = findings(confirmed(rounds(100, 101, 99), rounds(200, 202, 198)))
    assert known.gain_verdict is GainVerdict.SHOWN
    assert known.gain_fits_values
    assert not known.exports_unproven_winner
    assert answer(known) == "200/s instead of 100/s."
    assert headline(known).startswith("2.0\N{NO-BREAK SPACE}× the requests")


def test_capacities_that_contradict_the_gain_do_not_stand_beside_it(
    make_run: Callable[..., Run],
) -> None:
    measured = confirmed(rounds(460, 463, 466), rounds(851, 857, 862), (675.0, 857.0))
    known = findings(measured)
    assert headline(known).startswith("1.85\N{NO-BREAK SPACE}× the requests")
    assert not known.gain_fits_values
    assert answer(known) == "Capacity: 857/s."
    run = make_run(measured)
    first_screen = page_of(run).partition("<h2>Figures</h2>")[0]
    assert "1.85 ×" in first_screen
    assert "675/s" not in first_screen
    assert "675/s" not in summary_html(run)


@pytest.mark.parametrize("last", [rounds(150, 60, 200), rounds(98, 99, 100)])
def test_an_interval_that_contains_1_shows_no_gain(
    make_run: Callable[..., Run], last: Rounds
) -> None:
    measured = confirmed(rounds(100, 100, 100), last, (100.0, 120.0))
    known = findings(measured)
    assert known.gain_verdict is GainVerdict.NOT_SHOWN
    assert headline(known) == "No gain shown: keep your current configuration"
    assert known.to_deploy is known.baseline
    assert known.exports_unproven_winner
    page = page_of(make_run(measured))
    assert "Deploy: your current configuration" in page
    assert "the requests of the baseline" in page


def test_a_certain_gain_of_less_than_2_percent_is_not_worth_a_change() -> None:
    known = findings(confirmed(rounds(100, error=1e-4), rounds(101, error=1e-4), (100, 101)))
    assert known.gain_verdict is GainVerdict.TOO_SMALL
    assert "keep your current configuration" in headline(known)
    assert known.to_deploy is known.baseline


def test_a_baseline_that_fails_the_sla_is_replaced_without_a_gain() -> None:
    failing = evaluate(0, {BATCH: 8}, baseline=True, capacity=None, low=None, high=None)
    known = findings([failing, evaluate(1, {BATCH: 16}, capacity=300.0)])
    assert known.gain_verdict is GainVerdict.UNKNOWN
    assert known.to_deploy is known.winner
    assert gain_words(known) is None


def costing(first: float, last: float) -> SearchFindings:
    return findings(
        [
            priced(0, {BATCH: 8}, first, baseline=True, phase="confirm"),
            priced(1, {BATCH: 16}, last, phase="confirm"),
        ]
    )


def test_a_lower_cost_is_told_as_the_share_that_is_saved() -> None:
    known = costing(0.012, 0.008)
    told = (gain_words(known) or "").replace("\N{NO-BREAK SPACE}", " ")
    assert told.startswith("33 % less (95 %: 3")
    assert headline(known).replace("\N{NO-BREAK SPACE}", " ") == "33 % less p99 at 100/s: 8 ms"


def test_a_cost_that_may_be_the_same_shows_no_gain() -> None:
    known = costing(0.01205, 0.012)
    assert known.gain_verdict is GainVerdict.NOT_SHOWN
    assert headline(known) == "No gain shown: keep your current configuration"
    assert "% less" in answer(known).replace("\N{NO-BREAK SPACE}", " ")
