"""How a worker ends: it loses no request that reached the listener before it closed.

A worker that ends first takes the connections that the kernel holds for it, and closes the
listener. An open connection gets its answers; the next one says ``Connection: close``. A connection
on which nothing comes for ``WORKERS.drain`` seconds is closed.
"""

import asyncio
import logging
import os
from pathlib import Path
from socket import socket

from uvicorn import Config, Server
from uvicorn.server import ServerState

from tuner.serving.constants import WORKERS
from tuner.serving.http_protocol import BoundedProtocol
from tuner.serving.identity import is_news

DRAINING = "TUNER_DRAINING"
"""The variable that names a file. It exists from the moment that the service is told to stop."""


def is_draining() -> bool:
    """Whether the whole service was told to stop, and a balancer is to send nothing more."""
    marker = os.environ.get(DRAINING)
    return marker is not None and Path(marker).exists()


class DrainingState(ServerState):
    """What all connections of a worker share; ``ending`` is set when its listener closes."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = False


class DrainingServer(Server):
    """uvicorn's server, which at its end also answers connections that it has not accepted yet."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.server_state: DrainingState = DrainingState()
        logging.getLogger("uvicorn.error").addFilter(is_news)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self.server_state.ending = True
        listeners = sockets or []
        while accepted := [each for listener in listeners for each in _accept_all(listener)]:
            await asyncio.gather(*map(self._connect, accepted))
        await super().shutdown(sockets)  # closes the listeners before anything else can run

    async def _connect(self, accepted: socket) -> None:
        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            return made

        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(protocol, accepted)
        except OSError:  # the client has left meanwhile
            accepted.close()


class DrainingProtocol(BoundedProtocol):
    """Of a worker that ends: the next answer on each connection is its last. An idle connection is
    closed after a while only: closed at once, a request that is on its way would be lost.
    """

    server_state: DrainingState

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.server_state.ending:
            self.shutdown()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.server_state.ending:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(WORKERS.drain, self._end_if_idle)
        else:
            super().shutdown()

    def _end_if_idle(self) -> None:
        if self.transport.is_closing():
            return
        if self.is_receiving():
            self.loop.call_later(WORKERS.drain, self._end_if_idle)
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _accept_all(listener: socket) -> list[socket]:
    """The connections that are complete and wait for ``accept``."""
    listener.setblocking(False)
    accepted: list[socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # none is left; other workers may have taken it
            return accepted
        connection.setblocking(False)
        accepted.append(connection)
