"""Simulates a configuration: a load in, samples out, no server."""

from dataclasses import dataclass, field

import numpy as np

from tuner.simulator.scheduling import Scheduling
from tuner.simulator.system import Durations, Rules, System, new_states
from tuner.stats.samples import Floats, Ints, Samples

_NONE = np.zeros(1)


@dataclass(frozen=True)
class ServiceTimes:
    """What executing and serving costs, in seconds.

    ``seconds[b]`` (shape (largest + 1,)) is what an execution of b items takes alone; the share
    ``exclusive`` of it is spent on the device, by one instance at a time. ``noise`` holds equally
    likely additions. Afterwards the instance is not free for ``release`` per item. Each request
    needs the server's front end for ``accept`` on its way in and ``reply`` on its way out, one
    after the other, and ``network`` is the constant rest of its way, there and back.
    """

    seconds: Floats
    exclusive: float = 1.0
    noise: Floats = field(default_factory=lambda: _NONE)
    release: float = 0.0
    accept: float = 0.0
    reply: float = 0.0
    network: float = 0.0


@dataclass(frozen=True)
class Simulation:
    """What was played: ``samples`` as a load generator returns them, the mean seconds ``queue``
    until execution, and of each execution its items and its end.
    """

    samples: Samples
    queue: float
    execution: Ints
    sizes: Ints
    started: Floats
    ends: Floats

    @property
    def batches(self) -> dict[int, int]:
        """Executions by batch size."""
        sizes, counts = np.unique(self.sizes, return_counts=True)
        return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


def simulate(
    times: Floats,
    scheduling: Scheduling,
    service: ServiceTimes,
    items: Ints | None = None,
    seed: int = 0,
) -> Simulation:
    """Play requests sent at ``times`` (ascending, seconds), each of ``items`` (default 1)."""
    from tuner.simulator.batcher import run  # numba: a first server is launched meanwhile

    if items is None:
        items = np.ones(len(times), np.int64)
    if len(service.seconds) <= scheduling.max_batch:
        raise ValueError(f"the service time of a batch of {scheduling.max_batch} is unknown")
    entered = pass_one_by_one(times + service.network / 2, service.accept)
    preferred = np.array(scheduling.preferred, np.int64)
    rules = Rules(**{**vars(scheduling), "preferred": preferred})
    durations = Durations(
        service.seconds, service.exclusive, service.noise, service.release, service.reply
    )
    system, states = System.new(entered, items, rules, durations), new_states()
    run(system, states, seed)
    requests, executions, count = system.requests, system.executions, int(states[0]["executions"])
    ok = requests.ok
    samples = Samples(times, times.copy(), requests.done + service.network / 2, ok)
    queue = float(np.mean((requests.started - entered)[ok])) if ok.any() else 0.0
    return Simulation(
        samples,
        queue,
        requests.execution,
        executions.items[:count],
        requests.started,
        executions.ends[:count],
    )


def pass_one_by_one(times: Floats, each: float | Floats) -> Floats:
    """When requests leave a station that takes ``each`` seconds for one (Lindley's recursion)."""
    if np.max(each, initial=0.0) <= 0:
        return times
    steps = each * np.arange(1, len(times) + 1) if np.ndim(each) == 0 else np.cumsum(each)
    return np.asarray(np.maximum.accumulate(times - steps + each) + steps)
