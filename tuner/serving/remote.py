"""The engine of the gateway: a model on a Triton server elsewhere."""

import asyncio
import logging
import random
import time

from tuner.client.aio import AsyncTritonClient
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
from tuner.model.signature import Arrays, Signature
from tuner.serving.availability import Availability
from tuner.serving.constants import AVAILABILITY, RETRIES, AvailabilityConstants
from tuner.serving.engine import (
    Computed,
    DeadlineExceeded,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
    join_rows,
    split_rows,
)

_ATTEMPTS = 1 + len(RETRIES.pauses)
_AWAY = "the model's server cannot be reached right now"
_logger = logging.getLogger("tuner.services")


class RetryBudget:
    """Retries are at most a share of the requests; a burst of them may come at once."""

    def __init__(self) -> None:
        self._left = RETRIES.burst

    def request(self) -> None:
        self._left = min(RETRIES.burst, self._left + RETRIES.share)

    def take(self) -> bool:
        if self._left < 1:
            return False
        self._left -= 1
        return True


class TritonEngine:
    """Computes on Triton. While that is away, requests are turned away at once; within a second of
    its return they are answered again.

    Only what cannot have been computed twice with an effect is sent again: a stateless model's
    requests, if the server could not be reached.
    """

    def __init__(
        self, client: AsyncTritonClient, constants: AvailabilityConstants = AVAILABILITY
    ) -> None:
        self.availability = Availability(client, constants)
        self._client = client
        self._budget = RetryBudget()
        self._rng = random.Random()

    @property
    def reason(self) -> str | None:
        """Why the model is not ready; None if it is."""
        return self.availability.reason

    async def start(self) -> Signature:
        """Waits for the server and the model as long as it takes."""
        return (await self.availability.start()).signature

    async def infer(self, inputs: Arrays, deadline: float | None) -> Computed:
        """Batches above the model's largest are sent in parts."""
        description = self.availability.description
        if self.reason is not None or description is None:
            raise EngineUnavailable(_AWAY)
        began = time.perf_counter()
        most = description.signature.max_batch_size
        rows = len(next(iter(inputs.values()))) if most else 0
        if rows <= most:
            outputs = await self._ask(inputs, deadline)
        else:
            outputs = await self._ask_in_parts(split_rows(inputs, rows, most), deadline)
        return Computed(outputs, 0.0, time.perf_counter() - began)

    async def is_ready(self) -> bool:
        """As of the last check, at most half a second ago."""
        return self.reason is None

    async def close(self) -> None:
        await self.availability.close()
        await self._client.close()

    async def _ask_in_parts(self, parts: list[Arrays], deadline: float | None) -> Arrays:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(part, deadline)) for part in parts]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return join_rows([task.result() for task in tasks])

    async def _ask(self, inputs: Arrays, deadline: float | None) -> Arrays:
        self._budget.request()
        for attempt in range(1, _ATTEMPTS + 1):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded("the deadline passed before the request was sent to Triton")
            try:
                return await self._client.infer(inputs, timeout=left)
            except ClientError as error:
                pause = self._pause(error, attempt, deadline)
                if pause is None:
                    raise self._translated(error) from error
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _pause(self, error: ClientError, attempt: int, deadline: float | None) -> float | None:
        """Seconds until another attempt; None if there is to be none."""
        description = self.availability.description
        stateless = description is not None and not description.stateful
        unreached = isinstance(error, Unavailable) and not isinstance(error, Overloaded)
        if not (unreached and stateless) or attempt == _ATTEMPTS or self.reason is not None:
            return None
        pause = self._rng.uniform(*RETRIES.pauses[attempt - 1])
        in_time = deadline is None or time.monotonic() + pause < deadline
        return pause if in_time and self._budget.take() else None

    def _translated(self, error: ClientError) -> Exception:
        match error:
            case Timeout():
                return DeadlineExceeded("Triton did not reply before the deadline")
            case Overloaded():
                return EngineUnavailable("Triton's queue is full")
            case Unavailable() | UnknownModel():
                self.availability.check_soon()
                _logger.warning("%s", error)
                return EngineUnavailable(_AWAY)
            case NotAllowed():
                _logger.error("%s", error)
                return EngineFailed("authentication of the gateway at Triton failed")
            case InvalidInput() | Refused():
                return EngineRefused(str(error))
            case _:
                return EngineFailed(str(error))
