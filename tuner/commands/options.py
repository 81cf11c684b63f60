"""What each command takes besides the experiment, as typed options. Light: the command line reads
it for its help.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from tuner.documents import parse_yaml
from tuner.errors import DocumentError, UsageError
from tuner.experiment.fields import BatchText, LoadText, ShapeTexts, SlaText, split_names
from tuner.experiment.model import (
    BATCH,
    DEFAULT_IMAGE,
    HIGHEST_RATE,
    LARGEST_SEED,
    LOAD,
    RATE_FLOOR,
    SEED,
    SLA,
)
from tuner.experiment.options import Duration, Option, Share, Size
from tuner.model.parameter import Value
from tuner.model.space import SHORT_NAMES, full_path
from tuner.text import shown
from tuner.units import whole_number

_WHAT = "What is compared"
_GATE = "The gate"
_JOB = "The Job"
DATATYPES = (
    *("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    *("FP16", "FP32", "FP64", "BYTES"),
)
"""Of tensors, as Triton names them."""
GATE_FORMATS = ("junit", "bencher", "github-benchmark", "markdown")


@dataclass(frozen=True)
class Without:
    """Fields of the experiment that a command offers no option for. Those that it has ``no_use``
    for are not read from the experiment's file either.
    """

    names: tuple[str, ...] = ()
    no_use: tuple[str, ...] = ()


MEASURE_WITHOUT = Without(
    (
        *("rate", "minimize", "space", "trials", "timeout", "until", "sampler", "relaunch"),
        *("warm_start", "storage"),
    ),
    no_use=("rate", "minimize"),
)
"""A search's."""
COMPARE_WITHOUT = Without(
    (
        *("constraints", "rate", "minimize", "trials", "timeout", "until", "sampler", "relaunch"),
        *("warm_start", "storage", "headers", "token_env", "tls_ca", "tls_insecure"),
        *("batch", "shared_memory", "load_engine", "model_version", "cache_hits"),
        *("mix", "hold", "bls_composing_models"),
    )
)


