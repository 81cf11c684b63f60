"""The numbers of this package that no option sets: each with its unit, and why it is what it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestConstants:
    """Requests and answers."""

    inline_items: int = 8
    """Items up to which a batch is encoded and decoded on the event loop: handing it to a thread
    takes longer than that."""
    loading_retry: float = 1.0
    """Seconds after which to ask again while the model is loaded: the least of Retry-After."""
    shortest_key: int = 16
    """Characters of an API key: 16 hexadecimal digits are 2^64 keys, too many to try."""
    shown_value: int = 60
    """Characters of a text up to which an error repeats it: a longer one hides the message."""
    shown_integer: int = 2**100
    """Integers below this are shown: they have at most 31 digits."""
    shown_errors: int = 3
    """Errors about one body that are told one by one; the rest is counted."""


@dataclass(frozen=True)
class WorkerConstants:
    """uvicorn's workers, and what computes in them."""

    keep_alive: int = 75
    """Seconds until an idle connection is closed: more than the 60 s after which proxies commonly
    close theirs, since a proxy that closes first loses no request."""
    drain: float = 0.5
    """Seconds for the first request of a connection that was just made to a worker that ends: it is
    on its way already."""
    takeover: float = 1.0
    """Seconds that a gateway's new worker waits for Triton before it accepts connections: it must
    be there to say that Triton is not, and a Triton that is there answers in milliseconds."""
    gpu_concurrency: int = 2
    """Computations of ONNX Runtime at a time on a GPU: one copies while the other computes."""
    span_timeout: float = 2.0
    """Seconds to send a batch of spans, also at the end of a worker where no collector answers."""


@dataclass(frozen=True)
class RateLimitConstants:
    """Counters of requests per client."""

    timeout: float = 1.0
    """Seconds for all questions to a shared storage about one request; then it passes."""
    step_timeout: float = 0.1
    """Seconds to connect to a Redis, and for each of its answers: a near one takes milliseconds."""
    pause: float = 1.0
    """Seconds for which a storage that failed is not asked: an outage costs a request a second."""
    sweep_from: int = 1024
    """Clients from which on those that are gone are looked for: fewer take some 100 KB."""


@dataclass(frozen=True)
class AvailabilityConstants:
    """Checks of a Triton server in the background."""

    period: float = 0.5
    """Seconds between two checks of a server that answers; a failed request brings one forward."""
    period_away: float = 0.2
    """Seconds between two checks of one that does not: requests are to be answered again within a
    second of its return."""
    settle: float = 0.02
    """Seconds in which failed requests count as one reason to check."""
    timeout: float = 1.0
    """Seconds for one check; a server that is not overloaded answers in milliseconds."""
    silent_checks: int = 3
    """Checks without an answer, one after another, that make a server count as away: one may just
    be busy."""
    describe_every: int = 10
    """Checks between two looks at the model's signature, which changes only with a reload."""


@dataclass(frozen=True)
class RetryConstants:
    """Inferences that are sent again."""

    pauses: tuple[tuple[float, float], ...] = ((0.01, 0.03), (0.05, 0.15))
    """Least and most seconds before the second attempt and the third: drawn at random, so that
    clients of a server that comes back do not come all at once."""
    share: float = 0.1
    """Retries per request in the long run: an outage must not double the load."""
    burst: float = 10.0
    """Retries that may come at once, as where one connection is lost that many requests share."""


REQUESTS = RequestConstants()
WORKERS = WorkerConstants()
RATE_LIMITS = RateLimitConstants()
AVAILABILITY = AvailabilityConstants()
RETRIES = RetryConstants()
