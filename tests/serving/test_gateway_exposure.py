"""The gateway towards a network that it does not trust, in processes of its own; there is no Triton
behind it, which no promise here needs.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.serving.raw import PIECE, post, raw
from tests.serving.served import Served, client_of, served, wait_for
from tuner.errors import UsageError
from tuner.servers.program import free_ports
from tuner.serving.exposure import require_keys, trusted_networks

pytestmark = pytest.mark.slow
KEY = "0123456789abcdef"
HEADERS = {"X-API-Key": KEY}
OFFERED = 400 << 20  # bytes that a client would send
TAKEN = 32 << 20  # bytes at most, in the kernel's buffers and in a worker's memory
MODEL = Path(__file__).parents[2] / "model_repository/text_classifier"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"alice:{KEY}\n")
    file.chmod(0o600)
    return file


@contextmanager
def gateway(*words: str) -> Iterator[Served]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with served("gateway", "secret_model", "--triton", address, *words, ready=False) as service:
        wait_for(lambda: service.http.get("/livez").status_code == 200)
        yield service


def port_of(service: Served) -> int:
    return int(service.url.rpartition(":")[2])


def test_health_tells_nothing_of_what_lies_behind(keys: Path) -> None:
    with gateway("--api-keys", str(keys)) as service:

        def status() -> dict[str, str]:
            return dict(service.http.get("/status", headers=HEADERS).json())

        wait_for(lambda: "127.0.0.1" in status()["reason"])
        assert set(status()) == {"status", "worker", "model", "loaded", "reason"}
        health = service.http.get("/healthz")
        assert health.status_code == 503
        assert health.json() == {"status": "loading", "worker": health.json()["worker"]}
        assert set(service.http.get("/livez").json()) == {"status", "worker"}
        for path in ("/status", "/metrics", "/openapi.json", "/nowhere"):
            refused = service.http.get(path)
            assert refused.status_code == 401
            assert "secret_model" not in refused.text
        assert "secret_model" not in service.http.get("/docs").text


def test_what_comes_before_a_key_takes_no_memory(keys: Path) -> None:
    with gateway("--api-keys", str(keys)) as service:
        worker = psutil.Process(int(service.http.get("/healthz").json()["worker"]))
        before = worker.memory_info().rss
        for begin, piece in (
            (b"GET / HTTP/1.1\r\nx: ", b"a" * PIECE),
            (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
            (post("/predict", f"Content-Length: {OFFERED}"), b"a" * PIECE),
        ):
            with raw(port_of(service)) as client:
                client.send(begin)
                assert client.flood(piece, OFFERED) < TAKEN
                assert client.last_answer().status in (401, 431)
        assert worker.memory_info().rss < before + TAKEN
        assert service.http.get("/livez").status_code == 200


def test_slow_bodies_take_no_place_and_are_408(keys: Path) -> None:
    words = ("--api-keys", str(keys), "--max-in-flight", "32", "--timeout", "3s")
    with gateway(*words) as service, ExitStack() as stack:
        slow = [stack.enter_context(raw(port_of(service))) for _ in range(40)]
        for client in slow:
            client.send(post("/predict", f"X-API-Key: {KEY}", "Content-Length: 1000"), b"a")
        wait_for(lambda: in_flight(service) == len(slow) + 1)  # with the question itself
        reply = service.http.post("/predict", json={}, headers=HEADERS)
        assert reply.json()["error"]["type"] == "unavailable"  # for want of Triton, not of a place
        for client in slow:
            client.trickle(b"a", 0.1)
            answer = client.last_answer()
            assert (answer.status, answer.error()) == (408, "body_timeout")


def in_flight(service: Served) -> float:
    text = service.http.get("/metrics", headers=HEADERS).text
    found = re.search(r"^tuner_in_flight (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


class TestForwardedFor:
    """One request a day for each address, and clients that say what theirs is."""

    LIMIT = ("--rate-limit", "1/day")

    @staticmethod
    def statuses(service: Served, *addresses: str) -> list[int]:
        return [
            service.http.post("/predict", json={}, headers={"X-Forwarded-For": each}).status_code
            for each in addresses
        ]

    def test_it_counts_for_nothing_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own variable
        with gateway(*self.LIMIT) as service:
            assert self.statuses(service, "10.0.0.1", "10.0.0.2", "10.0.0.3") == [503, 429, 429]

    def test_it_counts_for_nothing_from_others_than_the_proxy(self) -> None:
        with gateway(*self.LIMIT, "--trusted-proxy", "10.9.0.0/16") as service:
            assert self.statuses(service, "10.0.0.1", "10.0.0.2") == [503, 429]

    def test_from_the_proxy_it_names_the_client(self) -> None:
        proxies = ("--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.9.0.0/16")
        with gateway(*self.LIMIT, *proxies) as service:
            assert self.statuses(service, "10.0.0.1", "10.0.0.2", "10.0.0.1") == [503, 503, 429]
            # What the client wrote itself comes before what proxies added.
            forged = ("10.0.0.7, 10.0.0.2", "1.2.3.4, 10.0.0.2, 10.9.0.5", "10.9.1.1, 10.0.0.2")
            assert self.statuses(service, *forged) == [429] * 3

    def test_a_proxy_over_ipv4_is_known_where_the_service_listens_on_both(self) -> None:
        from uvicorn.middleware.proxy_headers import _TrustedHosts

        known = _TrustedHosts(trusted_networks(["10.9.0.0/16", "192.0.2.1/32", "2001:db8::/32"]))
        for host in ("10.9.1.2", "::ffff:10.9.1.2", "::ffff:192.0.2.1", "2001:db8::1"):
            assert host in known
        for host in ("10.8.1.2", "::ffff:10.8.1.2", "::ffff:192.0.2.2", "2001:db9::1"):
            assert host not in known

    @pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", ""])
    def test_a_proxy_is_named_by_address(self, text: str) -> None:
        done = run("gateway", "m", "--trusted-proxy", text)
        assert done.returncode == 2
        assert "trusted-proxies" in done.stderr
        assert repr(text) in done.stderr


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tuner", "serve", *words, "--port", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_beyond_loopback_it_needs_keys(host: str) -> None:
    done = run("gateway", "m", "--host", host)
    assert done.returncode == 2, done.stdout
    assert "listening" not in done.stdout
    for word in ("no API keys", "--api-keys", "TUNER_API_KEYS", "--allow-unauthenticated"):
        assert word in done.stderr


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "10.0.0.1", "fe80::1%eth0", "::ffff:127.0.0.1"]
)
def test_only_loopback_needs_no_keys(address: str) -> None:
    for loopback in ("127.0.0.1", "127.8.8.8", "::1"):
        require_keys(loopback, "")
    with pytest.raises(UsageError, match="no API keys: make some"):
        require_keys(address, "make some")


def test_it_listens_on_loopback_and_with_keys_or_when_told_to_beyond(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_listens("localhost", "127.0.0.1")
    assert_listens("0.0.0.0", "0.0.0.0", "--api-keys", str(keys))
    assert_listens("0.0.0.0", "0.0.0.0", "--allow-unauthenticated")
    monkeypatch.setenv("TUNER_API_KEYS", f"alice:{KEY}")
    assert_listens("0.0.0.0", "0.0.0.0")


def assert_listens(host: str, address: str, *words: str) -> None:
    command = [sys.executable, "-m", "tuner", "serve", "gateway", "m", "--host", host, *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"listening on http://([\d.]+):(\d+) ", process.stdout.readline())
            assert found is not None
            assert found[1] == address
            with client_of(f"http://127.0.0.1:{found[2]}") as http:
                wait_for(lambda: http.get("/livez").status_code == 200)
        finally:
            process.terminate()


def test_the_fastapi_service_has_no_keys_and_stays_on_loopback() -> None:
    done = run("fastapi", str(MODEL), "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--allow-unauthenticated" in done.stderr
    assert "--api-keys" not in done.stderr
