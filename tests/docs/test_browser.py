"""The site in a browser, opened as files: complete without a network, searchable, on any screen."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import emulate, overflow, requested
from tests.conftest import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_LOCAL = ("file:", "data:", "blob:", "about:", "chrome")
PAGES = ("index.html", "get-started.html", "reference/cli.html", "benchmarks.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, check=True)
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_need_no_network_and_fit_the_screen(
    browser: Any,
    site: Path,
    width: int,
    scheme: str,
) -> None:
    emulate(browser, width, scheme)
    browser.get_log("browser")
    for page in PAGES:
        browser.get("about:blank")
        browser.get_log("performance")
        browser.get((site / page).as_uri())
        urls = {url for url in requested(browser) if not url.startswith(_LOCAL)}
        assert not urls
        assert not overflow(browser, width)
    assert not browser.get_log("browser")


def test_search_finds_an_option(browser: Any, site: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    emulate(browser, 1280, "light")
    browser.get((site / "index.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("warm start")
    found = WebDriverWait(browser, 30).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, ".md-search-result__item a")
    )
    assert any("guides/resume.html" in link.get_attribute("href") for link in found)
