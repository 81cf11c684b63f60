"""What is measured, trial by trial: candidates of one Triton deployment, or deployments by name."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tuner.deployments.base import Deployment, Running
from tuner.deployments.triton import TritonDeployment
from tuner.model.space import Candidate


@dataclass(frozen=True)
class Subject:
    """What one trial measures: a configuration of the model, or the ``deployment`` of that name.

    The baseline's candidate states the model's own settings; the server gets its file untouched. A
    ``reference`` is measured to compare with, and no rate is recommended for it.
    """

    trial: int
    candidate: Candidate = Candidate()
    baseline: bool = False
    deployment: str | None = None
    reference: bool = False

    @property
    def changes(self) -> Candidate:
        """What the candidate changes in the model's configuration: nothing, for the baseline."""
        return Candidate() if self.baseline else self.candidate

    @property
    def label(self) -> str:
        return self.deployment or str(self.candidate)


class Deployments(Protocol):
    """Starts subjects, and reports what is known before they run."""

    @property
    def gpu_count(self) -> int:
        """The GPUs that their servers see."""

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        """Whether servers may run at once that were seen to need so many bytes of GPU memory each;
        None if that is not known.
        """

    def configs_of(self, subject: Subject) -> Mapping[str, Any]:
        """Its ModelConfigs, by the names of the models."""

    def start(
        self, subject: Subject, log: Path, as_served: bool = True
    ) -> AbstractContextManager[Running]:
        """As ``Deployment.start``. If it need not be all ``as_served``, a launch may be cut short
        by what others have shown.
        """

    def can_change(self, one: Subject, other: Subject) -> bool:
        """Whether a server of one can be changed to the other in place."""


class TritonServers(Protocol):
    """Starts a Triton for each candidate: of one model, or of several."""

    @property
    def gpu_count(self) -> int:
        """The GPUs that its servers see."""

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        """As ``Deployments.runs_side_by_side``."""

    def configs_of(self, candidate: Candidate) -> Mapping[str, Any]:
        """The candidate's ModelConfigs, by the names of the models."""

    def can_change(self, one: Candidate, other: Candidate) -> bool:
        """Whether a server of one can be changed to the other in place."""

    def start(
        self, candidate: Candidate | None, log: Path, as_served: bool = True
    ) -> AbstractContextManager[Running]:
        """As ``Deployments.start``; None is the models' own configuration."""


class TritonCandidates:
    """Candidates of one Triton deployment. A baseline is always launched, never changed to."""

    def __init__(self, triton: TritonServers) -> None:
        self._triton = triton

    @property
    def gpu_count(self) -> int:
        return self._triton.gpu_count

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        return self._triton.runs_side_by_side(memory)

    def configs_of(self, subject: Subject) -> Mapping[str, Any]:
        return self._triton.configs_of(subject.changes)

    def start(
        self, subject: Subject, log: Path, as_served: bool = True
    ) -> AbstractContextManager[Running]:
        return self._triton.start(None if subject.baseline else subject.candidate, log, as_served)

    def can_change(self, one: Subject, other: Subject) -> bool:
        if one.baseline or other.baseline:
            return False
        return self._triton.can_change(one.candidate, other.candidate)


class Versions:
    """Versions of a model by name, each as it is. No server is changed to another's, and none runs
    beside another: they are to differ in nothing but the version.
    """

    def __init__(self, members: Mapping[str, TritonServers]) -> None:
        self._members = members

    @property
    def gpu_count(self) -> int:
        return max(each.gpu_count for each in self._members.values())

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        return False

    def configs_of(self, subject: Subject) -> Mapping[str, Any]:
        return self._of(subject).configs_of(Candidate())

    def start(
        self, subject: Subject, log: Path, as_served: bool = True
    ) -> AbstractContextManager[Running]:
        return self._of(subject).start(None, log, as_served)

    def can_change(self, one: Subject, other: Subject) -> bool:
        return False

    def _of(self, subject: Subject) -> TritonServers:
        assert subject.deployment is not None
        return self._members[subject.deployment]


class ConfiguredTriton:
    """A Triton with its model in one configuration; None is the model's own."""

    def __init__(self, deployment: TritonDeployment, candidate: Candidate | None) -> None:
        self.config = deployment.config_of(candidate or Candidate())
        self._deployment = deployment
        self._candidate = candidate

    def start(self, log: Path) -> AbstractContextManager[Running]:
        return self._deployment.start(self._candidate, log)


class DeploymentSet:
    """Deployments by name. No server is changed to another's."""

    def __init__(
        self, members: Mapping[str, Deployment], gpu_count: int = 0, side_by_side: bool = True
    ) -> None:
        self._members = members
        self.gpu_count = gpu_count
        self._side_by_side = side_by_side and not gpu_count

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        return self._side_by_side

    def configs_of(self, subject: Subject) -> Mapping[str, Any]:
        config = self._of(subject).config
        return {config.name: config}

    def start(
        self, subject: Subject, log: Path, as_served: bool = True
    ) -> AbstractContextManager[Running]:
        return self._of(subject).start(log)

    def can_change(self, one: Subject, other: Subject) -> bool:
        return False

    def _of(self, subject: Subject) -> Deployment:
        assert subject.deployment is not None
        return self._members[subject.deployment]
