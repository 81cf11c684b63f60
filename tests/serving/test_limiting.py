"""Rates per client, with counters in memory and on a real Redis."""

import asyncio
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.applications import Starlette
from starlette.middleware import Middleware

from tests.conftest import need
from tests.serving.edge import client, eventually, service, value
from tuner.errors import UsageError
from tuner.serving.auth import KeyAuthentication, Keys
from tuner.serving.constants import RATE_LIMITS
from tuner.serving.limit_storage import WindowCounters, open_storage
from tuner.serving.limiting import RateLimiting, parse_rates
from tuner.serving.metrics import Metrics


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of its own; gives its URL."""
    binary = shutil.which("redis-server")
    need(binary is not None, "no redis-server here; install the Debian package redis-server")
    assert binary is not None
    folder = tmp_path_factory.mktemp("redis")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _listens(port))
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    found: str = request.getfixturevalue("redis")
    return found


def _limited(metrics: Metrics, rates: str, url: str, *layers: Middleware) -> Starlette:
    limit = Middleware(RateLimiting, parse_rates(rates), open_storage(url), metrics)
    return service(metrics, *layers, limit)


def test_above_the_rate_it_is_429_with_a_time_to_come_again(url: str) -> None:
    async def run() -> None:
        metrics = Metrics()
        async with client(_limited(metrics, "5/hour", url)) as http:
            answers = await asyncio.gather(*(http.post("/predict") for _ in range(12)))
            assert [a.status_code for a in answers].count(200) == 5
            refused = [a for a in answers if a.status_code == 429]
            assert len(refused) == 7
            for answer in refused:
                wait = int(answer.headers["retry-after"])
                assert 1 <= wait <= 3600
                assert answer.headers["ratelimit"] == f'"5/3600s";r=0;t={wait}'
                assert answer.headers["ratelimit-policy"] == '"5/3600s";q=5;w=3600'
                assert answer.json()["error"]["type"] == "rate_limited"
                assert answer.json()["request_id"] == answer.headers["x-request-id"]
            assert (await http.get("/healthz")).status_code == 200
        assert value(metrics, 'tuner_rejected_total{reason="rate"}') == 7
        assert value(metrics, "tuner_limit_storage_errors_total") == 0

    asyncio.run(run())


def test_who_waits_as_told_is_let_in_again(redis: str) -> None:
    async def run(url: str) -> None:
        async with client(_limited(Metrics(), "3/second;4/2 second", url)) as http:
            for _ in range(2):
                answer = await http.post("/predict")
                while answer.status_code == 200:
                    answer = await http.post("/predict")
                await asyncio.sleep(int(answer.headers["retry-after"]) + 0.05)
                assert (await http.post("/predict")).status_code == 200

    async def both() -> None:
        await asyncio.gather(run("memory://"), run(redis))

    asyncio.run(both())


def test_each_key_has_its_own_rate(url: str) -> None:
    async def run() -> None:
        metrics = Metrics()
        keys = Keys.load(f"a:{'a' * 16}\nb:{'b' * 16}")
        app = _limited(metrics, "2/day", url, Middleware(KeyAuthentication, keys, metrics))

        async def statuses(http: httpx.AsyncClient, key: str) -> list[int]:
            headers = {"X-API-Key": key}
            return [(await http.post("/predict", headers=headers)).status_code for _ in range(3)]

        async with client(app) as http:
            assert await statuses(http, "a" * 16) == [200, 200, 429]
            assert await statuses(http, "b" * 16) == [200, 200, 429]
            assert await statuses(http, "c" * 16) == [401, 401, 401]

    asyncio.run(run())


def test_without_keys_each_address_has_its_own_rate(url: str) -> None:
    app = _limited(Metrics(), "1/day", url)

    async def statuses(address: str) -> list[int]:
        transport = httpx.ASGITransport(app, client=(address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            return [(await http.post("/predict")).status_code for _ in range(2)]

    async def run() -> None:
        async with client(app):
            for address in ("10.0.0.1", "10.0.0.2", "fe80::1"):
                assert await statuses(address) == [200, 429]

    asyncio.run(run())


def test_workers_share_what_lies_on_a_redis(redis: str) -> None:
    async def run() -> None:
        statuses = []
        for _ in range(3):
            async with client(_limited(Metrics(), "4/month", redis)) as http:
                statuses += [(await http.post("/predict")).status_code for _ in range(2)]
        assert statuses == [200] * 4 + [429] * 2

    asyncio.run(run())


def test_a_storage_that_is_away_lets_requests_through_and_says_so_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    metrics = Metrics()

    async def run() -> None:
        app = _limited(metrics, "1/day", f"redis://user:secret-word@127.0.0.1:{port}")
        async with client(app) as http:
            for _ in range(20):
                assert (await http.post("/predict")).status_code == 200

    asyncio.run(run())
    assert value(metrics, "tuner_limit_storage_errors_total") == 20
    assert len([r for r in caplog.records if r.name == "tuner.services"]) == 1
    assert "secret-word" not in caplog.text


def test_a_storage_that_hangs_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """It accepts connections and never answers."""
    metrics = Metrics()

    async def run(port: int) -> float:
        async with client(_limited(metrics, "1/day", f"redis://127.0.0.1:{port}")) as http:
            began = time.monotonic()
            answers = await asyncio.gather(*(http.post("/predict") for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}
            return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asyncio.run(run(silent.getsockname()[1])) < 10 * RATE_LIMITS.timeout / 2
    assert value(metrics, "tuner_limit_storage_errors_total") == 10
    assert len([r for r in caplog.records if r.name == "tuner.services"]) == 1


@given(
    st.lists(
        st.tuples(
            st.integers(1, 10**6),
            st.integers(1, 100),
            st.sampled_from(["second", "minute", "hour", "day"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_rates_parse_as_they_are_written(parts: list[tuple[int, int, str]]) -> None:
    rates = parse_rates(";".join(f"{n}/{many}{unit}" for n, many, unit in parts))
    seconds = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
    expected = sorted((many * seconds[unit], n) for n, many, unit in parts)
    assert sorted((rate.get_expiry(), rate.amount) for rate in rates) == expected
    assert [rate.get_expiry() for rate in rates] == [expiry for expiry, _ in expected]


@pytest.mark.parametrize("text", ["", "fast", "10", "0/second", "5/noon", "-1/second", "1.5/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="rates"):
        parse_rates(text)


@pytest.mark.parametrize("url", ["", "nowhere", "oracle://u:secret@host", "redis+bad://x"])
def test_what_is_no_storage_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="memory://") as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


@settings(deadline=None)
@given(
    limit=st.integers(1, 8),
    asked=st.lists(st.sampled_from("abc"), max_size=40),
)
def test_counters_allow_each_client_its_rate_and_no_more(limit: int, asked: list[str]) -> None:
    async def run() -> None:
        limiter = SlidingWindowCounterRateLimiter(WindowCounters())
        (rate,) = parse_rates(f"{limit}/year")
        passed = [who for who in asked if await limiter.hit(rate, who)]
        for who in "abc":
            count = min(limit, asked.count(who))
            assert passed.count(who) == count
            assert (await limiter.get_window_stats(rate, who)).remaining == limit - count

    asyncio.run(run())


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_steady_client_gets_its_rate_over_any_window() -> None:
    """Nearly: the sliding counter takes the window before as evenly filled."""
    clock = Clock()

    async def run() -> list[float]:
        limiter = SlidingWindowCounterRateLimiter(WindowCounters(clock))
        (rate,) = parse_rates("50/second")
        passed, began = [], clock.now
        while clock.now < began + 5:
            if await limiter.hit(rate, "a"):
                passed.append(clock.now - began)
            clock.now += 0.002
        return passed

    passed = asyncio.run(run())
    late = [at for at in passed if at > 1.2]
    windows = [sum(1 for at in late if start <= at < start + 1) for start in late]
    assert max(windows) <= 2 * 50
    assert math.isclose(len(late) / 3.8, 50, rel_tol=0.1)


@pytest.mark.slow
def test_clients_that_are_gone_are_forgotten() -> None:
    clock = Clock()

    async def run() -> None:
        storage = WindowCounters(clock)
        limiter = SlidingWindowCounterRateLimiter(storage)
        (rate,) = parse_rates("10/second")
        for client_number in range(3000):
            await limiter.hit(rate, str(client_number))
        clock.now += 2.1
        for client_number in range(3000, 6000):
            await limiter.hit(rate, str(client_number))
        assert len(storage._windows) <= 4200

    asyncio.run(run())
