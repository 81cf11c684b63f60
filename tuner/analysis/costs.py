"""What a deployment takes of the machine: cores, memory and GPU, at capacity and at one rate."""

from collections.abc import Callable, Sequence

import numpy as np

from tuner.analysis.contenders import Contender
from tuner.records.results import ProbeRecord, Record


class Usage(Record):
    """While ``rate`` requests/s were served: mean ``cores``, most ``memory`` in bytes, and
    ``gpu`` the share of time in which the GPU was busy; None where it was not read.
    """

    deployment: str
    rate: float
    cores: float | None = None
    memory: float | None = None
    gpu: float | None = None

    @property
    def cores_per_1000(self) -> float | None:
        """Cores per 1,000 requests/s."""
        return None if self.cores is None else 1000 * self.cores / self.rate

    @property
    def memory_per_1000(self) -> float | None:
        """Bytes per 1,000 requests/s."""
        return None if self.memory is None else 1000 * self.memory / self.rate


class Costs(Record):
    """``at_capacity``: each near its own capacity. ``together``: all at ``rate`` requests/s, the
    highest that each of them can serve; None where there are none.
    """

    at_capacity: tuple[Usage, ...]
    rate: float | None
    together: tuple[Usage, ...]


def costs(contenders: Sequence[Contender]) -> Costs:
    usable = [each for each in contenders if each.safe_rate is not None]
    near = tuple(usage for each in usable if (usage := near_capacity(each)) is not None)
    rate = min((each.safe_rate or 0.0 for each in usable), default=None)
    together = tuple(usage_at(each, rate) for each in usable) if rate else ()
    return Costs(at_capacity=near, rate=rate, together=together)


def near_capacity(contender: Contender) -> Usage | None:
    """In the probe that shows how it is to operate near capacity; None without one."""
    probe = contender.evaluation.at_capacity()
    if probe is None or not probe.throughput:
        return None
    return Usage(
        deployment=contender.name,
        rate=probe.throughput,
        cores=_cores(probe),
        memory=_memory(probe),
        gpu=_gpu(probe),
    )


def usage_at(contender: Contender, rate: float) -> Usage:
    """Interpolated linearly by throughput, None above the highest throughput that was seen.

    Below the lowest, cores and GPU are in proportion to the rate, for nothing is computed where
    nothing is asked; memory stays what it was there.
    """
    return Usage(
        deployment=contender.name,
        rate=rate,
        cores=_interpolated(contender, _cores, rate, at_rest=0.0),
        memory=_interpolated(contender, _memory, rate),
        gpu=_interpolated(contender, _gpu, rate, at_rest=0.0),
    )


def _interpolated(
    contender: Contender,
    read: Callable[[ProbeRecord], float | None],
    rate: float,
    at_rest: float | None = None,
) -> float | None:
    loaded = [p for p in contender.evaluation.probes if p.purpose != "unloaded" and p.throughput]
    points = [(p.throughput or 0.0, value) for p in loaded if (value := read(p)) is not None]
    if not points:
        return None
    points.sort()
    if at_rest is not None:
        points.insert(0, (0.0, at_rest))
    served, values = zip(*points, strict=True)
    return float(np.interp(rate, served, values)) if rate <= served[-1] else None


def _cores(probe: ProbeRecord) -> float | None:
    return probe.host.cpu if probe.host is not None else None


def _memory(probe: ProbeRecord) -> float | None:
    return probe.host.memory if probe.host is not None else None


def _gpu(probe: ProbeRecord) -> float | None:
    return probe.gpu.utilisation if probe.gpu is not None else None
