"""In a real browser the page draws every figure, logs no error and requests nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import comparing_records
from tests.browsing import Shown, emulate, overflow, show
from tests.comparing_records import write_run
from tuner.records.run import Run
from tuner.report.page import write_report

pytestmark = pytest.mark.browser
_INK = {"light": "#5b6672", "dark": "#9ea8b4"}


def ink(browser: Any) -> Any:
    return browser.execute_script(
        "return document.getElementById('figure-capacity').layout.font.color"
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, copy_whole_run: Callable[[Path], Run]) -> Path:
    return write_report(copy_whole_run(tmp_path_factory.mktemp("browser") / "whole"))


@pytest.fixture(scope="module", params=[(1280, "light"), (420, "dark")], ids=["wide", "narrow"])
def shown(browser: Any, page: Path, request: pytest.FixtureRequest) -> Iterator[Shown]:
    with show(browser, page, *request.param) as shown:
        yield shown


def drawn(browser: Any) -> Any:
    return browser.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')]"
        ".filter((plot) => plot.querySelector('.main-svg')).length"
    )


def figure_texts(browser: Any) -> str:
    script = "return [...document.querySelectorAll('figure')].map((f) => f.innerText).join(' ')"
    return str(browser.execute_script(script))


def sort_by_capacity(browser: Any) -> Any:
    """The column's values after a click on its heading; no value is an empty text."""
    return browser.execute_script("""
        const head = [...document.querySelectorAll('th')].find((h) => h.innerText === 'capacity');
        head.firstChild.click();
        return [...document.querySelectorAll('tbody tr')]
            .map((row) => row.cells[head.cellIndex].dataset.value);
    """)


def assert_sorts(browser: Any) -> None:
    for reverse in (False, True):
        values = sort_by_capacity(browser)
        numbers = [float(value) for value in values if value]
        assert numbers == sorted(numbers, reverse=reverse)
        assert values[len(numbers) :] == [""] * 2


def test_every_figure_is_drawn_without_error_or_request(browser: Any, shown: Shown) -> None:
    assert drawn(browser) == 11
    assert browser.execute_script("return document.body.dataset.drawn") == "11"
    assert {url for url in shown.requested if not url.startswith("data:")} == {shown.page.as_uri()}
    assert shown.log == []


def test_a_click_on_a_heading_sorts_with_gaps_last(browser: Any, shown: Shown) -> None:
    assert_sorts(browser)


def test_the_page_fits_its_window_and_its_scheme(browser: Any, shown: Shown) -> None:
    assert overflow(browser, shown.width) == 0
    assert ink(browser) == _INK[shown.scheme]


def test_an_open_page_follows_its_scheme(browser: Any, shown: Shown) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    (other,) = _INK.keys() - {shown.scheme}
    for scheme in (other, shown.scheme):
        emulate(browser, shown.width, scheme)
        message = f"the ink is not that of {scheme}"
        WebDriverWait(browser, 10).until(lambda b, s=scheme: ink(b) == _INK[s], message)
        assert overflow(browser, shown.width) == 0


def test_an_old_browser_shows_a_sentence_in_place_of_figures(browser: Any, page: Path) -> None:
    with show(browser, page, first="delete window.DecompressionStream") as shown:
        assert drawn(browser) == 0
        assert figure_texts(browser).count("Figures need a browser of 2023 or later.") == 11
        assert_sorts(browser)
        assert shown.log == []


def test_figures_that_fail_leave_the_tables_working(
    browser: Any, page: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.html"
    damaged.write_text(page.read_text(encoding="utf-8").replace('id="plotly">', 'id="plotly">0'))
    with show(browser, damaged) as shown:
        assert drawn(browser) == 0
        assert figure_texts(browser).count("The figures could not be drawn.") == 11
        assert_sorts(browser)
        assert [entry["source"] for entry in shown.log] == ["console-api"]


def test_hostile_records_run_no_script(browser: Any, whole_run: Run) -> None:
    bad = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>"
    hostile = whole_run.evaluations()[1].model_copy(update={"failure": bad, "config": bad})
    whole_run.append(hostile)
    with show(browser, write_report(whole_run)) as shown:
        assert browser.execute_script("return window.stolen") is None
        assert shown.log + browser.get_log("browser") == []


SIZES = [(390, "light"), (1280, "dark")]
_CUT_OFF = """
    const width = document.documentElement.clientWidth;
    const scrolls = (e) => e && (["auto", "scroll"].includes(getComputedStyle(e).overflowX)
        || scrolls(e.parentElement));
    return [...document.querySelectorAll("main *")]
        .filter((e) => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement))
        .map((e) => e.outerHTML.slice(0, 120));
"""
# A plot is one image to a reader; axe would walk through thousands of its parts.
_CHECK = """
    const done = arguments[arguments.length - 1];
    const places = { exclude: [".plot > *"] };
    axe.run(places, { resultTypes: ["violations"] }).then((found) => done(
        found.violations.filter((v) => ["serious", "critical"].includes(v.impact))
            .map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200))])));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which checks accessibility."""
    package = pytest.importorskip("axe_core_python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared") / "run"
    return write_report(write_run(folder, *comparing_records.realistic(gpu=True)))


@pytest.fixture(scope="module", params=["search", "comparison"])
def opened(
    browser: Any, page: Path, compared: Path, request: pytest.FixtureRequest
) -> Iterator[Shown]:
    with show(browser, page if request.param == "search" else compared) as shown:
        yield shown


def test_no_accessibility_rule_is_broken(browser: Any, opened: Shown, axe: str) -> None:
    browser.execute_script(axe)
    for width, scheme in SIZES:
        emulate(browser, width, scheme)
        assert browser.execute_async_script(_CHECK) == [], (width, scheme)


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_is_cut_off_at_any_width(browser: Any, opened: Shown, width: int) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    emulate(browser, width, "light")
    message = f"wider than {width}"  # figures follow the window a moment later
    WebDriverWait(browser, 10).until(lambda b: overflow(b, width) == 0, message)
    assert browser.execute_script(_CUT_OFF) == []


def test_all_is_reached_with_the_keyboard_alone(browser: Any, opened: Shown) -> None:
    """Buttons, links, folded parts and what scrolls; each shows that it has the focus."""
    from selenium.webdriver.common.keys import Keys

    focused = """
        const e = document.activeElement;
        e.dataset.reached = getComputedStyle(e).outlineStyle !== "none";
    """
    missed = """
        return [...document.querySelectorAll("main :is(a, button, summary, [tabindex])")]
            .filter((e) => e.checkVisibility() && e.dataset.reached !== "true")
            .map((e) => e.outerHTML.slice(0, 120));
    """
    stops = browser.execute_script(
        "return document.querySelectorAll('a, button, summary, [tabindex]').length"
    )
    for _ in range(stops + 5):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        browser.execute_script(focused)
    assert browser.execute_script(missed) == []
    browser.find_element("tag name", "summary").send_keys(Keys.ENTER)
    assert browser.execute_script("return document.querySelector('details').open")
