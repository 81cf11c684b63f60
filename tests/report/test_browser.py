"""In a real browser the page draws every figure, logs no error and requests nothing."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tuner.report.page import write_report
from tuner.run import Run

pytestmark = pytest.mark.browser
_REQUIRED = os.environ.get("CI") == "true" or os.environ.get("TUNER_REQUIRE_ALL") == "1"
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
_INK = {"light": "#5b6672", "dark": "#9ea8b4"}


def _find(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        message = f"needs {' or '.join(names)} on the PATH"
        pytest.fail(message) if _REQUIRED else pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium under chromedriver, both as installed, with its log and its network recorded."""
    chromium = _find("chromium", "chromium-browser", "google-chrome")
    driver = _find("chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in _FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    chrome = webdriver.Chrome(options=options, service=service)
    yield chrome
    chrome.quit()


def emulate(browser: Any, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


@dataclass(frozen=True)
class Shown:
    """A page in a tab of its own, with what it requested and logged until all was drawn."""

    page: Path
    width: int
    scheme: str
    requested: set[str]
    log: list[Any]


@contextmanager
def show(browser: Any, page: Path, width: int = 1280, scheme: str = "light") -> Iterator[Shown]:
    """Slow, for the page holds all of Plotly: tests that leave it as it is share one."""
    from selenium.webdriver.support.ui import WebDriverWait

    before = browser.current_window_handle
    browser.switch_to.new_window("tab")
    try:
        emulate(browser, width, scheme)
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(page.as_uri())
        WebDriverWait(browser, 60).until(
            lambda b: b.execute_script("return document.body.dataset.drawn !== undefined")
        )
        yield Shown(page, width, scheme, requested(browser), browser.get_log("browser"))
    finally:
        browser.close()
        browser.switch_to.window(before)


def requested(browser: Any) -> set[str]:
    messages = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    sent = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {m["params"]["request"]["url"] for m in sent}


def ink(browser: Any) -> Any:
    return browser.execute_script(
        "return document.getElementById('figure-capacity').layout.font.color"
    )


def overflow(browser: Any, width: int) -> int:
    """Pixels by which the page is wider than its window; 0 where it fits."""
    return max(0, browser.execute_script("return document.documentElement.scrollWidth") - width)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, copy_whole_run: Callable[[Path], Run]) -> Path:
    return write_report(copy_whole_run(tmp_path_factory.mktemp("browser") / "whole"))


@pytest.fixture(scope="module", params=[(1280, "light"), (420, "dark")], ids=["wide", "narrow"])
def shown(browser: Any, page: Path, request: pytest.FixtureRequest) -> Iterator[Shown]:
    with show(browser, page, *request.param) as shown:
        yield shown


def test_every_figure_is_drawn_without_error_or_request(browser: Any, shown: Shown) -> None:
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')]"
        ".filter((plot) => plot.querySelector('.main-svg')).length"
    )
    assert drawn == 10
    assert {url for url in shown.requested if not url.startswith("data:")} == {shown.page.as_uri()}
    assert shown.log == []


def test_a_click_on_a_heading_sorts_with_gaps_last(browser: Any, shown: Shown) -> None:
    column = """
        const head = [...document.querySelectorAll('th')].find((h) => h.innerText === 'capacity');
        head.firstChild.click();
        return [...document.querySelectorAll('tbody tr')]
            .map((row) => row.cells[head.cellIndex].dataset.value);
    """
    for reverse in (False, True):
        values = browser.execute_script(column)
        numbers = [float(value) for value in values if value]
        assert numbers == sorted(numbers, reverse=reverse)
        assert values[len(numbers) :] == [""] * 2


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


def test_hostile_records_run_no_script(browser: Any, whole_run: Run) -> None:
    bad = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>"
    hostile = whole_run.evaluations()[1].model_copy(update={"failure": bad, "config": bad})
    whole_run.append(hostile)
    with show(browser, write_report(whole_run)) as shown:
        assert browser.execute_script("return window.stolen") is None
        assert shown.log + browser.get_log("browser") == []
