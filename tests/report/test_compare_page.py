"""The page tells every comparison, whole or broken, and escapes whatever the records hold."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from tests.browsing import Page, overflow, show
from tests.comparing_records import (
    SHAPES,
    comparison,
    deployed,
    evaluated,
    failed,
    missed,
    realistic,
    write_run,
)
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.report.figures_by_rate import pooled_rising
from tuner.report.page import write_report

HOSTILE = "</script><script>window.stolen = 1</script>\"'><img src=x onerror='window.stolen = 1'>"
MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return partial(write_run, tmp_path / "run")


def report(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_a_whole_comparison_tells_the_answer_and_all_figures(make_run: MakeRun) -> None:
    page = report(make_run(*realistic(gpu=True)))
    for words in (
        "FastAPI up to 269/s, then FastAPI in front of Triton up to 751/s",
        "The simplest deployment that meets p99 ≤ 20 ms at each rate:",
        "269/s to 1,034/sTriton tuned",
        "5,000/s: 5 replicas of Triton tuned, 1,000/s each",
        "dynamic batching gives 5 to 10 times the throughput",
        "What tuning changes",
        "16 × AMD EPYC 9354",
        "--target-rate 5000",
    ):
        assert words in page.text
    assert list(page.figures()) == [
        *("bands", "capacities", "latency-by-rate", "stages", "host", "gpu", "swaps"),
    ]
    keys = [attributes["data-copy"] for _, attributes in page.elements if "data-copy" in attributes]
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert len(set(keys)) == len(keys) == 4
    assert set(keys) <= ids


def test_a_page_with_figures_is_small(make_run: MakeRun) -> None:
    page: Path = write_report(make_run(*realistic(gpu=True)))
    assert page.stat().st_size <= 2_000_000


def test_the_parts_are_drawn_alone_and_at_half_capacity(make_run: MakeRun) -> None:
    drawn = report(make_run(*realistic())).figures()["stages"]["data"]
    alone = [trace for trace in drawn if trace.get("xaxis", "x") == "x"]
    sums = [sum(trace["x"][row] or 0 for trace in alone) for row in range(len(SHAPES))]
    assert sums == pytest.approx([1000 * shape.floor for shape in SHAPES])
    assert {trace.get("xaxis", "x") for trace in drawn} == {"x", "x2"}


@pytest.mark.parametrize(
    ("evaluations", "words"),
    [
        ([], "Nothing has been measured yet"),
        ([failed(SHAPES[0], 0)], "could not be measured"),
        ([failed(SHAPES[0], 0), missed(SHAPES[1], 1)], "No deployment meets p99 ≤ 20 ms"),
        ([evaluated(SHAPES[1], 1)], "The comparison did not finish."),
        ([evaluated(SHAPES[4], 4, client_limited=True)], "the load generator saturated"),
        ([evaluated(SHAPES[1], 1, low=None, high=None, by_round=())], "FastAPI up to 269/s"),
    ],
    ids=["nothing", "failed", "missed", "one", "client-limited", "no-interval"],
)
def test_an_incomplete_comparison_is_told(
    make_run: MakeRun, evaluations: list[Evaluation], words: str
) -> None:
    assert words in report(make_run(comparison(), evaluations)).text


def test_what_was_not_read_is_left_out_and_named(make_run: MakeRun) -> None:
    bare = {"stages": None, "server": None, "host": None, "mean": None}
    records = comparison(delays=(), target_rate=None)
    plain = [each.model_copy(update={"swap": None, "config": None}) for each in records.deployments]
    records = records.model_copy(update={"deployments": tuple(plain)})
    evaluations = [evaluated(shape, i) for i, shape in enumerate(SHAPES)]
    blind = [
        e.model_copy(update={"probes": tuple(p.model_copy(update=bare) for p in e.probes)})
        for e in evaluations
    ]
    page = report(make_run(records, blind))
    assert list(page.figures()) == ["bands", "capacities", "latency-by-rate"]
    assert "Not shown. No deployment reported stage times." in page.text
    assert "Not shown. No model was swapped under load." in page.text
    for absent in ("Resources", "Configurations of Triton", "Queue delay of", "What 5,000/s"):
        assert absent not in page.text


@pytest.mark.parametrize("sla", ["gibberish", "p50<8ms", "p99.5<30ms,errors<1%", "p99 ≤ 20 ms"])
def test_any_sla_is_told(make_run: MakeRun, sla: str) -> None:
    records, evaluations = realistic()
    page = report(make_run(records.model_copy(update={"sla": sla}), evaluations))
    traces = page.figures()["latency-by-rate"]["data"]
    assert any("≤" in (t.get("name") or "") for t in traces) is (sla != "gibberish")


def test_hostile_text_stays_text_everywhere(make_run: MakeRun) -> None:
    run = hostile_run(make_run)
    page = report(run)
    assert page.count("script") == 3
    assert page.count("img") == 0
    assert page.text.count(HOSTILE) >= 10
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)


def hostile_run(make_run: MakeRun) -> Run:
    shapes = (SHAPES[1], SHAPES[4], SHAPES[5])
    names = (f"{HOSTILE}0", f"{HOSTILE}1", f"{HOSTILE}2")
    hostile = tuple(
        deployed(shape, i, name=names[i], title=HOSTILE, what=HOSTILE, config=HOSTILE)
        for i, shape in enumerate(shapes)
    )
    records = comparison(shapes, model=HOSTILE, load=HOSTILE, gpu=HOSTILE, tuned_run=HOSTILE)
    records = records.model_copy(update={"deployments": hostile})
    evaluations = [
        evaluated(shapes[0], 0, gpu=True),
        evaluated(shapes[1], 1, gpu=True),
        failed(shapes[2], 2, HOSTILE),
    ]
    return make_run(
        records,
        evaluations,
        model=HOSTILE,
        command=HOSTILE,
        environment={"server": HOSTILE, "notes": [HOSTILE]},
    )


def drawn(browser: Any) -> Any:
    return browser.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')]"
        ".filter((plot) => plot.querySelector('.main-svg')).length"
    )


@pytest.mark.browser
def test_in_a_browser_all_is_drawn_and_nothing_requested(browser: Any, make_run: MakeRun) -> None:
    page: Path = write_report(make_run(*realistic(gpu=True)))
    for width, scheme in ((1280, "light"), (420, "dark")):
        with show(browser, page, width, scheme) as shown:
            assert drawn(browser) == 7
            assert {u for u in shown.requested if not u.startswith("data:")} == {page.as_uri()}
            assert shown.log == []
            assert overflow(browser, width) == 0


@pytest.mark.browser
def test_hostile_records_run_no_script(browser: Any, make_run: MakeRun) -> None:
    with show(browser, write_report(hostile_run(make_run))) as shown:
        assert drawn(browser) == 7
        assert browser.execute_script("return window.stolen") is None
        assert shown.log + browser.get_log("browser") == []


@given(values=st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_a_pooled_line_is_the_nearest_one(values: list[float]) -> None:
    found = pooled_rising(values)
    assert found == sorted(found)
    if values:
        assert found == pytest.approx(list(isotonic_regression(values).x), rel=1e-6, abs=1e-6)
