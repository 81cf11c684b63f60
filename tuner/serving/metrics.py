"""What a service counts of itself, in Prometheus' form.

With several workers, ``PROMETHEUS_MULTIPROC_DIR`` names an empty folder that they share; it has to
be set before ``prometheus_client`` is first imported. Each of them then answers for all. Without
it, every ``Metrics`` has a registry of its own.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

STAGES = ("parsing", "tokenising", "queue", "inference", "serialisation")
"""The parts of a request that succeeded, in their order."""

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# Seconds. Close together from 1 to 100 ms, where SLAs are; a quantile is as exact as its bucket.
_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 2.0, 5.0, 10.0),
)


class Metrics:
    """All metrics of one service; every time is in seconds.

    Children by label are kept here, since looking them up costs more than counting.
    """

    def __init__(self) -> None:
        self._shared = bool(os.environ.get(_FOLDER))
        self._registry = own = CollectorRegistry()
        self._stages = Summary(
            "tuner_stage_seconds", "Stages of successful requests.", ["stage"], registry=own
        )
        self._answers = Counter(
            "tuner_requests", "Requests by route and status.", ["route", "status"], registry=own
        )
        self._seconds = Histogram(
            "tuner_request_seconds",
            "Latency of requests.",
            ["route"],
            buckets=_BUCKETS,
            registry=own,
        )
        self._predictions = Counter("tuner_predictions", "Predicted items.", registry=own)
        self._rejections = Counter(
            "tuner_rejected", "Requests rejected before they were parsed.", ["reason"], registry=own
        )
        self._storage_errors = Counter(
            "tuner_limit_storage_errors",
            "Requests let through because the rate limit storage failed.",
            registry=own,
        )
        self.in_flight = Gauge(
            "tuner_in_flight", "Requests in flight.", registry=own, multiprocess_mode="livesum"
        )
        self._of_stage = {stage: self._stages.labels(stage) for stage in STAGES}
        self._of_answer: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """``route`` is a path's template, never the path itself: each one is kept for good."""
        children = self._of_answer.get((route, status))
        if children is None:
            children = self._answers.labels(route, str(status)), self._seconds.labels(route)
            self._of_answer[route, status] = children
        counter, histogram = children
        counter.inc()
        histogram.observe(seconds)

    def predicted(self, items: int, **stages: float) -> None:
        """A request that succeeded, with its items, and the seconds of its ``STAGES``."""
        for stage, seconds in stages.items():
            self._of_stage[stage].observe(seconds)
        self._predictions.inc(items)

    def rejected(self, reason: str) -> None:
        """Turned away before it was parsed, for its ``key``, its ``rate`` or the ``load``."""
        self._rejections.labels(reason).inc()

    def storage_failed(self) -> None:
        self._storage_errors.inc()

    def render(self) -> tuple[bytes, str]:
        """Body and content type of ``/metrics``; in a shared folder, the sum over all workers."""
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_worker(pid: int) -> None:
    """Leave a worker that has ended out of the gauges; what it counted stays. For its parent."""
    if os.environ.get(_FOLDER):
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def requests_in_flight() -> int:
    """Over all workers, for their parent."""
    if not os.environ.get(_FOLDER):
        return 0
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return round(registry.get_sample_value("tuner_in_flight") or 0)
