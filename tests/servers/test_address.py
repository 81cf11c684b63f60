import pytest

from tuner.errors import UsageError
from tuner.security import PLAIN, Security
from tuner.servers.address import attach, parse_address, readable_by_others
from tuner.servers.base import Endpoints


@pytest.mark.parametrize(
    ("text", "address", "tls"),
    [
        ("triton:8000", "triton:8000", False),
        ("http://triton:8000/", "triton:8000", False),
        ("grpc://10.0.0.1:8001", "10.0.0.1:8001", False),
        ("https://triton:8000", "triton:8000", True),
        ("HTTPS://triton.example.com/", "triton.example.com:443", True),
        ("grpcs://[::1]:8001", "[::1]:8001", True),
        ("grpcs://[fd00::1]", "[fd00::1]:443", True),
    ],
)
def test_addresses_parse(text: str, address: str, tls: bool) -> None:
    assert parse_address(text) == (address, tls)


@pytest.mark.parametrize(
    "text",
    [
        *("", "triton", "http://triton", ":8000", "triton:", "triton:x", "triton:70000"),
        *("ftp://triton:8000", "http://triton:8000/v2", "::1:8000", "a b:1", "https://"),
        *("a..b:1", ".a:1", "a" * 64 + ":1", "[::1::]:1", "a\0b:1", "\udcff:1"),
    ],
)
def test_an_address_that_is_none_is_refused_by_its_own_words(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)


def test_each_service_has_tls_of_its_own() -> None:
    found = attach("https://a:1", "b:2", PLAIN)
    assert found == Endpoints("a:1", "b:2", tls=frozenset({"http"}))
    assert (found.root("http"), found.root("grpc")) == ("https://a:1", "grpc://b:2")
    assert attach("a:1", "grpcs://b:2", PLAIN).root("grpc") == "grpcs://b:2"
    assert attach("a:1", None, PLAIN) == Endpoints("a:1")


@pytest.mark.parametrize(
    ("url", "grpc_url", "words"),
    [
        ("a:1", None, "Key goes to http://a:1 unencrypted; write https://"),
        ("https://a:1", "b:2", "Key goes to grpc://b:2 unencrypted; write grpcs://"),
        ("https://a:1", "grpcs://b:2", None),
        ("localhost:1", "127.0.0.1:2", None),
    ],
)
def test_headers_without_tls_are_told(url: str, grpc_url: str | None, words: str | None) -> None:
    said = readable_by_others(attach(url, grpc_url, Security((("Key", "1"),))))
    assert said == words if words is None else words in str(said)
    assert readable_by_others(attach(url, grpc_url, PLAIN)) is None
