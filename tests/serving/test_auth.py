"""API keys: their file, and who is let through."""

import hashlib
import logging
import string
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware import Middleware

from tests.serving.edge import ask, service, value
from tuner.errors import UsageError
from tuner.serving.auth import KeyAuthentication, Keys
from tuner.serving.metrics import Metrics

_KEY = "correct-horse-battery"
_OTHER = "staple-correct-horse"
_DIGEST = hashlib.sha256(_OTHER.encode()).hexdigest()
_TEXT = f"# ours\nshop:{_KEY}\n\nphone : sha256:{_DIGEST}\n"

_NAMES = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=64)
_SECRETS = st.text(
    "".join(c for c in string.printable if c.isprintable() and c != " "), min_size=16, max_size=80
).filter(lambda key: not key.startswith("sha256:"))


def _ask(
    headers: dict[str, str], path: str = "/predict", metrics: Metrics | None = None
) -> httpx.Response:
    metrics = metrics or Metrics()
    layer = Middleware(KeyAuthentication, Keys.load(_TEXT), metrics, open_paths=("/metrics",))
    method = "POST" if path == "/predict" else "GET"
    return ask(service(metrics, layer), method, path, headers=headers)


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"Authorization": f"Bearer {_KEY}"}, "shop"),
        ({"authorization": f"bEARER   {_KEY} "}, "shop"),
        ({"X-API-Key": _OTHER}, "phone"),
        ({"Authorization": "Basic dTpw", "X-API-Key": _KEY}, "shop"),
    ],
)
def test_a_key_is_let_through_by_its_name(headers: dict[str, str], name: str) -> None:
    answer = _ask(headers)
    assert answer.status_code == 200
    assert answer.json() == {"client": name}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": _KEY},
        {"Authorization": f"Basic {_KEY}"},
        {"Authorization": f"Bearer {_KEY}x"},
        {"Authorization": f"Bearer {_KEY[:-1]}"},
        {"Authorization": f"Bearer sha256:{_DIGEST}"},
        {"Authorization": f"Bearer {_DIGEST}"},
        {"X-API-Key": ""},
        {"X-API-Key": "shop"},
    ],
)
def test_without_a_known_key_it_is_401(headers: dict[str, str]) -> None:
    metrics = Metrics()
    answer = _ask(headers, metrics=metrics)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="tuner"')
    assert answer.json()["error"]["type"] == "unauthorized"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert _KEY[:-1] not in answer.text
    assert value(metrics, 'tuner_rejected_total{reason="key"}') == 1
    assert value(metrics, 'tuner_requests_total{route="/predict",status="401"}') == 1


def test_a_wrong_key_is_told_from_none() -> None:
    assert "error=" not in _ask({}).headers["www-authenticate"]
    wrong = _ask({"X-API-Key": "a" * 20})
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/metrics"])
def test_open_paths_need_no_key(path: str) -> None:
    assert _ask({}, path).status_code == 200


@pytest.mark.parametrize("path", ["/models/a", "/healthz/", "//healthz", "/nowhere"])
def test_other_paths_do(path: str) -> None:
    assert _ask({}, path).status_code == 401


@given(st.dictionaries(_NAMES, _SECRETS, min_size=1, max_size=5), st.randoms())
def test_every_key_of_a_file_opens_and_no_other(keys: dict[str, str], rng: object) -> None:
    if len(set(keys.values())) < len(keys):
        return
    lines = [
        f"{name}:sha256:{hashlib.sha256(key.encode()).hexdigest()}" if i % 2 else f"{name}:{key}"
        for i, (name, key) in enumerate(keys.items())
    ]
    loaded = Keys.load("\n".join(lines))
    for name, key in keys.items():
        assert loaded.name_of(key.encode()) == name
        if key[:-1] not in keys.values():
            assert loaded.name_of(key[:-1].encode()) is None
    assert loaded.name_of(b"") is None


@given(st.text(max_size=200))
def test_any_text_loads_or_is_refused_with_words(text: str) -> None:
    try:
        found = Keys.load(text).digests
    except UsageError:
        return
    assert 1 <= len(found) <= len(text.splitlines())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no key"),
        ("# nothing\n\n", "there is no key"),
        (_KEY, "line 1"),
        (f"a:{_KEY}\nb", "line 2"),
        (f"a b:{_KEY}", "no name"),
        ("a:tooshort", "8 characters"),
        ("a:" + "x" * 15, "15 characters"),
        (f"a:{_KEY}\na:{_OTHER}", "a second key for a"),
        (f"a:{_KEY}\nb:{_KEY}", "b has the same key as another name"),
        (f"a:{_OTHER}\nb:sha256:{_DIGEST}", "b has the same key as another name"),
        (f"a:sha256:{_DIGEST[:-1]}", "64 hexadecimal"),
        ("a:sha256:" + "g" * 64, "64 hexadecimal"),
        ("a:ключ-из-шестнадцати-букв", "no HTTP header"),
        ("a:sixteen or more words", "no HTTP header"),
    ],
)
def test_a_bad_file_is_refused_and_shows_no_key(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Keys.load(text)
    for secret in (_KEY, _OTHER, _DIGEST, "tooshort", "sixteen"):
        assert secret not in str(caught.value)


def test_a_file_that_others_may_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(_TEXT)
    path.chmod(0o600)
    assert Keys.load(path).name_of(_KEY.encode()) == "shop"
    assert not caplog.records
    path.chmod(0o644)
    Keys.load(path)
    assert "chmod 600" in caplog.text
    assert _KEY not in caplog.text


@pytest.mark.parametrize("content", [None, b"a:\xff\xfe" + b"x" * 20])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=str(path)):
        Keys.load(path)


def test_keys_show_up_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = Keys.load(_TEXT)
    _ask({"X-API-Key": _KEY})
    _ask({"X-API-Key": "wrong-" + _KEY})
    assert _KEY not in caplog.text + repr(keys)


def test_the_keys_of_the_page_load() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/services.md").read_text(encoding="utf-8")
    text = page.split("```\n# name:key", 1)[1].split("```", 1)[0]
    assert [name for name, _ in Keys.load("#" + text).digests] == ["shop", "phone"]
