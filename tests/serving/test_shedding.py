"""What is beyond the limit is turned away at once, and nothing else is."""

import asyncio
from collections.abc import AsyncIterator

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.middleware import Middleware

from tests.serving.edge import Gate, client, service, value
from tuner.serving.body import BodyLimit
from tuner.serving.metrics import Metrics
from tuner.serving.shedding import LoadShedding, Places


@settings(max_examples=30, deadline=None)
@given(most=st.integers(1, 12), asked=st.integers(0, 30))
def test_as_many_as_may_are_inside_and_the_rest_gets_503(most: int, asked: int) -> None:
    async def run() -> None:
        metrics, gate = Metrics(), Gate()
        shedding = Middleware(LoadShedding, Places(most), metrics, retry_after=1.5)
        app = service(metrics, shedding, gate=gate)
        paths = ["/predict" if i % 2 else "/batch_predict" for i in range(asked)]
        async with client(app) as http:
            tasks = [asyncio.create_task(http.post(path)) for path in paths]
            refused = max(0, asked - most)
            while gate.inside < asked - refused or sum(task.done() for task in tasks) < refused:
                await asyncio.sleep(0)
            gate.open()
            answers = await asyncio.gather(*tasks)
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) == min(most, asked) == gate.most
        assert statuses.count(503) == refused
        assert (value(metrics, 'tuner_rejected_total{reason="load"}') or 0) == refused
        for answer in answers:
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "2"
                assert answer.json()["error"]["type"] == "overloaded"
                assert answer.json()["request_id"] == answer.headers["x-request-id"]

    asyncio.run(run())


def test_other_paths_go_on_when_it_is_full_and_it_empties_again() -> None:
    async def run() -> None:
        metrics, gate = Metrics(), Gate()
        app = service(metrics, Middleware(LoadShedding, Places(1), metrics), gate=gate)
        async with client(app) as http:
            first = asyncio.create_task(http.post("/predict"))
            while not gate.inside:
                await asyncio.sleep(0)
            assert (await http.post("/predict")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200
            gate.open()
            assert (await first).status_code == 200
            assert (await http.post("/predict")).status_code == 200

    asyncio.run(run())


def test_a_request_that_is_cancelled_leaves_its_place() -> None:
    async def run() -> None:
        metrics, gate = Metrics(), Gate()
        app = service(metrics, Middleware(LoadShedding, Places(1), metrics), gate=gate)
        async with client(app) as http:
            first = asyncio.create_task(http.post("/predict"))
            while not gate.inside:
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            gate.open()
            assert (await http.post("/predict")).status_code == 200
        assert value(metrics, "tuner_in_flight") == 0

    asyncio.run(run())


def test_what_is_full_when_the_body_has_come_turns_away_then() -> None:
    """A layer before the body takes no place; the one behind it takes two."""

    async def run() -> None:
        metrics, gate, places, sent = Metrics(), Gate(), Places(2), asyncio.Event()
        layers = (
            Middleware(LoadShedding, places, metrics, takes_place=False),
            Middleware(BodyLimit, most=10, timeout=60),
            Middleware(LoadShedding, places, metrics),
        )

        async def body() -> AsyncIterator[bytes]:
            yield b"{"
            await sent.wait()
            yield b"}"

        async with client(service(metrics, *layers, gate=gate)) as http:
            tasks = [asyncio.create_task(http.post("/predict", content=body())) for _ in range(3)]
            while value(metrics, "tuner_in_flight") != 3:
                await asyncio.sleep(0)
            assert places.taken == 0
            sent.set()
            while not any(task.done() for task in tasks):
                await asyncio.sleep(0)
            assert places.taken == gate.inside == 2
            assert (await http.post("/predict")).status_code == 503
            gate.open()
            answers = await asyncio.gather(*tasks)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
        assert places.taken == 0

    asyncio.run(run())
