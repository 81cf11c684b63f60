"""``experiment.yaml`` of a run: the experiment, the model, versions and hardware.

Nothing secret is in it: a header is recorded by its name, a storage without its password.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from tuner.experiment.model import Experiment
from tuner.model.parameter import ValueField
from tuner.model.space import SearchSpace
from tuner.records.results import Record

MANIFEST_FORMAT: Final = 2


class Environment(Record):
    """Versions and hardware. What a launcher or a machine does not tell is None."""

    tuner: str | None = None
    launcher: str | None = None
    server: str | None = None
    image: str | None = None
    image_id: str | None = None
    image_digest: str | None = None
    engine: str | None = None
    python: str | None = None
    optuna: str | None = None
    tritonclient: str | None = None
    numpy: str | None = None
    system: str | None = None
    processor: str | None = None
    cores: int | None = None
    """Cores that tuner may use."""
    memory: str | None = None
    gpu: str | None = None
    gpu_count: int | None = None
    gpu_memory: str | None = None
    gpu_driver: str | None = None
    notes: tuple[str, ...] = ()
    """Limitations of the measurements."""

    def machine(self) -> dict[str, Any]:
        """What a capacity depends on, besides the model and its server."""
        kept = ("launcher", "processor", "cores", "memory", "gpu", "gpu_count", "gpu_driver")
        return self.model_dump(mode="json", include=set(kept))


class RecordedStep(Record):
    """A step of a pipeline: its model, and the places of the steps whose outputs it reads."""

    model: str
    after: tuple[int, ...] = ()


class Manifest(Record):
    """What runs of every kind record.

    ``id`` is one that no other run has; None in older runs.
    ``pipeline`` are the steps of an ensemble, in an order in which each comes after those that it
    reads from; empty of another model.
    ``space`` is the search space as it was fitted to the model, ``config_sha256`` the digest of the
    model's own configuration, ``trace_sha256`` that of a replayed trace. ``headers`` are the names
    of those that were sent.
    """

    format: Literal[2] = MANIFEST_FORMAT
    id: str | None = None
    experiment: Experiment
    space: SearchSpace
    config_sha256: str
    trace_sha256: str | None = None
    command: str | None = None
    started: str | None = None
    headers: tuple[str, ...] = ()
    environment: Environment = Environment()
    pipeline: tuple[RecordedStep, ...] = ()

    @property
    def model_name(self) -> str:
        return self.experiment.model.name

    def comparable(self) -> dict[str, Any]:
        """What two searches must share for their capacities to be of the same thing."""
        apart = ("model", "seed", "sampler", "relaunch", "storage", "study_name", "confirm")
        same = {name: value for name, value in self.identity().items() if name not in apart}
        machine = self.environment.machine()
        del machine["memory"]  # of equal machines, it differs by what their firmware takes
        return {**same, "model": self.model_name, "server": self.environment.server, **machine}

    def identity(self) -> dict[str, Any]:
        """What two invocations must share to be the same run."""
        return {
            **self.experiment.identity(),
            "space": self.space.model_dump(mode="json", exclude_none=True),
            "config_sha256": self.config_sha256,
            "trace_sha256": self.trace_sha256,
        }


class SearchManifest(Manifest):
    kind: Literal["search"] = "search"


class MeasureManifest(Manifest):
    """``changes`` are the settings that were changed, ``judged_rate`` is the rate that was judged;
    both are unknown of runs by version 0.1.
    """

    kind: Literal["measure"] = "measure"
    changes: dict[str, ValueField] | None = None
    judged_rate: float | None = None


class GateManifest(Manifest):
    """``against`` is what the model was held against, as it was given."""

    kind: Literal["gate"] = "gate"
    against: str
    margin: float


class ComparedDeployments(Record):
    """What was compared besides the experiment's own settings: names of deployments, services of
    the user's without their secrets, and the numbers of uvicorn workers as they were in force.
    """

    deployments: tuple[str, ...]
    services: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tuned: str | None = None
    search_seconds: float | None = None
    processing: str | None = None
    requests: str | None = None
    fastapi_workers: int
    gateway_workers: int
    rounds: int


class CompareManifest(Manifest):
    kind: Literal["compare"] = "compare"
    compared: ComparedDeployments
    finished: bool = False

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "compared": self.compared.model_dump(mode="json")}


AnyManifest = Annotated[
    SearchManifest | MeasureManifest | CompareManifest | GateManifest, Field(discriminator="kind")
]
MANIFESTS: TypeAdapter[SearchManifest | MeasureManifest | CompareManifest | GateManifest] = (
    TypeAdapter(AnyManifest)
)
