"""The engine of the gateway: a model on a Triton server elsewhere."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

import numpy as np

from tuner.client.aio import AsyncTritonClient
from tuner.client.description import Description
from tuner.client.errors import (
    ClientError,
    InvalidInput,
    NotAllowed,
    Overloaded,
    Refused,
    Timeout,
    Unavailable,
    UnknownModel,
)
from tuner.errors import TunerError
from tuner.model.signature import Arrays, Signature
from tuner.serving.engine import Computed, DeadlineExceeded, EngineRefused, EngineUnavailable

_WATCH_SECONDS = 0.5
_DOWN_SECONDS = 0.2
_ASK_SECONDS = 1.0
_SILENT_LOOKS = 3
_DESCRIBE_EVERY = 10  # looks
_ATTEMPTS = 3
_PAUSES = ((0.01, 0.03), (0.05, 0.15))  # before the second attempt and the third, in seconds
_AWAY = "the model's server cannot be reached right now"
_logger = logging.getLogger("tuner.services")


class EngineFailed(Exception):
    """The server, or the model on it, failed at this request for a reason of its own."""


class RetryBudget:
    """Retries are at most this share of the requests, so that an outage is not made worse by them;
    ``burst`` of them may come at once.
    """

    def __init__(self, share: float = 0.1, burst: float = 10.0) -> None:
        self._share = share
        self._most = self._left = burst

    def request(self) -> None:
        self._left = min(self._most, self._left + self._share)

    def take(self) -> bool:
        if self._left < 1:
            return False
        self._left -= 1
        return True


class TritonEngine:
    """Computes on Triton, and watches it: while it is away, requests are turned away at once, and
    within a second of its return they are answered again.

    Only what cannot have been computed twice with an effect is sent again: a stateless model's
    requests, where the server could not be reached. ``reason`` says what keeps it from working.
    ``changed`` is called where the model comes back with another signature; where it raises a
    TunerError, the model counts as away.
    """

    def __init__(self, client: AsyncTritonClient) -> None:
        self.changed: Callable[[Signature], None] | None = None
        self.reason: str | None = "Triton has not been asked yet"
        self._client = client
        self._about: Description | None = None
        self._budget = RetryBudget()
        self._rng = random.Random()
        self._look = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._looks = self._silent = 0

    async def start(self) -> Signature:
        """Waits for the server and the model as long as it takes."""
        while True:
            try:
                self._about = await self._client.describe(timeout=_ASK_SECONDS)
                break
            except ClientError as error:
                self._away(str(error))
                await asyncio.sleep(_DOWN_SECONDS)
        self._back()
        self._watch = asyncio.create_task(self._keep_watch())
        return self._about.signature

    async def infer(self, inputs: Arrays, deadline: float | None) -> Computed:
        """Batches above the model's largest are sent in parts. EngineFailed, too."""
        if self.reason is not None or self._about is None:
            raise EngineUnavailable(_AWAY)
        began = time.perf_counter()
        most = self._about.signature.max_batch_size
        rows = len(next(iter(inputs.values()))) if most else 0
        if rows <= most:
            outputs = await self._ask(inputs, deadline)
        else:
            outputs = await self._ask_in_parts(inputs, rows, most, deadline)
        return Computed(outputs, 0.0, time.perf_counter() - began)

    async def is_ready(self) -> bool:
        """As of the last look, at most half a second ago."""
        return self.reason is None

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self._client.close()

    async def _ask_in_parts(
        self, inputs: Arrays, rows: int, most: int, deadline: float | None
    ) -> Arrays:
        parts = [
            {name: array[start : start + most] for name, array in inputs.items()}
            for start in range(0, rows, most)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(part, deadline)) for part in parts]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        answers = [task.result() for task in tasks]
        return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}

    async def _ask(self, inputs: Arrays, deadline: float | None) -> Arrays:
        self._budget.request()
        for attempt in range(1, _ATTEMPTS + 1):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded("the request's time was over before Triton was asked")
            try:
                return await self._client.infer(inputs, timeout=left)
            except ClientError as error:
                if not isinstance(error, Unavailable) or isinstance(error, Overloaded):
                    raise self._translated(error) from error
                pause = self._pause(attempt, deadline)
                if pause is None:
                    raise self._translated(error) from error
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _pause(self, attempt: int, deadline: float | None) -> float | None:
        """Seconds until another attempt; None where there is to be none."""
        stateless = self._about is not None and not self._about.stateful
        if attempt == _ATTEMPTS or not stateless or self.reason is not None:
            return None
        pause = self._rng.uniform(*_PAUSES[attempt - 1])
        in_time = deadline is None or time.monotonic() + pause < deadline
        return pause if in_time and self._budget.take() else None

    def _translated(self, error: ClientError) -> Exception:
        match error:
            case Timeout():
                return DeadlineExceeded("Triton did not answer within the request's time")
            case Overloaded():
                return EngineUnavailable("Triton has more waiting than it takes")
            case Unavailable() | UnknownModel():
                self._look.set()
                _logger.warning("%s", error)
                return EngineUnavailable(_AWAY)
            case NotAllowed():
                _logger.error("%s", error)
                return EngineFailed("Triton does not let the gateway in")
            case InvalidInput() | Refused():
                return EngineRefused(str(error))
            case _:
                return EngineFailed(str(error))

    async def _keep_watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                pause = _WATCH_SECONDS if self.reason is None else _DOWN_SECONDS
                async with asyncio.timeout(pause):
                    await self._look.wait()
                await asyncio.sleep(_DOWN_SECONDS / 10)  # many failures at once are one look
            self._look.clear()
            await self._look_at_it()

    async def _look_at_it(self) -> None:
        """Whether the model is there, and, after an absence or from time to time, still the same.

        A server that is slow to answer may just be busy, unless it stays so.
        """
        why = await self._client.readiness_problem(_ASK_SECONDS)
        self._silent = self._silent + 1 if isinstance(why, Timeout) else 0
        if 0 < self._silent < _SILENT_LOOKS:
            return
        if why is not None:
            self._away(str(why))
            return
        self._looks += 1
        if self.reason is not None or self._looks % _DESCRIBE_EVERY == 0:
            await self._describe_anew()

    async def _describe_anew(self) -> None:
        try:
            found = await self._client.describe(timeout=_ASK_SECONDS)
        except Timeout:
            return
        except ClientError as error:
            self._away(str(error))
            return
        before = self._about
        try:
            if self.changed and before and before.signature != found.signature:
                self.changed(found.signature)
        except TunerError as error:
            self._away(f"the model has changed: {error}")
            return
        self._about = found
        self._back()

    def _away(self, reason: str) -> None:
        if self.reason is None or self.reason != reason:
            _logger.warning("%s", reason)
        self.reason = reason

    def _back(self) -> None:
        if self.reason is not None:
            _logger.info("Triton answers")
        self.reason = None
