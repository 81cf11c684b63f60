"""The profile of a model on a machine: service times and overheads, fitted to records."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tuner.records.results import ServerTimes, Window
from tuner.simulator.curve import ServiceCurve, Timing
from tuner.simulator.robust import solve
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes
from tuner.stats.estimators import PERCENTILES
from tuner.stats.samples import Floats


@dataclass(frozen=True)
class ProfileSettings:
    saturated: float = 0.5  # x an execution: requests that wait so long find no idle instance
    waited: float = 0.25  # x an execution: a window with a longer queue is not an unloaded one
    calm: float = 0.25  # quantile of windows: the rest were held up by something else
    comparable: float = 0.5  # x the most of a window: shorter ones and smaller batches tell less
    noise_points: int = 64  # equally likely values: the highest stands for the last 1.6 %
    tail: float = 2.0  # x (p95 - p50) beyond p95: what is further out is a stall of the machine
    least_rest: float = 2e-5  # seconds: where windows agree, differences of 20 µs still say nothing


_SETTINGS = ProfileSettings()


@dataclass(frozen=True)
class Reading:
    """The executions of a window."""

    window: Window

    @property
    def instances(self) -> float:
        """Those of one device."""
        return self.window.instances_of_a_device

    @property
    def server(self) -> ServerTimes:
        return self.window.server

    @property
    def execution(self) -> float:
        """Mean seconds of an execution."""
        number = sum(self.server.batches.values())
        spent = sum(n * self.server.batch_seconds[b] for b, n in self.server.batches.items())
        return spent / number

    @property
    def executions(self) -> float:
        """Executions per second of one device."""
        items = self.window.throughput * self.window.items / self.window.devices
        return items / (self.server.mean_batch or 1.0)

    @property
    def is_saturated(self) -> bool:
        """Whether, as far as the queue tells, there was always a request waiting."""
        enough = self.window.concurrency > self.window.instances
        return enough and self.server.queue > _SETTINGS.saturated * self.execution

    @property
    def batch_of_a_request(self) -> float:
        """Mean items of the execution that a request is in."""
        batches = self.server.batches
        return sum(n * b * b for b, n in batches.items()) / sum(n * b for b, n in batches.items())


@dataclass(frozen=True)
class ModelProfile:
    """ServiceTimes times alone, and what instances side by side, replies and the network add.

    ``parallel`` maps a number of instances of one device to how many of them are as good as alone
    when all are busy: n of n where nothing is shared, 1 where they take turns. ``release`` and
    ``reply`` are seconds per item and per reply, ``noise`` equally likely additions to an execution
    (see ``tuner.simulator.simulate.ServiceTimes``).
    """

    curve: ServiceCurve
    parallel: tuple[tuple[float, float], ...] = ()
    release: float = 0.0
    reply: float = 0.0
    network: float = 0.0
    noise: tuple[float, ...] = (0.0,)

    @classmethod
    def fit(cls, windows: Iterable[Window]) -> "ModelProfile | None":
        """From windows of any configurations; None if in none an execution ran alone, or batches of
        one size only, though there are larger ones: nothing tells what these would take.
        """
        readings = [Reading(window) for window in windows]
        alone = [s for s in readings if s.window.runs_alone]
        timings = [
            Timing(size, s.server.batch_seconds[size], n)
            for s in alone
            for size, n in s.server.batches.items()
        ]
        largest = max((max(s.server.batches, default=1) for s in readings), default=1)
        sizes = {timing.size for timing in timings}
        if not sizes or (len(sizes) == 1 and largest >= 2 * max(sizes)):
            return None
        curve = ServiceCurve.fit(timings)
        reply, network = _fit_rest(readings)
        return cls(
            curve,
            tuple(sorted(_fit_parallel(readings, curve).items())),
            _fit_release(readings, curve),
            reply,
            network,
            tuple(_fit_noise(alone)),
        )

    def service(self, scheduling: Scheduling) -> ServiceTimes:
        """The service times of a configuration, for the simulator."""
        effective = self.effective(scheduling.instances / scheduling.devices)
        return ServiceTimes(
            seconds=self.curve.table(scheduling.max_batch),
            exclusive=min(1.0, 1 / effective),
            noise=np.array(self.noise),
            release=self.release,
            reply=self.reply,
            network=self.network,
        )

    def effective(self, instances: float) -> float:
        """How many instances on one device are as good as alone; between those seen it is linear,
        above them it stays, and where none was seen, all are.
        """
        if not self.parallel:
            return instances
        counts, effective = zip(*((1, 1.0), *self.parallel), strict=True)
        return float(np.interp(instances, counts, effective))


def _busy(reading: Reading, curve: ServiceCurve) -> float:
    """Instances of a device that would be busy if each execution took as long as alone, by Little's
    law.
    """
    batches = reading.server.batches
    seconds = curve.at(np.array(list(batches), dtype=float))  # whatever sizes a server says
    alone = sum(n * each for n, each in zip(batches.values(), seconds, strict=True))
    alone /= sum(batches.values())
    return float(reading.executions * alone)


def _fit_parallel(readings: list[Reading], curve: ServiceCurve) -> dict[float, float]:
    """By number of instances of a device; of several windows that are not much shorter than the
    longest nearly the best one, since whatever else holds the machine up only takes away.
    """
    full: dict[float, list[Reading]] = {}
    for reading in readings:
        if reading.instances > 1 and reading.is_saturated:
            full.setdefault(reading.instances, []).append(reading)
    effective = {}
    for count, windows in full.items():
        most = max(s.server.executions for s in windows)
        busy = [
            _busy(s, curve) for s in windows if s.server.executions >= _SETTINGS.comparable * most
        ]
        calm = float(np.quantile(busy, 1 - _SETTINGS.calm, method="higher"))
        effective[count] = min(max(calm, 1.0), count)
    return effective


def _fit_release(readings: list[Reading], curve: ServiceCurve) -> float:
    """Of single instances with requests waiting, the time that executions do not account for."""
    full = [s for s in readings if s.instances <= 1 and s.is_saturated]
    items = np.array([s.server.mean_batch or 1.0 for s in full])
    if not full:
        return 0.0
    gaps = np.array([max(0.0, 1 / s.executions - s.execution) for s in full])
    large = items >= _SETTINGS.comparable * items.max()
    return float(np.median(gaps[large] / items[large]))


def _fit_rest(readings: list[Reading]) -> tuple[float, float]:
    """Seconds per reply, and of the network, out of what neither queue nor execution explain.

    The replies of an execution leave one by one, so that on average half of them come before; and
    they leave at least as fast as they came in any window.
    """
    if not readings:
        return 0.0, 0.0
    times = [s.server for s in readings]
    inside = [t.queue + t.compute_input + t.compute_infer + t.compute_output for t in times]
    rests = np.maximum([s.window.mean for s in readings] - np.array(inside), 0.0)
    before = np.array([s.batch_of_a_request / s.window.items / 2 + 0.5 for s in readings])
    rows = np.column_stack([before, np.ones_like(before)])
    scale = max(_SETTINGS.least_rest, float(np.median(np.abs(rests - np.median(rests)))))
    (reply, network), _ = solve(rows / scale, rests / scale)
    most = 1 / max(s.window.throughput for s in readings)
    if reply <= most:
        return float(reply), float(network)
    return most, max(0.0, float(np.quantile(rests - most * before, _SETTINGS.calm)))


def _fit_noise(alone: list[Reading]) -> Floats:
    """How far single executions lie from their mean, from the latencies of one request at a time.

    Percentiles are those of the calmer ones of the windows in which nothing waited. The lower half,
    of which records have none, is taken as narrow as the stretch between p50 and p90; and what lies
    far beyond p95, in so few requests, is a stall of the machine rather than a habit of the model.
    """
    waited = [s.server.queue > _SETTINGS.waited * s.execution for s in alone]
    unloaded = [
        s.window
        for s, late in zip(alone, waited, strict=True)
        if s.window.concurrency == 1 and not late
    ]
    if not unloaded:
        return np.zeros(1)
    levels = np.array(list(PERCENTILES.values()))
    percentiles = [[w.latency[n] or 0.0 for n in PERCENTILES] for w in unloaded]
    seconds = np.quantile(percentiles, _SETTINGS.calm, axis=0, method="lower")
    p50, p90, p95 = np.interp((0.5, 0.9, 0.95), levels, seconds)
    low, top = 2 * p50 - p90, p95 + _SETTINGS.tail * (p95 - p50)
    points = _SETTINGS.noise_points
    drawn = np.interp(
        (np.arange(points) + 0.5) / points, (0.0, *levels), (low, *np.minimum(seconds, top))
    )
    return np.asarray(drawn - drawn.mean())
