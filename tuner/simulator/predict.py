"""Predicts the capacity of a configuration."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.batches import BatchMix
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, Simulation, simulate
from tuner.stats.samples import Floats, Ints, Samples


@dataclass(frozen=True)
class PredictionSettings:
    """Rates in shares of the throughput at saturation."""

    start: float = 0.85  # the first rate where nothing is guessed
    step_down: float = 0.6  # x the first rate then, if that does not keep the SLA
    least: float = 1e-3  # no capacity is looked for below
    least_seconds: float = 1e-9  # of the front end per request: one that takes no time is no limit
    most_periods: float = 20.0  # x the requests asked for: a longer pattern is not played whole


_SETTINGS = PredictionSettings()


def play(
    rate: float,
    requests: int,
    scheduling: Scheduling,
    service: ServiceTimes,
    arrivals: Arrivals = Arrivals.POISSON,
    mix: BatchMix | None = None,
    seed: int = 0,
) -> Simulation:
    """About so many requests at ``rate`` requests/s; more, up to 20 times as many, where the
    arrivals' pattern is longer.
    """
    times, items = load_at(rate, requests, arrivals, mix, seed)
    return simulate(times, scheduling, service, items, seed)


def load_at(
    rate: float, requests: int, arrivals: Arrivals, mix: BatchMix | None, seed: int
) -> tuple[Floats, Ints | None]:
    """When ``play`` sends requests, and the items of each (None: 1)."""
    period = min(arrivals.least_seconds(rate), _SETTINGS.most_periods * requests / rate)
    if period:
        return _load(arrivals, rate, max(requests / rate, period), mix, seed)
    # Any stretch is like any other, and the rate but its scale.
    times, items = _renewals(arrivals, requests, mix, seed)
    return times / rate, items


def _load(
    arrivals: Arrivals, rate: float, seconds: float, mix: BatchMix | None, seed: int
) -> tuple[Floats, Ints | None]:
    """When requests are sent, and the items of each."""
    rng = np.random.default_rng(seed)
    times = schedule(arrivals, rate, seconds, rng)
    return times, _items(mix, len(times), rng)


@lru_cache(maxsize=16)
def _renewals(
    arrivals: Arrivals, requests: int, mix: BatchMix | None, seed: int
) -> tuple[Floats, Ints | None]:
    """At 1 request/s; thousands of simulations of a space are of the same ones."""
    return _load(arrivals, 1.0, requests, mix, seed)


def predict_capacity(
    scheduling: Scheduling,
    service: ServiceTimes,
    sla: Sla,
    arrivals: Arrivals = Arrivals.POISSON,
    mix: BatchMix | None = None,
    requests: int = 20_000,
    precision: float = 0.005,
    seed: int = 0,
    guess: float = 0.0,
) -> float:
    """The highest rate (requests/s) that meets the SLA in simulations of ``requests`` each, of the
    rates that are powers of 1 + ``precision``; 0.0 if none does.

    A ``guess`` (0.0: none) saves simulations. If more load never makes fewer late, it changes
    nothing else, so that candidates that do the same get the same capacity.
    """

    def keeps_sla(rate: float) -> bool:
        return is_kept(play(rate, requests, scheduling, service, arrivals, mix, seed).samples, sla)

    return highest_kept(keeps_sla, saturation(scheduling, service, mix), precision, guess)


def highest_kept(
    keeps: Callable[[float], bool], most: float, precision: float = 0.005, guess: float = 0.0
) -> float:
    """The highest rate up to ``most`` that ``keeps`` what it should, of those that are powers of
    1 + ``precision``; 0.0 if none does. For ``guess`` see ``predict_capacity``.
    """
    unit = math.log1p(precision)
    end = math.floor(math.log(most) / unit)
    least = math.ceil(math.log(_SETTINGS.least * most) / unit)

    def is_kept_at(number: int) -> bool:
        return keeps(math.exp(number * unit))

    step = 1 if guess else max(1, round(-math.log(_SETTINGS.step_down) / unit))
    number = min(math.floor(math.log(guess or _SETTINGS.start * most) / unit + 0.5), end)
    low, high = least - 1, end + 1  # kept, as far as is known, and broken
    if is_kept_at(number):
        low = number
        while (number := low + step) < high:
            if not is_kept_at(number):
                high = number
                break
            low, step = number, 2 * step
    else:
        high = number
        while (number := high - step) > low:
            if is_kept_at(number):
                low = number
                break
            high, step = number, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_kept_at(middle) else (low, middle)
    if low < least and guess:  # a queue delay near the limit keeps the Sla in a band of rates
        return highest_kept(keeps, most, precision, guess=0.0)
    return math.exp(low * unit) if low >= least else 0.0


def is_kept(samples: Samples, sla: Sla) -> bool:
    """Whether every bound's share of late requests is within its budget; False without samples."""
    return len(samples) > 0 and all(
        float(np.mean(bound.late(own))) <= bound.budget
        for bound in sla.bounds
        if len(own := bound.of(samples))
    )


def saturation(scheduling: Scheduling, service: ServiceTimes, mix: BatchMix | None = None) -> float:
    """The throughput (requests/s) that no load exceeds, by the utilization law: that of the busiest
    of instances, devices and front end, in batches of the size that suits best.
    """
    occupied, shared = demands(scheduling, service, mix)
    front = max(service.accept, service.reply, _SETTINGS.least_seconds)
    busiest = np.maximum(occupied / scheduling.instances, shared / scheduling.devices)
    return float(1 / max(front, np.min(busiest)))


def demands(
    scheduling: Scheduling, service: ServiceTimes, mix: BatchMix | None = None
) -> tuple[Floats, Floats]:
    """Seconds of an instance and of a device that a request takes on average, for each size of
    batches that is possible; shape (sizes,).
    """
    mix = mix or BatchMix()
    most = scheduling.max_batch
    alone = service.seconds[: most + 1] + float(np.mean(service.noise))
    occupied = alone + service.release * np.arange(most + 1)
    if scheduling.batching:
        sizes = np.arange(1, most + 1)
        shares = mix.mean / sizes  # executions that a request comes to
        return shares * occupied[1:], shares * service.exclusive * alone[1:]
    fitting = [(n, share) for n, share in zip(mix.sizes, mix.shares, strict=True) if n <= most]
    return (
        sum((share * occupied[[n]] for n, share in fitting), np.zeros(1)),
        sum((share * service.exclusive * alone[[n]] for n, share in fitting), np.zeros(1)),
    )


def _items(mix: BatchMix | None, count: int, rng: np.random.Generator) -> Ints | None:
    if mix is None or mix.sizes == (1,):
        return None
    return np.asarray(rng.choice(mix.sizes, count, p=mix.shares), dtype=np.int64)
