"""The experiment: what to tune, under which SLA, on which server, and for how long."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tuner.cores import Pin
from tuner.errors import UsageError
from tuner.experiment.fields import (
    RECORDED,
    BatchText,
    ConstraintTexts,
    Headers,
    HeldRates,
    LoadText,
    MixText,
    ObjectiveText,
    PinText,
    ServerArguments,
    ShapeTexts,
    SlaText,
    VariableTexts,
    VersionText,
    split_names,
)
from tuner.experiment.find import known_models, known_spaces
from tuner.experiment.options import Duration, Option, Share, Shorthand, Size
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.load.batches import BatchMix
from tuner.load.transport import Transport
from tuner.security import Security

DEFAULT_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"

DEFAULT_SPACE, SPACE_OF_SEVERAL = "default", "several_models"
"""Presets: what is searched where nothing is said, of a single model and of several."""
_HOW = "How to search"
_WHERE = "Where servers run"
_LOAD = "What is sent"
SLA = Option(
    "Bounds on latency and errors, all of which must hold: 'p50<5ms,p99<20ms'; of several models "
    "'detector:p99<40ms', may be repeated.",
    "TEXT",
    repeats=True,
    shorthand=Shorthand(
        "sla_p99", "p99<{}", "The SLA as a bound on p99 latency, such as 20ms.", "DURATION"
    ),
)
LOAD = Option(
    "Arrivals of an open loop: poisson, constant, gamma:CV (bursts), piecewise:1x5s,3x1s or "
    "trace:FILE; closed for a closed loop.",
    "KIND",
    _LOAD,
    suggestions=("poisson", "constant", "gamma:", "piecewise:", "trace:", CLOSED),
)
BATCH = Option(
    "Items per request: 8, or sizes with shares such as 1:0.7,4:0.2,16:0.1.", "SIZES", _LOAD
)
SEED = Option("Seed of all random numbers.", "NUMBER")
LARGEST_SEED = 2**32 - 1
"""The largest seed that Optuna's samplers accept."""
RATE_FLOOR = 0.01
"""Requests/s: the lowest rate that is accepted; below it a probe would take hours."""
HIGHEST_RATE = 1e6
"""Requests/s, more than the load processes of one machine send; a probe of 20 s plans 160 MB of
them."""

BUDGET = ("trials", "until", "timeout", "warm_start")
"""Fields that may change when a run is resumed: how long to search, and a run to start from."""
ACCESS = ("headers", "token_env", "tls_ca", "tls_insecure")
"""Credentials; may change when a run is resumed, too."""


def _known_sampler(name: str) -> str:
    if name not in ("simulation", "tpe", "gp", "random") and not name.startswith("hub:"):
        raise ValueError(
            "choose simulation, tpe, gp, random, or a sampler of OptunaHub such as "
            "hub:samplers/auto_sampler"
        )
    return name


