"""The first screen tells what to deploy, what it gains and how sure that is; it needs no server."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from tests.browsing import Page
from tests.comparing_records import realistic, write_run
from tests.search_records import BATCH, evaluate
from tuner.records.results import Outcome
from tuner.records.run import Run
from tuner.report.page import write_report


def downloads(page: Page) -> list[str]:
    """The content of each file that a button saves."""
    links = [attributes for name, attributes in page.elements if name == "a"]
    assert all(link["download"] == "config.pbtxt" for link in links)
    parts = [(link["href"] or "").partition(",") for link in links]
    assert all(head == "data:text/plain;charset=utf-8" for head, *_ in parts)
    return [unquote(content) for *_, content in parts]


def report(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_the_winners_file_can_be_saved(whole_run: Run) -> None:
    winner = whole_run.evaluations()[-1]
    assert downloads(report(whole_run)) == [winner.config]


def test_a_file_survives_the_address_as_it_is(make_run: Callable[..., Run]) -> None:
    config = "# 100 % <ä> & \"quoted\" 'too'\nmax_batch_size: 8\n"
    run = make_run([evaluate(0, {BATCH: 8}, baseline=True, config=config)])
    assert downloads(report(run)) == [config]


def test_settings_tell_what_they_are_now(whole_run: Run) -> None:
    text = report(whole_run).text.partition("How sure")[0]
    assert "max_batch_size16 (now 8)" in text
    assert "2.5 ×" in text
    assert "not confirmed" not in text


def test_the_chance_of_something_better_is_told(make_run: Callable[..., Run]) -> None:
    run = make_run([evaluate(0, {BATCH: 8}, baseline=True)])
    ended = Outcome(
        reason="nothing is left", candidates=9, simulated=9, measured=1, by=0.02, missed=0.67
    )
    run.write_outcome(ended)
    sentence = (
        "Estimated probability that an unmeasured configuration is more than 2 % better: 67 %."
    )
    assert sentence in report(run).text


def test_a_comparison_offers_the_files_of_what_it_recommends(tmp_path: Path) -> None:
    records, evaluations = realistic()
    page = report(write_run(tmp_path / "run", records, evaluations))
    tuned = next(d.config for d in records.deployments if d.name == "triton-tuned")
    assert tuned in downloads(page)
    assert "How sure" in page.text
