"""The experiment: what to tune, under which promise, where, and for how long."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tuner.cores import Pin
from tuner.errors import UsageError
from tuner.experiment.fields import (
    RECORDED,
    BatchText,
    ConstraintTexts,
    Headers,
    LoadText,
    ObjectiveText,
    PinText,
    ServerArguments,
    ShapeTexts,
    SlaText,
    VariableTexts,
    VersionText,
)
from tuner.experiment.find import known_models, known_spaces
from tuner.experiment.options import Duration, Option, Share, Shorthand, Size
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.load.batches import BatchMix
from tuner.load.transport import Transport
from tuner.security import Security

DEFAULT_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"

_HOW = "How to search"
_WHERE = "Where servers run"
_LOAD = "What is sent"
SLA = Option(
    "Any bounds that hold at once: 'p50<5ms,p99<20ms'.",
    "TEXT",
    shorthand=Shorthand("sla_p99", "p99<{}", "The promise: p99 latency, as in 20ms.", "DURATION"),
)
LOAD = Option(
    "Arrivals: poisson, constant, gamma:CV (bursts), piecewise:1x5s,3x1s, trace:FILE; or "
    "closed (so many at a time).",
    "KIND",
    _LOAD,
    suggestions=("poisson", "constant", "gamma:", "piecewise:", "trace:", CLOSED),
)
BATCH = Option(
    "Items per request: 8, or sizes with shares as in 1:0.7,4:0.2,16:0.1.", "SIZES", _LOAD
)
SEED = Option("Seed of all that is random.", "NUMBER")
LARGEST_SEED = 2**32 - 1
"""What Optuna's samplers take."""
RATE_FLOOR = 0.01
"""Requests/s: the lowest rate that can be asked for; below it a probe would take hours."""
HIGHEST_RATE = 1e6
"""Requests/s, more than the load processes of one machine send; a probe of 20 s plans 160 MB of
them."""

BUDGET = ("trials", "until", "timeout", "warm_start")
"""Fields that may change when a run is resumed: how long to search, and what was known before."""
ACCESS = ("headers", "token_env", "tls_ca", "tls_insecure")
"""How tuner is let in: may change, too."""


def _known_sampler(name: str) -> str:
    if name not in ("simulation", "tpe", "gp", "random") and not name.startswith("hub:"):
        raise ValueError(
            "write simulation, tpe, gp, random or, as in hub:samplers/auto_sampler, one of "
            "OptunaHub's"
        )
    return name


