"""Queues whose true share of late requests is known, as samples of a probe."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np

from tuner.goals.sla import Sla, bound_ratio
from tuner.goals.verdict import judge
from tuner.measurement.fitting import ProbeResult
from tuner.stats.samples import Floats, Samples

Rng = np.random.Generator
Queue = Callable[[float, int, Rng], Samples]
"""(rate, n, rng) -> a probe of n requests at that rate, from an empty queue on."""


def mm1(service: float) -> Queue:
    """One server, Poisson arrivals, exponential service with that mean in seconds."""
    return lambda rate, n, rng: _one_server(rate, rng.exponential(service, n), rng)


def md1(service: float) -> Queue:
    """One server, Poisson arrivals, constant service."""
    return lambda rate, n, rng: _one_server(rate, np.full(n, service), rng)


def mm1_share(rate: float, service: float, limit: float) -> float:
    """P[time in system > limit], which is exponential with rate 1 / service - rate."""
    return math.exp(-(1 / service - rate) * limit)


def md1_share(rate: float, service: float, limit: float) -> float:
    """P[time in system > limit] by Erlang's formula for the wait in M/D/1.

    P[W <= w] = (1 - rho) sum over k <= w / service of (-x)^k exp(x) / k! with
    x = rate (w - k service). Terms cancel, so it is summed with many digits.
    """
    wait = limit / service - 1
    if wait < 0:
        return 1.0
    with localcontext() as context:
        context.prec = 100
        load, total = Decimal(rate * service), Decimal(0)
        for k in range(int(wait) + 1):
            x = load * (Decimal(wait) - k)
            power = (-x) ** k if k else Decimal(1)
            total += power * x.exp() / math.factorial(k)
        return float(1 - (1 - load) * total)


def rate_at(share: Callable[[float], float], wanted: float, most: float) -> float:
    """The rate at which a rising ``share(rate)`` reaches ``wanted``, below ``most``."""
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if share(middle) > wanted else (middle, high)
    return low


def batches(base: float, per_item: float, most: int, jitter: float = 0.03) -> Queue:
    """One instance behind a dynamic batcher without a delay: a batch of b takes
    base + per_item b seconds, times a log-normal jitter.
    """

    def queue(rate: float, n: int, rng: Rng) -> Samples:
        times = np.cumsum(rng.exponential(1 / rate, n))
        done = np.empty(n)
        free, first = 0.0, 0
        while first < n:
            start = max(free, float(times[first]))
            last = min(int(np.searchsorted(times, start, "right")), first + most)
            last = max(last, first + 1)
            seconds = (base + per_item * (last - first)) * math.exp(jitter * rng.standard_normal())
            free = start + seconds
            done[first:last] = free
            first = last
        return Samples(times, times, done, np.ones(n, dtype=bool))

    return queue


def _one_server(rate: float, work: Floats, rng: Rng) -> Samples:
    """First come, first served (Lindley's recursion, as a running minimum)."""
    gaps = rng.exponential(1 / rate, len(work))
    walk = np.cumsum(np.concatenate(([0.0], work[:-1] - gaps[1:])))
    times = np.cumsum(gaps)
    latency = walk - np.minimum.accumulate(walk) + work
    return Samples(times, times, times + latency, np.ones(len(work), dtype=bool))


class QueueServer:
    """A queue, probed for ``seconds`` as a server is; remembers the rates.

    Above ``most`` requests/s the client gives out.
    """

    def __init__(
        self,
        queue: Queue,
        sla: Sla,
        seconds: float = 3.0,
        most: float = math.inf,
        seed: int = 0,
    ) -> None:
        self.probed: list[float] = []
        self._queue, self._sla, self._seconds, self._most = queue, sla, seconds, most
        self._rng = np.random.default_rng(seed)

    def __call__(self, rate: float) -> ProbeResult:
        self.probed.append(rate)
        samples = self._queue(rate, max(20, int(rate * self._seconds)), self._rng)
        verdict = judge(samples, self._sla, 0.95)
        limited = rate > self._most
        return ProbeResult(
            rate,
            verdict.outcome,
            10.0 if limited else bound_ratio(samples, self._sla),
            verdict.telling,
            verdict.repeat,
            limited,
            self._seconds,
        )
