"""Settings of clients: connections, requests and timeouts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestSettings:
    """Concurrency and timeouts of a client."""

    at_once: int = 8
    """Requests of one ``predict_batch`` at a time: the server overlaps and joins them, and one call
    does not fill its queue."""
    readiness_timeout: float = 2.0
    """Seconds until a server that does not say whether it is ready counts as away."""
    idle_http_connections: int = 64
    """Kept by a blocking client; more are made where more requests are outstanding."""
    error_text: int = 5000
    """Characters kept of Triton's message: enough for a traceback of a model's Python."""
    http_error_text: int = 500
    """Characters kept of an error that is not Triton's JSON, as a proxy's page."""


REQUESTS = RequestSettings()


@dataclass(frozen=True)
class ReconnectSettings:
    """When a lost connection is made anew, and a call that was not processed again; seconds."""

    connect_timeout: float = 5.0
    """For an attempt to connect: a few lost packets are sent anew within it."""
    first_pause: float = 0.1
    """Between the first attempts to connect."""
    last_pause: float = 0.5
    """Between later ones: a server that comes back is found within half a second."""
    jitter: float = 0.2
    """Share by which a pause varies, so that clients do not come back all at once."""
    call_pauses: tuple[float, ...] = (0.0, 0.002, 0.01, 0.05)
    """Before each further attempt at a call: servers may count one that they answered for a moment
    longer than we do."""
    shortest_timeout: float = 0.001
    """What an attempt is given where the call's time is up: gRPC knows no timeout of zero."""


RECONNECT = ReconnectSettings()


@dataclass(frozen=True)
class KeepaliveSettings:
    """When a silent peer is asked whether it is still there."""

    interval: float = 30.0
    """Seconds between looks: a peer that vanished is noticed within a minute."""
    answer_within: float = 10.0
    """Seconds for the answer to a ping, many times the longest round trip."""
    pings: int = 2
    """Pings without data from the server between them: servers of gRPC hang up at a third."""


KEEPALIVE = KeepaliveSettings()
