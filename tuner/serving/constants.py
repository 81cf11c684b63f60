"""The numbers of this package that no option sets: each with its unit, and why it is what it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestConstants:
    """Requests and answers."""

    inline_items: int = 8  # of a batch that the event loop encodes itself: faster than a thread is
    loading_retry: float = 1.0  # s to ask again after, while a model loads: Retry-After's least
    shortest_key: int = 16  # characters; as hexadecimal digits 2^64 keys, too many to try
    shown_value: int = 60  # characters of a text that an error repeats; more hide the message
    shown_integer: int = 2**100  # below it an error repeats an integer: it has up to 31 digits
    shown_errors: int = 3  # of one body that are told singly; the rest is counted


@dataclass(frozen=True)
class WorkerConstants:
    """uvicorn's workers, and what computes in them."""

    keep_alive: int = 75  # s; more than the 60 of common proxies, which lose requests otherwise
    drain: float = 1.0  # s without a request after which a worker that ends closes a connection
    handshake: float = 0.1  # s for connections that are being made when no new one is let in
    watch: float = 0.5  # s between looks at whether the workers answer
    poll: float = 0.05  # s between looks at a worker that starts or ends
    end: float = 10.0  # s beyond --graceful for a worker to close its model; then it is killed
    restart: float = 5.0  # s until a worker that could not start is tried again
    takeover: float = 1.0  # s a gateway's new worker waits for Triton, before it says it is away
    gpu_concurrency: int = 2  # of ONNX Runtime on a GPU: one copies while the other computes
    span_timeout: float = 2.0  # s to send spans, also at a worker's end with no collector there


@dataclass(frozen=True)
class ConnectionConstants:
    """What a client may send before a request is known, and how it has to take its answers."""

    url: int = 8 << 10  # bytes, as in nginx and Apache; a longer one gets 414
    head: int = 32 << 10  # bytes of URL and fields, as in nginx; more get 431
    head_timeout: float = 10.0  # s from the first byte of a head to its last; then 408
    pipelined: int = (
        16  # requests that wait for an earlier one of their connection; no more are read
    )
    stalled_write: float = 30.0  # s in which a client takes nothing of its answers; then it is cut
    # Closed at once, a client that still sends would see a reset, and not the answer.
    linger: float = 2.0  # s to take what a client still sends after the last answer
    linger_bytes: int = 1 << 20  # of it at most


@dataclass(frozen=True)
class RateLimitConstants:
    """Counters of requests per client."""

    timeout: float = 1.0  # s for all questions to a shared storage about a request; then it passes
    step_timeout: float = 0.1  # s for a Redis to connect, and to answer; it takes milliseconds
    pause: float = 1.0  # s without questions to a storage that failed: few requests pay for it
    sweep_from: int = 1024  # clients from which on those gone are looked for; fewer take 100 KB


@dataclass(frozen=True)
class AvailabilityConstants:
    """Checks of a Triton server in the background."""

    period: float = 0.5  # s between checks; a request that fails brings the next one forward
    period_away: float = 0.2  # s between them while it is away: its return is seen within a second
    settle: float = 0.02  # s in which failed requests are one reason for a check
    timeout: float = 1.0  # s for a check, which takes a server in order milliseconds
    silent_checks: int = 3  # without an answer that make it count as away; once, it is just busy
    describe_every: int = 10  # checks between looks at the signature, which a reload changes


@dataclass(frozen=True)
class RetryConstants:
    """Inferences that are sent again."""

    # s, least and most, before the second attempt and the third; drawn, so that clients scatter
    pauses: tuple[tuple[float, float], ...] = ((0.01, 0.03), (0.05, 0.15))
    share: float = 0.1  # retries per request in the long run: an outage must not double the load
    burst: float = 10.0  # retries at once, as if many requests share a connection that is lost


@dataclass(frozen=True)
class TritonConstants:
    """A Triton that ``tuner serve triton`` starts."""

    poll: float = 0.2  # s between looks at a server that starts, or runs
    exit_timeout: int = 5  # s that Triton gives requests in flight when it ends
    end: float = 15.0  # s for it to unload its models as well; then it is killed


REQUESTS = RequestConstants()
WORKERS = WorkerConstants()
CONNECTIONS = ConnectionConstants()
RATE_LIMITS = RateLimitConstants()
AVAILABILITY = AvailabilityConstants()
TRITON = TritonConstants()
RETRIES = RetryConstants()
