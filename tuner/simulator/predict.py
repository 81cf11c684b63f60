"""The capacity that a configuration would have."""

import math
from dataclasses import dataclass

import numpy as np

from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.batches import BatchMix
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, Simulation, simulate
from tuner.stats.samples import Ints, Samples


@dataclass(frozen=True)
class PredictionSettings:
    """Rates in shares of the throughput at saturation."""

    start: float = 0.85  # the first rate; a better guess would save simulations, and no more
    step_down: float = 0.6  # x the rate before, until one keeps the SLA
    least: float = 1e-3  # no capacity is looked for below
    least_seconds: float = 1e-9  # of the front end per request: one that takes no time is no limit


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
    """About so many requests at ``rate`` requests/s, more where the arrivals' pattern is longer."""
    rng = np.random.default_rng(seed)
    seconds = max(requests / rate, arrivals.least_seconds(rate))
    times = schedule(arrivals, rate, seconds, rng)
    return simulate(times, scheduling, service, _items(mix, len(times), rng), seed)


def predict_capacity(
    scheduling: Scheduling,
    service: ServiceTimes,
    sla: Sla,
    arrivals: Arrivals = Arrivals.POISSON,
    mix: BatchMix | None = None,
    requests: int = 20_000,
    precision: float = 0.005,
    seed: int = 0,
) -> float:
    """The highest rate (requests/s) that keeps the Sla in simulations of ``requests`` each, found
    to within ``precision`` by halving; 0.0 where none does.
    """
    most = saturation(scheduling, service, mix)

    def keeps_sla(rate: float) -> bool:
        played = play(rate, requests, scheduling, service, arrivals, mix, seed)
        return is_kept(played.samples, sla)

    low, high = 0.0, most
    rate = _SETTINGS.start * most
    while low == 0.0 or high / low > 1 + precision:
        if keeps_sla(rate):
            low = rate
        else:
            high = rate
        if low == 0.0:
            rate *= _SETTINGS.step_down
            if rate < _SETTINGS.least * most:
                return 0.0
        else:
            rate = math.sqrt(low * high)
    return low


def is_kept(samples: Samples, sla: Sla) -> bool:
    """Whether every bound's share of late requests is within its budget; False without samples."""
    return len(samples) > 0 and all(
        float(np.mean(bound.late(samples))) <= bound.budget for bound in sla.bounds
    )


def saturation(scheduling: Scheduling, service: ServiceTimes, mix: BatchMix | None = None) -> float:
    """The throughput (requests/s) that no load exceeds, by the utilisation law: that of the
    busiest of instances, devices and front end, in batches of the size that suits best.
    """
    mix = mix or BatchMix()
    most = scheduling.max_batch
    alone = service.seconds[: most + 1] + float(np.mean(service.noise))
    occupied = alone + service.release * np.arange(most + 1)
    if scheduling.batching:
        sizes = np.arange(1, most + 1)
        shares = mix.mean / sizes  # executions that a request comes to
        demands = [(shares * occupied[1:], shares * service.exclusive * alone[1:])]
    else:
        fitting = [(n, share) for n, share in zip(mix.sizes, mix.shares, strict=True) if n <= most]
        demands = [
            (share * occupied[[n]], share * service.exclusive * alone[[n]]) for n, share in fitting
        ]
    busy = sum((own for own, _ in demands), np.zeros(1)) / scheduling.instances
    shared = sum((device for _, device in demands), np.zeros(1)) / scheduling.devices
    front = max(service.accept, service.reply, _SETTINGS.least_seconds)
    return float(1 / max(front, np.min(np.maximum(busy, shared))))


def _items(mix: BatchMix | None, count: int, rng: np.random.Generator) -> Ints | None:
    if mix is None or mix.sizes == (1,):
        return None
    return np.asarray(rng.choice(mix.sizes, count, p=mix.shares), dtype=np.int64)