class Experiment(BaseModel):
    """Everything that determines what a run does; each field is also a command-line option.

    Durations are seconds and sizes bytes; text such as ``20ms`` and ``2GiB`` is accepted, too.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    model: Annotated[
        Path,
        Option(
            "A model's folder, or its name in ./model_repository or among the samples; or a folder "
            "of models, to tune several together. Default: the only model of ./model_repository.",
            argument=True,
            suggestions=known_models,
        ),
    ]
    sla: Annotated[SlaText, SLA]
    constraints: Annotated[
        ConstraintTexts,
        Option(
            "A limit besides the SLA, such as 'gpu_memory<20GiB,cpu<=4'; may be repeated.",
            "TEXT",
            flags=("--constraint",),
        ),
    ] = ()
    rate: Annotated[
        float | None, Option("Requests/s at which --minimize compares candidates.", "RATE")
    ] = Field(default=None, ge=RATE_FLOOR, le=HIGHEST_RATE)
    minimize: Annotated[
        ObjectiveText,
        Option(
            "Minimize this cost at --rate, instead of maximizing capacity: p99, instances, "
            "gpu_memory, memory, cpu, energy, or a sum such as p99/10ms + 0.5*instances.",
            "OBJECTIVE",
            suggestions=("p99", "instances", "gpu_memory", "memory", "cpu", "energy"),
        ),
    ] = None
    mix: Annotated[
        MixText,
        Option(
            "Of several models: how often each is asked, such as detector=1,classifier=5; or a "
            "log of requests (CSV) with a column model. Default: all alike.",
            "SHARES",
            _LOAD,
        ),
    ] = None
    hold: Annotated[
        HeldRates,
        Option(
            "Of several models: keep one at a fixed rate (requests/s), such as classifier=200, "
            "while the others' rate is maximized; may be repeated.",
            "MODEL=RATE",
            _LOAD,
        ),
    ] = Field(default_factory=dict)
    space: Annotated[
        str,
        Option(
            "Search space: the name of a preset, or a YAML file.",
            "NAME",
            suggestions=known_spaces,
        ),
    ] = DEFAULT_SPACE
    trials: Annotated[int | None, Option("Maximum number of candidates to measure.", "NUMBER")] = (
        Field(default=None, ge=1)
    )
    timeout: Annotated[
        Duration, Option("Maximum duration of the search, including the confirmation.", "DURATION")
    ] = Field(default=180.0, gt=0)
    until: Annotated[
        Share, Option("Stop once the expected improvement falls below this share.", "SHARE", _HOW)
    ] = Field(default=0.01, gt=0, lt=1)
    sampler: Annotated[
        str,
        AfterValidator(_known_sampler),
        Option(
            "Chooses candidates: simulation, Optuna's tpe, gp or random, or a sampler of "
            "OptunaHub such as hub:samplers/auto_sampler.",
            metavar="NAME",
            panel=_HOW,
            suggestions=("simulation", "tpe", "gp", "random", "hub:samplers/"),
        ),
    ] = "simulation"
    relaunch: Annotated[
        Literal["auto", "always"],
        Option(
            "auto: reconfigure the running server if Triton can do so in place; always: "
            "start a new server for each candidate.",
            "WHEN",
            _HOW,
        ),
    ] = "auto"
    warm_start: Annotated[
        Path | None,
        Option(
            "An earlier run of the same model; its profile and measurements are reused.",
            "RUN",
            _HOW,
        ),
    ] = None
    seed: Annotated[int, SEED] = Field(default=0, ge=0, le=LARGEST_SEED)
    storage: Annotated[
        str | None, Option("Optuna storage URL. Default: SQLite in the run's folder.", "URL")
    ] = None
    study_name: Annotated[
        str | None,
        Option(
            "Optuna study in that storage, which several searches may share. Default: the run's.",
            "NAME",
        ),
    ] = Field(default=None, min_length=1)
    launcher: Annotated[
        Literal["auto", "docker", "local", "attached"],
        Option(
            "How servers run: auto, docker, local, or attached to a running one.", "KIND", _WHERE
        ),
    ] = "auto"
    image: Annotated[str, Option("Docker image of Triton.", "NAME", _WHERE)] = DEFAULT_IMAGE
    gpus: Annotated[
        str,
        Option(
            "GPUs for Docker: auto, all, none, or ids such as 0,1.",
            "IDS",
            _WHERE,
            suggestions=("auto", "all", "none"),
        ),
    ] = "auto"
    shm_size: Annotated[
        Size, Option("Size of /dev/shm for Docker, such as 2GiB.", "SIZE", _WHERE)
    ] = Field(default=1 << 30, gt=0)
    env: Annotated[
        VariableTexts,
        Option("Environment variable NAME=value for the server; may be repeated.", "TEXT", _WHERE),
    ] = Field(default_factory=dict)
    server_args: Annotated[
        ServerArguments,
        Option(
            "Additional tritonserver flag; may be repeated.",
            "TEXT",
            _WHERE,
            flags=("--server-arg",),
        ),
    ] = ()
    load_models: Annotated[
        tuple[str, ...],
        Option(
            "A model of the same repository that this model calls (BLS); it is loaded first, as it "
            "is. May be repeated. The models of an ensemble are loaded anyway.",
            "NAME",
            _WHERE,
            flags=("--load-model",),
        ),
    ] = ()
    bls_composing_models: Annotated[
        tuple[str, ...],
        BeforeValidator(split_names),
        Option(
            "Models that this model, or a step of it, calls (BLS): they are tuned with it. Names "
            "with commas, or repeated; auto finds them with one request.",
            "NAMES",
            _HOW,
        ),
    ] = ()
    url: Annotated[
        str | None,
        Option(
            "HTTP address of a running server with explicit model control; https:// for TLS.",
            "HOST:PORT",
            _WHERE,
        ),
    ] = None
    grpc_url: Annotated[
        str | None, Option("gRPC address of that server; grpcs:// for TLS.", "HOST:PORT", _WHERE)
    ] = None
    headers: Annotated[
        Headers,
        Option(
            "For attached: header 'Name: value' to send with every request; may be repeated. "
            "The value is not recorded.",
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
            "For attached: CA certificates (PEM) to trust instead of the system's.", "FILE", _WHERE
        ),
    ] = None
    tls_insecure: Annotated[bool, Option("For attached: accept any certificate.", panel=_WHERE)] = (
        False
    )
    startup_timeout: Annotated[
        Duration,
        Option("How long a server may take to start and load the model.", "DURATION", _WHERE),
    ] = Field(default=120.0, gt=0)
    protocol: Annotated[
        Transport, Option("Protocol of the requests: http or grpc.", "KIND", _LOAD)
    ] = Transport.HTTP
    load: Annotated[LoadText, LOAD] = Arrivals.POISSON
    batch: Annotated[BatchText, BATCH] = BatchMix.parse("1")
    shared_memory: Annotated[
        Literal["none", "system"],
        Option(
            "system: pass inputs and outputs through shared memory of this machine; or none.",
            "KIND",
            _LOAD,
        ),
    ] = "none"
    load_engine: Annotated[
        Literal["tuner", "perf_analyzer"],
        Option("Load generator: tuner, or perf_analyzer if installed.", "NAME", _LOAD),
    ] = "tuner"
    workers: Annotated[int, Option("Number of load generator processes.", "NUMBER", _LOAD)] = Field(
        default=1, ge=1, le=64
    )
    pin: Annotated[
        PinText,
        Option(
            "Reserve cores: auto, none, SERVER:LOAD or SERVER:STUBS:LOAD, such as 0-3:4-11:12-15.",
            "CORES",
            _LOAD,
            suggestions=("auto", "none"),
        ),
    ] = Pin()
    input_data: Annotated[
        Path | None, Option("Request inputs in perf_analyzer's JSON format.", "FILE", _LOAD)
    ] = None
    shapes: Annotated[
        ShapeTexts,
        Option(
            "Shape of an input with open dimensions, such as image:3,224,224; may be repeated.",
            "NAME:DIMS",
            _LOAD,
            flags=("--shape",),
        ),
    ] = Field(default_factory=dict)
    model_version: Annotated[
        VersionText,
        Option(
            "The model version to measure. Default: the version that Triton chooses.",
            "NUMBER",
            _LOAD,
        ),
    ] = ""
    cache_hits: Annotated[
        Share,
        Option(
            "For a model with a response cache: the share of generated requests that repeat.",
            "SHARE",
            _LOAD,
        ),
    ] = Field(default=0.0, ge=0, le=1)
    confirm: Annotated[
        Literal["sequential", "mlperf", "none"],
        Option(
            "How the recommended rate is verified: sequential; mlperf (LoadGen's rule, 60 s); "
            "or none.",
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
            raise UsageError("--minimize needs an open loop, such as --load poisson")
        return self

    @classmethod
    def recorded(cls, fields: dict[str, Any]) -> "Experiment":
        """From a record, perhaps of another machine: traces and cores need not exist here."""
        return cls.model_validate(fields, context=RECORDED)

    @property
    def simulates(self) -> bool:
        """Whether the simulation chooses candidates."""
        return self.sampler == "simulation"

    @property
    def attaches(self) -> bool:
        """Whether the server is already running."""
        return self.launcher == "attached" or (self.launcher == "auto" and self.url is not None)

    def security(self) -> Security:
        """UsageError if an option is invalid, or needs an attached server."""
        given = [name for name in ACCESS if getattr(self, name)]
        if given and not self.attaches:
            option = "header" if given[0] == "headers" else given[0].replace("_", "-")
            raise UsageError(
                f"--{option} needs a running server: add --launcher attached --url "
                "https://HOST:PORT"
            )
        ca = None if self.tls_ca is None else str(self.tls_ca)
        return Security.of(self.headers, self.token_env, ca, self.tls_insecure)

    def identity(self) -> dict[str, Any]:
        """What two experiments must share to be the same run: all but the budget and the
        credentials. Spaces and traces are compared by content, not by name, and are part of the
        manifest.
        """
        return self.model_dump(mode="json", exclude={*BUDGET, *ACCESS, "space"})
