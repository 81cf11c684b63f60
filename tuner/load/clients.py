"""Clients that send serialised requests and report each outcome to a callback.

They need an event loop that runs. A client never limits the requests outstanding.
"""

from typing import Protocol as Interface

from tuner.load.clients_grpc import GrpcClient
from tuner.load.clients_http import HttpClient
from tuner.load.outcome import Done
from tuner.load.target import Protocol, Target


class Client(Interface):
    def send(self, index: int) -> None:
        """Write request ``index`` of the run (the pool is used in turn); never blocks."""

    async def close(self) -> None:
        """Drop connections; outstanding requests are reported as failed or not at all."""


def make_client(target: Target, done: Done) -> Client:
    """The client for a target's protocol; ``done(index, ok, said)`` is called once per request.

    ``said`` is what is known of a failure, shortened; empty where nothing is.
    """
    match target.protocol:
        case Protocol.HTTP:
            return HttpClient(target, done)
        case Protocol.GRPC:
            return GrpcClient(target, done)