class Options(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class RunOptions(Options):
    output: Annotated[Path, Option("Where runs are kept.", "FOLDER", flags=("--output", "-o"))] = (
        Path("reports")
    )


def _folder_name(name: str) -> str:
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError("give a plain name such as night-1, which --output gets as a folder")
    return name


class SearchOptions(RunOptions):
    run: Annotated[
        str | None,
        AfterValidator(lambda name: None if name is None else _folder_name(name)),
        Option("Name of the run's folder in --output.", "NAME"),
    ] = None


def parse_changes(assignments: list[str] | tuple[str, ...]) -> dict[str, Value]:
    """``max_batch_size=16`` and the like, values as in YAML; lists as in ``4,8``."""
    values: dict[str, Value] = {}
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator or not path:
            raise UsageError(
                f"--set {shown(assignment)} is not valid; write it like max_batch_size=16"
            )
        values[full_path(path)] = _value(text)
    return values


def _value(text: str) -> Value:
    sizes = text.strip("[]").replace(" ", "").split(",")
    if "," in text or text.startswith("["):
        if sizes == [""]:
            return ()
        numbers = [whole_number(size) for size in sizes]
        if None not in numbers:
            return tuple(number for number in numbers if number is not None)
    try:
        value = parse_yaml(text).content
    except DocumentError:
        value = text
    return value if isinstance(value, bool | int | float | str) else text


def _changes(raw: Any) -> Any:
    """Assignments as on the command line, or a mapping; short names stand for their fields."""
    if isinstance(raw, list | tuple) and all(isinstance(each, str) for each in raw):
        return parse_changes(raw)
    return {full_path(n): v for n, v in raw.items()} if isinstance(raw, dict) else raw


Changes = Annotated[
    dict[str, Value],
    BeforeValidator(_changes),
    Option(
        "Change a field, as in max_batch_size=8; may be repeated.",
        "FIELD=VALUE",
        flags=("--set",),
        suggestions=("max_batch_size=", "dynamic_batching=", *(f"{n}=" for n in SHORT_NAMES)),
    ),
]


class MeasureOptions(RunOptions):
    changes: Changes = Field(default_factory=dict)
    rate: Annotated[
        float | None, Option("Judge this rate (requests/s); else find the capacity.", "RATE")
    ] = Field(default=None, ge=RATE_FLOOR, le=HIGHEST_RATE)


class GateOptions(RunOptions):
    """What a change is held against, and how surely."""

    against: Annotated[
        str,
        Option(
            "The version to compare with: a git revision such as origin/main, or the folder of "
            "another version; both are measured now, interleaved. Or a rate such as 800/s that has "
            "to meet the SLA; or a run on this machine, whose capacity counts.",
            "REVISION|FOLDER|RUN|RATE",
            _GATE,
        ),
    ]
    margin: Annotated[Share, Option("Share of the capacity that may be lost.", "SHARE", _GATE)] = (
        Field(default=0.05, gt=0, lt=1)
    )
    timeout: Annotated[
        Duration,
        Option("Maximum duration; what is unclear by then is inconclusive.", "DURATION", _GATE),
    ] = Field(default=300.0, gt=0)
    write: Annotated[
        tuple[str, ...],
        BeforeValidator(split_names),
        Option(
            "Also write the result to a file for other tools, as in junit=gate.xml; may be "
            f"repeated. Formats: {', '.join(GATE_FORMATS)}.",
            "FORMAT=FILE",
            _GATE,
            suggestions=tuple(f"{name}=" for name in GATE_FORMATS),
        ),
    ] = ()

    @field_validator("write")
    @classmethod
    def _known_formats(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            name, separator, file = entry.partition("=")
            if name not in GATE_FORMATS or not separator or not file:
                raise ValueError(
                    f"{shown(entry)} is not valid; write FORMAT=FILE, with one of the formats "
                    + ", ".join(GATE_FORMATS)
                )
        return entries


def _tensors(raw: Any) -> Any:
    """Each of ``x:FP32:4``: a name, a type of Triton's, and the dims of an item."""
    if not isinstance(raw, list | tuple) or not all(isinstance(each, str) for each in raw):
        return raw
    found = []
    for text in raw:
        name, _, rest = text.partition(":")
        datatype, _, dims = rest.partition(":")
        sizes = [whole_number(each.strip()) for each in dims.split(",") if each.strip()]
        if not name or datatype not in DATATYPES or None in sizes:
            raise ValueError(
                f"{shown(text)} is not valid; write NAME:TYPE:DIMS, such as x:FP32:4; types: "
                + ", ".join(DATATYPES)
            )
        found.append((name, datatype, tuple(size for size in sizes if size is not None)))
    return tuple(found)


class InitOptions(Options):
    """Of a new model repository."""

    repository: Annotated[Path, Option("The model repository.", "FOLDER", flags=("--to",))] = Path(
        "model_repository"
    )
    name: Annotated[str | None, Option("The model's name; default: the file's.", "NAME")] = None
    shapes: Annotated[
        ShapeTexts,
        Option(
            "Shape of an input with open dimensions, such as image:3,224,224, for the sample "
            "requests; may be repeated.",
            "NAME:DIMS",
            flags=("--shape",),
        ),
    ] = Field(default_factory=dict)
    inputs: Annotated[
        tuple[tuple[str, str, tuple[int, ...]], ...],
        BeforeValidator(_tensors),
        Option(
            "Of TorchScript or a Python function: what it takes, with the dims of an item, such "
            "as x:FP32:4; may be repeated.",
            "NAME:TYPE:DIMS",
            flags=("--input",),
        ),
    ] = ()
    max_batch_size: Annotated[int, Option("Largest batch, in items.", "NUMBER")] = Field(
        default=32, ge=0, le=1 << 16
    )
    serve: Annotated[
        bool,
        Option(
            "Whether to serve it once, and hold its answers against the model's own runtime.",
            flags=("--serve/--no-serve",),
        ),
    ] = True
    launcher: Annotated[
        Literal["auto", "docker", "local"],
        Option("How it is served: auto, docker or local.", "KIND"),
    ] = "auto"
    image: Annotated[str, Option("Docker image of Triton.", "NAME")] = DEFAULT_IMAGE


class JobOptions(Options):
    """Of the Kubernetes Job that runs a search."""

    folder: Annotated[Path, Option("Where the manifests go.", "FOLDER", _JOB, flags=("--to",))]
    job_image: Annotated[str, Option("Image with tuner and Triton.", "NAME", _JOB)]
    models_claim: Annotated[
        str, Option("PersistentVolumeClaim with the model repository.", "NAME", _JOB)
    ] = "models"
    runs_claim: Annotated[str, Option("Claim that keeps the run; it is made.", "NAME", _JOB)] = (
        "tuner-runs"
    )
    cpus: Annotated[int, Option("Cores of the pod.", "NUMBER", _JOB)] = Field(default=8, ge=2)
    memory: Annotated[Size, Option("Memory of the pod.", "SIZE", _JOB)] = Field(
        default=16 << 30, ge=1 << 30
    )
    gpu_count: Annotated[int, Option("GPUs of the pod.", "NUMBER", _JOB)] = Field(default=1, ge=0)


class SimulateOptions(Options):
    """What is None is as in the run; without a rate it is near the capacity."""

    changes: Changes = Field(default_factory=dict)
    rate: Annotated[float | None, Option("Requests/s; at capacity if not given.", "RATE")] = Field(
        default=None, ge=RATE_FLOOR, le=HIGHEST_RATE
    )
    sla: Annotated[SlaText | None, SLA] = None
    load: Annotated[LoadText | None, LOAD] = None
    batch: Annotated[BatchText | None, BATCH] = None
    seed: Annotated[int, SEED] = Field(default=0, ge=0, le=LARGEST_SEED)


class CompareOptions(RunOptions):
    """What is compared, and against which load.

    ``deployments`` are names of tuner's own, or YAML files that describe services of the user's;
    all of tuner's own if there are none. The tuned configuration is the winner of the run
    ``tuned``; where that is None, a search of ``search_timeout`` seconds finds it, if ``search``.
    """

    deployments: Annotated[
        tuple[str, ...],
        BeforeValidator(split_names),
        Option(
            "What to compare, with commas: naive, fastapi, triton, triton-unbatched, triton-tuned, "
            "hybrid (FastAPI in front of Triton); all of these by default. YAML files describe "
            "services of yours.",
            "NAMES",
            _WHAT,
        ),
    ] = ()
    target_rate: Annotated[
        float | None, Option("Also say what it takes to serve so many requests/s.", "RATE", _WHAT)
    ] = Field(default=None, ge=RATE_FLOOR)
    tuned: Annotated[
        Path | None,
        Option("The search whose winner is Triton tuned; else one is made first.", "RUN", _WHAT),
    ] = None
    search_timeout: Annotated[
        Duration, Option("Maximum duration of that search.", "DURATION", _WHAT)
    ] = Field(default=90.0, gt=0)
    search: Annotated[
        bool,
        Option(
            "Whether to search for a better configuration of Triton first.",
            panel=_WHAT,
            flags=("--search/--no-search",),
        ),
    ] = True
    requests: Annotated[
        Path | None,
        Option(
            "File of requests, one per line: text, or a JSON body of /predict. Default: the "
            "model's samples.txt.",
            "FILE",
            _WHAT,
        ),
    ] = None
    processing: Annotated[
        str | None,
        Option(
            "Pre- and post-processing; the model's own processing.py if not given.", "FILE", _WHAT
        ),
    ] = None
    fastapi_workers: Annotated[
        int | None,
        Option(
            "uvicorn workers of FastAPI; one for each core, at most 4, if not given.",
            "NUMBER",
            _WHAT,
        ),
    ] = Field(default=None, ge=1, le=64)
    gateway_workers: Annotated[
        int | None,
        Option(
            "uvicorn workers of the gateway; one for each two cores if not given.", "NUMBER", _WHAT
        ),
    ] = Field(default=None, ge=1, le=64)
    rounds: Annotated[int, Option("Interleaved rounds; 1 for a quick look.", "NUMBER", _WHAT)] = (
        Field(default=3, ge=1, le=20)
    )
    swaps: Annotated[
        bool,
        Option(
            "Whether to replace the model while it serves.",
            panel=_WHAT,
            flags=("--swaps/--no-swaps",),
        ),
    ] = True
