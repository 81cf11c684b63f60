"""A worker's HTTP protocol, which at its end also answers connections that were just made."""

from tuner.serving.constants import WORKERS
from tuner.serving.http_protocol import BoundedProtocol


class DrainingProtocol(BoundedProtocol):
    """A worker that is replaced closes idle connections. One on which no request has come yet is
    not idle, its request is on the way: closed at once, it would be lost.
    """

    def shutdown(self) -> None:
        if self.cycle is None:
            self.loop.call_later(WORKERS.drain, self._end)
        else:
            super().shutdown()

    def _end(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()
