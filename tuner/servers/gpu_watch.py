"""Reads the GPUs of a server while a probe runs."""

from dataclasses import replace
from statistics import fmean
from typing import TypeVar

from tuner.records.results import GpuReading
from tuner.servers.gpu import SILENCE, Gpus, Sample
from tuner.servers.periodic import PeriodicReader
from tuner.servers.settings import WATCH

Number = TypeVar("Number", int, float)


class GpuWatch:
    """Reads GPUs ten times a second while the context is open.

    ``before`` are the users that were on the GPUs before the server was: those are others. If tuner
    has more servers there, ``pids`` are the processes of the one that is read: the memory is theirs
    alone then. A GPU that is lost on the way, or a driver that hangs, costs readings and nothing
    else.
    """

    def __init__(
        self,
        gpus: Gpus,
        before: frozenset[str],
        pids: tuple[int, ...] | None = None,
    ) -> None:
        self._own = None if pids is None else frozenset(pids)
        self._gpus = gpus
        self._before = before
        self._samples: dict[str, list[Sample]] = {gpu.index: [] for gpu in gpus.devices}
        self._others: set[str] = set()
        self._rounds = 0
        self._reader = PeriodicReader("tuner-gpu", self._sample, WATCH.gpu_period, WATCH.gpu_share)

    def _sample(self) -> None:
        if self._before and self._rounds % WATCH.gpu_users_every == 0:
            self._others |= self._gpus.users() & self._before
        for gpu in self._gpus.devices:
            sample = self._gpus.sample(gpu)
            if self._own is not None:
                sample = replace(sample, memory=self._gpus.memory_of(gpu, self._own))
            self._samples[gpu.index].append(sample)
        self._rounds += 1

    def reading(self) -> GpuReading | None:
        """Means over time and GPUs, the highest temperature, and for memory the mean of the GPUs'
        peaks; None if NVML gave no reading.
        """
        by_gpu = [samples[:] for samples in self._samples.values()]
        known = [s for samples in by_gpu for s in samples if s != SILENCE]
        if not known:
            return None
        peaks = [max(m) for samples in by_gpu if (m := _known([s.memory for s in samples]))]
        temperatures = _known([s.temperature for s in known])
        reasons = {word for s in known for word in s.throttled}
        return GpuReading(
            utilisation=_mean([s.utilisation for s in known]),
            memory=round(fmean(peaks)) if peaks else None,
            power=_mean([s.power for s in known]),
            devices=len(self._gpus.devices),
            clock=_mean([s.clock for s in known]),
            temperature=max(temperatures, default=None),
            throttled=tuple(sorted(reasons)),
            others=tuple(sorted(self._others)),
        )

    def __enter__(self) -> "GpuWatch":
        if self._gpus.devices:
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.stop()


def _known(values: list[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def _mean(values: list[float | None]) -> float | None:
    known = _known(values)
    return fmean(known) if known else None
