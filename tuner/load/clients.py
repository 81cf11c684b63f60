"""Clients that send serialized requests and report each outcome to a callback.

They need an event loop that runs. A client never limits the requests outstanding.
"""

import asyncio
from typing import Protocol

from tuner.load.clients_grpc import GrpcClient
from tuner.load.clients_http import HttpClient
from tuner.load.outcome import Done
from tuner.load.target import Target
from tuner.load.transport import Transport


class Client(Protocol):
    def send(self, index: int) -> None:
        """Write request ``index`` of the run (the pool is used in turn); never blocks."""

    async def close(self) -> None:
        """Drop connections; outstanding requests are reported as failed or not at all."""


def make_client(target: Target, done: Done) -> Client:
    """The client for a target's protocol; ``done(index, ok, message)`` is called once per request.

    The message is what is known of a failure, shortened; empty if nothing is.
    """
    match target.protocol:
        case Transport.HTTP:
            return HttpClient(target, done)
        case Transport.GRPC:
            return GrpcClient(target, done)


def ask_once(target: Target, seconds: float) -> str | None:
    """Send the first request of the pool; what is known of its failure, None if it succeeds."""

    async def ask() -> str | None:
        answer = asyncio.get_running_loop().create_future()

        def done(_: int, ok: bool, message: str) -> None:
            if not answer.done():
                answer.set_result(None if ok else message)

        client = make_client(target, done)
        client.send(0)
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            return f"no answer within {seconds:g} s"
        finally:
            await client.close()

    message = asyncio.run(ask())
    return None if message is None else target.security.hide(message)
