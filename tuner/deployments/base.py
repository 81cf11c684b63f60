"""The seam of what is measured: it is started, answers, and says what it knows of itself."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from tuner.errors import LauncherUnavailable
from tuner.load.target import Target
from tuner.model.space import Candidate
from tuner.records.results import GpuReading, ServerTimes, Stages
from tuner.servers.gpu_watch import GpuWatch
from tuner.servers.host_watch import HostWatch


class Running(ABC):
    """A deployment that answers: where to send, and what it says of itself.

    Requests hold ``items`` in the mean; ``launch_seconds`` passed until the first answer.
    """

    target: Target
    items: float
    launch_seconds: float

    @abstractmethod
    def raise_if_gone(self) -> None:
        """ServerFailed, with the log's last lines, where one of its servers has ended."""

    @abstractmethod
    def raise_if_full(self, said: tuple[str, ...]) -> None:
        """ServerFailed where a failed request's text, one of ``said``, is that memory ran out."""

    @abstractmethod
    def raise_if_refused(self, said: tuple[str, ...]) -> None:
        """LauncherUnavailable where a failed request's text is that tuner is not let in."""

    @abstractmethod
    def statistics(self) -> dict[str, Any]:
        """A snapshot, to be subtracted from a later one by ``times_since`` and ``stages_since``."""

    @abstractmethod
    def times_since(self, before: dict[str, Any]) -> ServerTimes | None:
        """What Triton counted; None without a Triton, or where it counted nothing."""

    def stages_since(self, before: dict[str, Any]) -> Stages | None:
        """What an HTTP service counted; None without one."""
        return None

    @abstractmethod
    def watch_gpus(self) -> GpuWatch:
        """Reads its GPUs while the context is open."""

    @abstractmethod
    def watch_host(self) -> HostWatch:
        """Reads what its servers use of their machine while the context is open."""

    def gpu(self, watch: GpuWatch) -> GpuReading | None:
        """What was read of the GPUs."""
        return watch.reading()

    def change(self, candidate: Candidate) -> None:
        """Have the same server take a candidate that ``Deployments.can_change`` it to."""
        raise LauncherUnavailable("the configuration of this server cannot be changed")


class Deployment(Protocol):
    """One way to serve a model: started, probed and stopped like any other."""

    config: Any
    """A ModelConfig: what is known of its batches and instances."""

    def start(self, log: Path) -> AbstractContextManager[Running]:
        """Launch all of it, and wait for the first answer; it is stopped at the end.

        Raises ServerFailed for what is its own fault, LauncherUnavailable and InputDataError for
        what would fail any other, too. ``log`` is the file for the output of its (last) server.
        """


class Deployments(Protocol):
    """What an evaluator measures: it names one by a candidate, and starts it."""

    @property
    def gpu_count(self) -> int:
        """The GPUs that their servers see."""

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        """Whether servers may run at once that were seen to need so many bytes of GPU memory each;
        None where that is not known.
        """

    def config_of(self, candidate: Candidate) -> Any:
        """The candidate's ModelConfig."""

    def start(
        self, candidate: Candidate | None, log: Path, as_served: bool = True
    ) -> AbstractContextManager[Running]:
        """As ``Deployment.start``; None is the model as found. Where it need not be all
        ``as_served``, a launch may be cut short by what others have shown.
        """

    def can_change(self, one: Candidate, other: Candidate) -> bool:
        """Whether a server of one can be changed to the other in place."""
