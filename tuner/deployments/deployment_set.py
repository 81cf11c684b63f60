"""DeploymentSet deployments as the candidates of one measurement."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tuner.deployments.base import Deployment, Running
from tuner.deployments.triton import TritonDeployment
from tuner.model.space import Candidate

DEPLOYMENT = "deployment"


def candidate_of(name: str) -> Candidate:
    """The candidate that stands for the deployment of this name."""
    return Candidate(((DEPLOYMENT, name),))


class ConfiguredTriton:
    """A Triton with its model in one configuration; None is the one that it was found with."""

    def __init__(self, deployment: TritonDeployment, candidate: Candidate | None) -> None:
        self.config = deployment.config_of(candidate or Candidate())
        self._deployment = deployment
        self._candidate = candidate

    def start(self, log: Path) -> AbstractContextManager[Running]:
        return self._deployment.start(self._candidate, log)


class DeploymentSet:
    """Deployments by name; a candidate says which one. No server is changed to another's."""

    def __init__(
        self, members: Mapping[str, Deployment], gpu_count: int = 0, side_by_side: bool = True
    ) -> None:
        self._members = members
        self.gpu_count = gpu_count
        self._side_by_side = side_by_side and not gpu_count

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        return self._side_by_side

    def config_of(self, candidate: Candidate) -> Any:
        return self._of(candidate).config

    @contextmanager
    def start(
        self, candidate: Candidate | None, log: Path, as_served: bool = True
    ) -> Iterator[Running]:
        assert candidate is not None
        with self._of(candidate).start(log) as running:
            yield running

    def can_change(self, one: Candidate, other: Candidate) -> bool:
        return False

    def _of(self, candidate: Candidate) -> Deployment:
        return self._members[str(candidate.get(DEPLOYMENT))]
