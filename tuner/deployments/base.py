"""The interface of a deployment: it is started, answers requests, and reports its readings."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from tuner.errors import LauncherUnavailable
from tuner.load.mix import Mix
from tuner.load.target import Target
from tuner.model.space import Candidate
from tuner.records.results import GpuReading, ServerTimes, Stages, StepReading
from tuner.servers.gpu_watch import GpuWatch
from tuner.servers.host_watch import HostWatch

FIRST_ANSWER_SECONDS = 60.0
"""For the first inference, in which some models allocate memory or compile for their device."""


class Running(ABC):
    """A running deployment: where to send requests, and its readings.

    Requests hold ``items`` in the mean; ``launch_seconds`` passed until the first answer.
    """

    target: Target
    items: float
    launch_seconds: float
    answer_seconds: float = 0.0
    """Of its first answer, which may take longer than all others; 0.0 if unknown."""
    mix: Mix | None = None
    """How often each of several models is asked."""

    def target_at(self, rate: float) -> Target:
        """Where to send requests at a rate of the mix, which may make their shares differ."""
        return self.target

    def parts(self) -> "Mapping[str, Running]":
        """The models of the server that are tuned together, each by itself; none of a single
        one.
        """
        return {}

    @abstractmethod
    def raise_if_gone(self) -> None:
        """ServerFailed, with the log's last lines, if one of its servers has ended."""

    @abstractmethod
    def raise_if_full(self, messages: tuple[str, ...]) -> None:
        """ServerFailed if one of the failed requests' ``messages`` is that memory ran out."""

    @abstractmethod
    def raise_if_refused(self, messages: tuple[str, ...]) -> None:
        """LauncherUnavailable if a failed request's text says that authentication failed."""

    @abstractmethod
    def statistics(self) -> dict[str, Any]:
        """A snapshot, for comparison with a later one by ``times_since`` and ``stages_since``."""

    @abstractmethod
    def times_since(self, before: dict[str, Any]) -> ServerTimes | None:
        """What Triton counted; None without a Triton, or if it counted nothing."""

    def stages_since(self, before: dict[str, Any]) -> Stages | None:
        """What an HTTP service counted; None without one."""
        return None

    def steps_since(self, before: dict[str, Any]) -> tuple[StepReading, ...]:
        """What the composing models of an ensemble counted; empty without one."""
        return ()

    def cached_since(self, before: dict[str, Any]) -> float | None:
        """The share of requests that Triton answered from its response cache; None without one."""
        return None

    @abstractmethod
    def watch_gpus(self) -> GpuWatch:
        """Reads its GPUs while the context is open."""

    @abstractmethod
    def watch_host(self) -> HostWatch:
        """Reads what its servers use of their machine while the context is open."""

    def pids(self) -> tuple[int, ...]:
        """Processes of this machine that belong to its servers; empty if not all can be seen."""
        return ()

    def gpu(self, watch: GpuWatch) -> GpuReading | None:
        """What was read of the GPUs."""
        return watch.reading()

    def change(self, candidate: Candidate) -> None:
        """Change the running server to another candidate in place."""
        raise LauncherUnavailable("the configuration of this server cannot be changed")


class Deployment(Protocol):
    """One way to serve a model: started, probed and stopped like any other."""

    config: Any
    """A ModelConfig: what is known of its batches and instances."""

    def start(self, log: Path) -> AbstractContextManager[Running]:
        """Launch all of it, and wait for the first answer; it is stopped at the end.

        Raises ServerFailed for a fault of its own, LauncherUnavailable and InputDataError for
        faults that any deployment would have. ``log`` is the file for the output of its (last)
        server.
        """