class Experiment(BaseModel):
    """Everything that decides what a run does; each field is an option of the command line, too.

    Durations are seconds and sizes bytes; text such as ``20ms`` and ``2GiB`` is taken, too.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    model: Annotated[
        Path,
        Option(
            "Folder of a model, or its name in ./model_repository or among the samples. "
            "Without it: the only model of ./model_repository.",
            argument=True,
            suggestions=known_models,
        ),
    ]
    sla: Annotated[SlaText, SLA]
    constraints: Annotated[
        ConstraintTexts,
        Option(
            "A limit besides the promise: 'gpu_memory<20GiB,cpu<=4'; may be repeated.",
            "TEXT",
            flags=("--constraint",),
        ),
    ] = ()
    rate: Annotated[float | None, Option("Requests/s at which --minimize compares.", "RATE")] = (
        Field(default=None, ge=RATE_FLOOR, le=HIGHEST_RATE)
    )
    minimize: Annotated[
        ObjectiveText,
        Option(
            "In place of capacity, at --rate: p99, instances, gpu_memory, memory, cpu, energy, or "
            "a sum such as p99/10ms + 0.5*instances.",
            "OBJECTIVE",
            suggestions=("p99", "instances", "gpu_memory", "memory", "cpu", "energy"),
        ),
    ] = None
    space: Annotated[
        str,
        Option("Search space: a preset's name or a YAML file.", "NAME", suggestions=known_spaces),
    ] = "default"
    trials: Annotated[int | None, Option("At most so many candidates.", "NUMBER")] = Field(
        default=None, ge=1
    )
    timeout: Annotated[Duration, Option("At most so long, confirmation included.", "DURATION")] = (
        Field(default=180.0, gt=0)
    )
    until: Annotated[
        Share, Option("Stop once no candidate is expected to gain more.", "SHARE", _HOW)
    ] = Field(default=0.01, gt=0, lt=1)
    sampler: Annotated[
        str,
        AfterValidator(_known_sampler),
        Option(
            "Who chooses candidates: simulation, Optuna's tpe, gp or random, or one of "
            "OptunaHub's as in hub:samplers/auto_sampler.",
            metavar="NAME",
            panel=_HOW,
            suggestions=("simulation", "tpe", "gp", "random", "hub:samplers/"),
        ),
    ] = "simulation"
    relaunch: Annotated[
        Literal["auto", "always"],
        Option("auto: change a running server where Triton can in place; or always.", "WHEN", _HOW),
    ] = "auto"
    warm_start: Annotated[
        Path | None,
        Option("A run of the same model: what it learned is not learned again.", "RUN", _HOW),
    ] = None
    seed: Annotated[int, SEED] = Field(default=0, ge=0, le=LARGEST_SEED)
    storage: Annotated[
        str | None, Option("Any Optuna storage URL; SQLite in the run's folder if none.", "URL")
    ] = None
    launcher: Annotated[
        Literal["auto", "docker", "local", "attached"],
        Option("auto, docker, local or attached.", "KIND", _WHERE),
    ] = "auto"
    image: Annotated[str, Option("Docker image of Triton.", "NAME", _WHERE)] = DEFAULT_IMAGE
    gpus: Annotated[
        str,
        Option(
            "For Docker: auto, all, none or 0,1.",
            "IDS",
            _WHERE,
            suggestions=("auto", "all", "none"),
        ),
    ] = "auto"
    shm_size: Annotated[Size, Option("For Docker, as in 2GiB.", "SIZE", _WHERE)] = Field(
        default=1 << 30, gt=0
    )
    env: Annotated[
        VariableTexts, Option("NAME=value for the server; may be repeated.", "TEXT", _WHERE)
    ] = Field(default_factory=dict)
    server_args: Annotated[
        ServerArguments,
        Option(
            "Extra tritonserver flag; may be repeated.", "TEXT", _WHERE, flags=("--server-arg",)
        ),
    ] = ()
    load_models: Annotated[
        tuple[str, ...],
        Option(
            "A model of the same repository that this one calls (BLS), loaded before it; may be "
            "repeated. Those of an ensemble are loaded anyway.",
            "NAME",
            _WHERE,
            flags=("--load-model",),
        ),
    ] = ()
    url: Annotated[
        str | None,
        Option(
            "For attached: HTTP address of a server with explicit model control; https:// for TLS.",
            "HOST:PORT",
            _WHERE,
        ),
    ] = None
    grpc_url: Annotated[
        str | None, Option("Its gRPC address; grpcs:// for TLS.", "HOST:PORT", _WHERE)
    ] = None
    headers: Annotated[
        Headers,
        Option(
            "For attached: 'Name: value' to send with every request; may be repeated. The value "
            "is not recorded.",
            "TEXT",
            _WHERE,
            flags=("--header",),
        ),
    ] = Field(default=(), exclude=True, repr=False)
    token_env: Annotated[
        str | None,
        Option("For attached: environment variable that holds a bearer token.", "NAME", _WHERE),
    ] = None
    tls_ca: Annotated[
        Path | None,
        Option(
            "For attached: certificates (PEM) to trust instead of the system's.", "FILE", _WHERE
        ),
    ] = None
    tls_insecure: Annotated[bool, Option("For attached: take any certificate.", panel=_WHERE)] = (
        False
    )
    startup_timeout: Annotated[
        Duration, Option("How long a server may take to load the model.", "DURATION", _WHERE)
    ] = Field(default=120.0, gt=0)
    protocol: Annotated[Transport, Option("http or grpc.", "KIND", _LOAD)] = Transport.HTTP
    load: Annotated[LoadText, LOAD] = Arrivals.POISSON
    batch: Annotated[BatchText, BATCH] = BatchMix.parse("1")
    shared_memory: Annotated[
        Literal["none", "system"],
        Option(
            "system: inputs and outputs in shared memory of this machine; or none.", "KIND", _LOAD
        ),
    ] = "none"
    load_engine: Annotated[
        Literal["tuner", "perf_analyzer"],
        Option("Who sends: tuner, or perf_analyzer if you have it.", "NAME", _LOAD),
    ] = "tuner"
    workers: Annotated[int, Option("Load processes.", "NUMBER", _LOAD)] = Field(
        default=1, ge=1, le=64
    )
    pin: Annotated[
        PinText,
        Option(
            "Cores of their own: auto, or SERVER:LOAD or SERVER:STUBS:LOAD, as in "
            "0-3:4-11:12-15; or none.",
            "CORES",
            _LOAD,
            suggestions=("auto", "none"),
        ),
    ] = Pin()
    input_data: Annotated[
        Path | None, Option("Request contents in perf_analyzer's JSON format.", "FILE", _LOAD)
    ] = None
    shapes: Annotated[
        ShapeTexts,
        Option(
            "Dimensions that the model leaves open, as in image:3,224,224; may be repeated.",
            "NAME:DIMS",
            _LOAD,
            flags=("--shape",),
        ),
    ] = Field(default_factory=dict)
    model_version: Annotated[
        VersionText,
        Option("The version to measure; without it, the one that Triton chooses.", "NUMBER", _LOAD),
    ] = ""
    cache_hits: Annotated[
        Share,
        Option(
            "For a model with a response cache: the share of made-up requests that repeat.",
            "SHARE",
            _LOAD,
        ),
    ] = Field(default=0.0, ge=0, le=1)
    confirm: Annotated[
        Literal["sequential", "mlperf", "none"],
        Option(
            "The final test of a rate: sequential; mlperf for LoadGen's rule in 60 s; or none.",
            "TEST",
            _LOAD,
        ),
    ] = "sequential"

    probe_seconds: Annotated[
        float | None,
        Option(
            "Seconds that the final test of a rate may take; it ends as soon as the answer is "
            "sure. Without it: 20 in a search, 90 with --rate.",
            "SECONDS",
            _LOAD,
        ),
    ] = Field(default=None, ge=1, le=3600)

    @model_validator(mode="after")
    def _open_loop_to_minimize(self) -> Self:
        if self.minimize is not None and self.load == CLOSED:
            raise UsageError("--minimize goes with an open loop such as --load poisson")
        return self

    @classmethod
    def recorded(cls, fields: dict[str, Any]) -> "Experiment":
        """Out of a record, perhaps of another machine: a trace and cores need not be here."""
        return cls.model_validate(fields, context=RECORDED)

    @property
    def simulates(self) -> bool:
        """Whether the simulation chooses candidates."""
        return self.sampler == "simulation"

    @property
    def attaches(self) -> bool:
        """Whether the server is one that others run."""
        return self.launcher == "attached" or (self.launcher == "auto" and self.url is not None)

    def security(self) -> Security:
        """UsageError where an option does not hold, or goes with an attached server only."""
        given = [name for name in ACCESS if getattr(self, name)]
        if given and not self.attaches:
            option = "header" if given[0] == "headers" else given[0].replace("_", "-")
            raise UsageError(
                f"--{option} goes with a server that runs already: add --launcher attached --url "
                "https://HOST:PORT"
            )
        ca = None if self.tls_ca is None else str(self.tls_ca)
        return Security.of(self.headers, self.token_env, ca, self.tls_insecure)

    def identity(self) -> dict[str, Any]:
        """What two experiments must share to be the same run: all but the budget and how tuner is
        let in. A space is told by what it holds, not by its name, and so is a trace: both are of
        the manifest.
        """
        return self.model_dump(mode="json", exclude={*BUDGET, *ACCESS, "space"})
