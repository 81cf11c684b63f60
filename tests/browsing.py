"""A real browser for pages: what they draw, log and request."""

import gzip
import json
import os
import shutil
from base64 import b85decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

_REQUIRED = os.environ.get("CI") == "true" or os.environ.get("TUNER_REQUIRE_ALL") == "1"
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


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
def show(
    browser: Any, page: Path, width: int = 1280, scheme: str = "light", first: str = ""
) -> Iterator[Shown]:
    """Slow, for the page holds all of Plotly: tests that leave it as it is share one.

    ``first`` is JavaScript that runs before the page's own.
    """
    from selenium.webdriver.support.ui import WebDriverWait

    before = browser.current_window_handle
    browser.switch_to.new_window("tab")
    try:
        emulate(browser, width, scheme)
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": first})
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


def overflow(browser: Any, width: int) -> int:
    """Pixels by which the page is wider than its window; 0 where it fits."""
    return max(0, browser.execute_script("return document.documentElement.scrollWidth") - width)


def unpacked(script: str) -> str:
    """What page.js reads in a script element that tuner.report.frame packed."""
    return gzip.decompress(b85decode(script.replace(",", "<"))).decode()


class Page(HTMLParser):
    """What a browser would make of the page: elements, text outside scripts, figures."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self._inside = "", list[str](), ""
        self.feed(source)
        self.text = self.text.replace("\N{NO-BREAK SPACE}", " ")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    def figures(self) -> dict[str, Any]:
        found = json.loads(unpacked(self.scripts[1]))
        assert isinstance(found, dict)
        return found
