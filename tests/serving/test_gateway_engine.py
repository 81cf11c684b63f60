"""The gateway's engine by itself, against a real Triton that dies and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.gateway_triton import ROOT, Triton
from tuner.client import AsyncTritonClient
from tuner.model.config import read_config, to_json
from tuner.model.signature import Signature
from tuner.serving.constants import AVAILABILITY, AvailabilityConstants
from tuner.serving.engine import DeadlineExceeded, EngineRefused, EngineUnavailable
from tuner.serving.remote import RetryBudget, TritonEngine

GPU = {"INPUT": np.ones((1, 16), np.float32)}


@asynccontextmanager
async def started(
    triton: Triton, model: str, constants: AvailabilityConstants = AVAILABILITY
) -> AsyncIterator[TritonEngine]:
    engine = TritonEngine(AsyncTritonClient(triton.grpc, model, protocol="lean"), constants)
    await asyncio.wait_for(engine.start(), 30)
    try:
        yield engine
    finally:
        await engine.close()


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.triton
def test_any_number_of_rows_is_computed_as_by_the_bare_model(triton: Triton) -> None:
    tokens = np.random.default_rng(3).integers(1, 3000, (70, 128))
    inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = ROOT / "model_repository/text_classifier/1/model.onnx"
    expected = onnxruntime.InferenceSession(path, options).run(["logits"], inputs)[0]

    async def compute() -> Any:
        async with started(triton, "text_classifier") as engine:
            return await engine.infer(inputs, time.monotonic() + 10)

    computed = asyncio.run(compute())
    np.testing.assert_allclose(computed.outputs["logits"], expected, rtol=1e-4, atol=1e-5)
    assert computed.queue == 0
    assert computed.infer > 0


@pytest.mark.triton
def test_time_that_is_over_is_said(triton: Triton) -> None:
    async def ask() -> None:
        async with started(triton, "emulated_gpu") as engine:
            for left in (0.002, -1):
                with pytest.raises(DeadlineExceeded):
                    await engine.infer(GPU, time.monotonic() + left)
            await engine.infer(GPU, None)

    asyncio.run(ask())


@pytest.mark.triton
def test_what_does_not_fit_is_refused(triton: Triton) -> None:
    async def ask() -> None:
        async with started(triton, "emulated_gpu") as engine:
            with pytest.raises(EngineRefused, match="INPUT"):
                await engine.infer({"INPUT": np.ones((1, 3), np.float32)}, None)

    asyncio.run(ask())


@pytest.mark.triton
def test_it_starts_before_its_server_and_says_what_it_waits_for(spare: Triton) -> None:
    async def begin() -> None:
        await asyncio.to_thread(spare.stop)
        engine = TritonEngine(AsyncTritonClient(spare.grpc, "emulated_gpu", protocol="lean"))
        start = asyncio.create_task(engine.start())
        await until(lambda: "not available" in str(engine.reason))
        assert not await engine.is_ready()
        with pytest.raises(EngineUnavailable):
            await engine.infer(GPU, None)
        spare.start()  # its process ends with the thread that starts it
        await until(lambda: "unknown model" in str(engine.reason))
        await asyncio.to_thread(spare.load, "emulated_gpu")
        signature = await asyncio.wait_for(start, 20)
        assert signature.max_batch_size == 8
        assert await engine.is_ready()
        await engine.infer(GPU, None)
        await engine.close()

    asyncio.run(begin())


@pytest.mark.triton
def test_a_server_that_dies_is_noticed_and_found_again(spare: Triton) -> None:
    """It comes back with a smaller largest batch, which is taken over."""
    changes: list[Signature] = []
    config = read_config(ROOT / "model_repository/emulated_gpu")
    config.max_batch_size = 4

    async def outlive() -> None:
        spare.ensure()
        async with started(spare, "emulated_gpu") as engine:
            engine.availability.changed = changes.append
            await engine.infer(GPU, None)
            asking = [asyncio.create_task(engine.infer(GPU, None)) for _ in range(50)]
            await asyncio.sleep(0.01)
            await asyncio.to_thread(spare.kill)
            ended = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 20)
            assert {type(each).__name__ for each in ended} <= {"Computed", "EngineUnavailable"}
            await until(lambda: engine.reason)
            refused = engine.infer(GPU, None)
            with pytest.raises(EngineUnavailable):
                refused.send(None)  # at once: without a wait for anything
            spare.start()  # its process ends with the thread that starts it
            await asyncio.to_thread(spare.load, "emulated_gpu", to_json(config))
            await until(lambda: engine.reason is None)
            rows = np.ones((8, 16), np.float32)
            assert (await engine.infer({"INPUT": rows}, None)).outputs["OUTPUT"].shape == (8, 16)

    asyncio.run(outlive())
    assert [signature.max_batch_size for signature in changes] == [4]


@pytest.mark.triton
def test_a_server_that_hangs_costs_the_deadline_and_is_then_away(
    spare: Triton,
) -> None:
    hasty = AvailabilityConstants(period=0.05, period_away=0.05, timeout=0.3)

    async def hang() -> None:
        spare.ensure()
        async with started(spare, "emulated_gpu", hasty) as engine:
            spare.pause(True)
            with pytest.raises(DeadlineExceeded):
                await engine.infer(GPU, time.monotonic() + 0.1)
            await until(lambda: engine.reason)
            spare.pause(False)
            await until(lambda: engine.reason is None)
            await engine.infer(GPU, None)

    asyncio.run(hang())


@given(st.lists(st.booleans(), max_size=500))
def test_retries_are_a_tenth_of_the_requests_and_ten_more(asks: list[bool]) -> None:
    budget = RetryBudget()
    retried = requests = 0
    for retry in asks:
        if retry:
            retried += budget.take()
        else:
            requests += 1
            budget.request()
    assert retried <= 10 + 0.1 * requests + 1e-6
