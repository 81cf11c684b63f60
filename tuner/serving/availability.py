"""Whether a model on a Triton server is ready: checked in the background."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from tuner.client.aio import AsyncTritonClient
from tuner.client.description import Description
from tuner.client.errors import ClientError, Timeout
from tuner.errors import TunerError
from tuner.model.signature import Signature
from tuner.serving.constants import AVAILABILITY, AvailabilityConstants

_logger = logging.getLogger("tuner.services")


class Availability:
    """``reason`` says why the model is not ready; it is None if it is, as of the last check.

    ``changed`` is called if the model comes back with another signature; if it raises a
    TunerError, the model counts as away.
    """

    def __init__(
        self, client: AsyncTritonClient, constants: AvailabilityConstants = AVAILABILITY
    ) -> None:
        self.reason: str | None = "Triton has not replied yet"
        self.description: Description | None = None
        self.changed: Callable[[Signature], None] | None = None
        self._client = client
        self._constants = constants
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._checks = self._silent = 0

    async def start(self) -> Description:
        """Wait for the server and the model, as long as it takes, and check them from then on."""
        while True:
            try:
                described = await self._client.describe(timeout=self._constants.timeout)
                break
            except ClientError as error:
                self._away(str(error))
                await asyncio.sleep(self._constants.period_away)
        self._back(described)
        self._task = asyncio.create_task(self._keep_checking())
        return described

    def check_soon(self) -> None:
        """Bring the next check forward."""
        self._wanted.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_checking(self) -> None:
        constants = self._constants
        while True:
            with contextlib.suppress(TimeoutError):
                period = constants.period if self.reason is None else constants.period_away
                async with asyncio.timeout(period):
                    await self._wanted.wait()
                await asyncio.sleep(constants.settle)
            self._wanted.clear()
            await self._check()

    async def _check(self) -> None:
        """Whether the model is there and, after an absence or from time to time, the same."""
        problem = await self._client.readiness_problem(self._constants.timeout)
        self._silent = self._silent + 1 if isinstance(problem, Timeout) else 0
        if 0 < self._silent < self._constants.silent_checks:
            return
        if problem is not None:
            self._away(str(problem))
            return
        self._checks += 1
        if self.reason is not None or self._checks % self._constants.describe_every == 0:
            await self._describe_anew()

    async def _describe_anew(self) -> None:
        try:
            described = await self._client.describe(timeout=self._constants.timeout)
        except Timeout:
            return
        except ClientError as error:
            self._away(str(error))
            return
        before = self.description
        try:
            if self.changed and before and before.signature != described.signature:
                self.changed(described.signature)
        except TunerError as error:
            self._away(f"the model has changed: {error}")
            return
        self._back(described)

    def _away(self, reason: str) -> None:
        if self.reason != reason:
            _logger.warning("%s", reason)
        self.reason = reason

    def _back(self, described: Description) -> None:
        if self.reason is not None:
            _logger.info("Triton answers")
        self.description = described
        self.reason = None
