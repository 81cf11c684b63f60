"""The events that a connection derives from received bytes."""

from dataclasses import dataclass

from tuner.http2.frames import error_name
from tuner.http2.headers import Headers

ABSENT: Headers = {}


@dataclass(slots=True)
class Response:
    """The end of a stream: a reply with headers that are empty if none came.

    A reply of one header block alone has it as its ``head``. ``body`` is the beginning of what
    came, as much as the connection keeps of its ``size``.
    """

    stream: int
    head: Headers
    trailers: Headers
    body: bytearray
    size: int = 0


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The server gave up a request."""

    stream: int
    code: int

    @property
    def reason(self) -> str:
        return f"the server reset the request ({error_name(self.code)})"


@dataclass(frozen=True, slots=True)
class SettingsReceived:
    """The server's limits are known, or have changed."""


@dataclass(frozen=True, slots=True)
class Goaway:
    """The server takes no more requests, and did not and will not process these streams."""

    unprocessed: tuple[int, ...]
    code: int
    text: str

    @property
    def reason(self) -> str:
        code = error_name(self.code) if self.code else ""
        details = " ".join(filter(None, (code, self.text)))
        return "the server closed the connection" + (f": {details}" if details else "")


@dataclass(frozen=True, slots=True)
class ProtocolViolated:
    """What came is not HTTP/2; nothing more is read or sent."""

    reason: str


Event = Response | StreamReset | SettingsReceived | Goaway | ProtocolViolated
