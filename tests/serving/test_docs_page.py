"""``/docs`` in a browser: it asks no other host, and takes an API key."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browsing import browser as browser
from tests.browsing import requested
from tests.serving.edge import served as served_in_thread
from tests.serving.served import served
from tuner.serving import docs
from tuner.serving.docs import DOCS_PATHS
from tuner.serving.gateway import create_gateway
from tuner.serving.settings import GatewaySettings

pytestmark = pytest.mark.slow

CLASSIFIER = str(Path(__file__).parents[2] / "model_repository/text_classifier")
KEY = "0123456789abcdef"


def wait_until_shown(browser: Any, operations: int) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(
        lambda b: len(b.find_elements("css selector", ".opblock")) == operations
    )


def foreign(browser: Any, url: str) -> set[str]:
    local = (url, "data:", "blob:", "about:", "chrome")
    return {each for each in requested(browser) if not each.startswith(local)}


def errors(browser: Any) -> list[str]:
    """Logged by the page, but for the refusal that it expects."""
    logged = [str(entry["message"]) for entry in browser.get_log("browser")]
    return [message for message in logged if "openapi.json" not in message or "401" not in message]


@pytest.fixture
def bundle() -> None:
    pytest.importorskip(docs.PACKAGE)


@pytest.mark.browser
@pytest.mark.parametrize("option", [(), ("--naive",)])
def test_it_needs_no_other_host(browser: Any, bundle: None, option: tuple[str, ...]) -> None:
    with served("fastapi", CLASSIFIER, *option) as service:
        browser.get_log("performance")
        browser.get(f"{service.url}/docs")
        wait_until_shown(browser, 4 if option else 6)
        assert foreign(browser, service.url) == set()
        assert errors(browser) == []
        assert "text_classifier" in browser.title
        assert not browser.find_element("id", "key").is_displayed()


@pytest.fixture
def gateway(tmp_path: Path) -> Any:
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{KEY}\n")
    keys.chmod(0o600)
    return create_gateway(GatewaySettings(model="m", triton="127.0.0.1:1", api_keys=keys))


@pytest.mark.browser
def test_it_asks_for_a_key(browser: Any, bundle: None, gateway: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    with served_in_thread(gateway) as port:
        url = f"http://127.0.0.1:{port}"
        browser.get_log("performance")
        browser.get(f"{url}/docs")
        form = browser.find_element("id", "key")
        WebDriverWait(browser, 30).until(lambda b: form.is_displayed())
        field = form.find_element("id", "value")
        field.send_keys("wrong" * 4)
        form.submit()
        problem = form.find_element("id", "problem")
        WebDriverWait(browser, 30).until(lambda b: "does not know" in problem.text)
        field.clear()
        field.send_keys(KEY)
        form.submit()
        wait_until_shown(browser, 4)
        assert browser.find_elements("css selector", ".auth-wrapper .authorize.locked")
        assert browser.find_element("id", "loading").is_displayed()
        assert foreign(browser, url) == set()
        assert errors(browser) == []


def test_the_page_is_open_and_the_schema_is_not(gateway: Any) -> None:
    with (
        served_in_thread(gateway) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        for path in DOCS_PATHS:
            assert http.get(path).status_code != 401
        assert http.get("/openapi.json").status_code == 401
        schema = http.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()
    assert schema["security"] == [{"ApiKey": []}, {"Bearer": []}]
    assert schema["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in schema["paths"]["/status"]["get"]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import FastAPI

    monkeypatch.setattr(docs, "PACKAGE", "no_such_package")
    app = FastAPI(docs_url=None)
    docs.add_docs(app)
    with served_in_thread(app) as port:
        reply = httpx.get(f"http://127.0.0.1:{port}/docs")
    assert reply.status_code == 501
    assert "triton-tuner[serve]" in reply.text
