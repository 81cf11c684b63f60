"""h2 as the server of a ``ClientConnection``; what each sends is handed over in memory."""

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes

from tuner.http2.connection import DEFAULTS, ClientConnection, Http2Settings
from tuner.http2.events import Event
from tuner.http2.headers import header_block

BLOCK = header_block(
    [(":method", "POST"), (":scheme", "http"), (":path", "/p"), (":authority", "a"), ("x", "y")]
)
OK = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]


class Peer:
    """A connection between both; ``settings`` are the server's at the start."""

    def __init__(
        self, settings: dict[SettingCodes, int] | None = None, ours: Http2Settings = DEFAULTS
    ) -> None:
        self.client = ClientConnection(ours)
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.server.initiate_connection()
        if settings:
            self.server.update_settings(settings)
        self.events: list[Event] = []
        self.server_events: list[Any] = []
        self.sent = bytearray()
        """By the server."""
        self.exchange()

    def exchange(self, acknowledge: bool = True) -> None:
        """Until neither has anything to say; the server frees its windows at once unless told."""
        while True:
            to_server = self.client.take_output()
            events = self.server.receive_data(to_server) if to_server else []
            self.server_events += events
            for event in events:
                if acknowledge and isinstance(event, DataReceived):
                    size = event.flow_controlled_length
                    self.server.acknowledge_received_data(size, event.stream_id)
            to_client = self.server.data_to_send()
            self.sent += to_client
            self.events += self.client.receive(to_client)
            if not to_server and not to_client:
                return

    def reply(self, stream: int, body: bytes = b"", pad: int | None = None) -> None:
        """Headers, body in frames as large as both allow, and trailers."""
        self.server.send_headers(stream, OK)
        size = self.server.max_outbound_frame_size - 256
        for start in range(0, len(body), size):
            self.server.send_data(stream, body[start : start + size], pad_length=pad)
        self.server.send_headers(stream, TRAILERS, end_stream=True)

    def bodies(self) -> dict[int, bytes]:
        """Of the requests that the server has whole, by stream."""
        ended = [e.stream_id for e in self.server_events if isinstance(e, StreamEnded)]
        data = [e for e in self.server_events if isinstance(e, DataReceived)]
        return {
            stream: b"".join(event.data for event in data if event.stream_id == stream)
            for stream in ended
        }

    def of(self, kind: type) -> list[Any]:
        """The server's events of a kind."""
        return [event for event in self.server_events if isinstance(event, kind)]

    @property
    def requests(self) -> list[dict[bytes, bytes]]:
        return [dict(event.headers) for event in self.of(RequestReceived)]
