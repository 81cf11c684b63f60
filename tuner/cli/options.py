"""Options that several commands share, and how they become an experiment."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tuner.errors import UsageError
from tuner.goals.sla import Sla
from tuner.model.space import SHORT_NAMES, Value

_WHERE = "Where servers run"
_LOAD = "What is sent"
_HOW = "How to search"

Model = Annotated[
    str | None,
    typer.Argument(
        help="Folder of a model, or its name in ./model_repository or among the samples. "
        "Without it: the only model of ./model_repository.",
        show_default=False,
    ),
]
SlaP99 = Annotated[
    str | None,
    typer.Option("--sla-p99", help="The promise: p99 latency, as in 20ms.", metavar="DURATION"),
]
SlaText = Annotated[
    str | None,
    typer.Option("--sla", help="Any bounds that hold at once: 'p50<5ms,p99<20ms'.", metavar="TEXT"),
]
Constraints = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        help="A limit besides the promise: 'gpu_memory<20GiB,cpu<=4'; may be repeated.",
        metavar="TEXT",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="Experiment file; ./tuner.yaml if there is one.", metavar="FILE"),
]
Space = Annotated[
    str | None,
    typer.Option("--space", help="Search space: a preset's name or a YAML file.", metavar="NAME"),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where runs are kept.")]
LauncherKind = Annotated[
    str | None,
    typer.Option(
        "--launcher",
        help="auto, docker, local or attached.",
        metavar="KIND",
        rich_help_panel=_WHERE,
    ),
]
Image = Annotated[
    str | None, typer.Option("--image", help="Docker image of Triton.", rich_help_panel=_WHERE)
]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus", help="For Docker: auto, all, none or 0,1.", metavar="IDS", rich_help_panel=_WHERE
    ),
]
ShmSize = Annotated[
    str | None,
    typer.Option("--shm-size", help="For Docker, as in 2GiB.", rich_help_panel=_WHERE),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env", help="NAME=value for the server; may be repeated.", rich_help_panel=_WHERE
    ),
]
ServerArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--server-arg", help="Extra tritonserver flag; may be repeated.", rich_help_panel=_WHERE
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="For attached: HTTP address of a server with explicit model control; https:// for "
        "TLS.",
        metavar="HOST:PORT",
        rich_help_panel=_WHERE,
    ),
]
GrpcUrl = Annotated[
    str | None,
    typer.Option(
        "--grpc-url",
        help="Its gRPC address; grpcs:// for TLS.",
        metavar="HOST:PORT",
        rich_help_panel=_WHERE,
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        help="For attached: 'Name: value' to send with every request; may be repeated. The value "
        "is not recorded.",
        metavar="TEXT",
        rich_help_panel=_WHERE,
    ),
]
TokenEnv = Annotated[
    str | None,
    typer.Option(
        "--token-env",
        help="For attached: environment variable that holds a bearer token.",
        metavar="NAME",
        rich_help_panel=_WHERE,
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        help="For attached: certificates (PEM) to trust instead of the system's.",
        metavar="FILE",
        rich_help_panel=_WHERE,
    ),
]
TlsInsecure = Annotated[
    bool | None,
    typer.Option(
        "--tls-insecure",
        help="For attached: take any certificate.",
        rich_help_panel=_WHERE,
    ),
]
StartupTimeout = Annotated[
    str | None,
    typer.Option(
        "--startup-timeout",
        help="How long a server may take to load the model.",
        metavar="DURATION",
        rich_help_panel=_WHERE,
    ),
]
ProtocolKind = Annotated[
    str | None,
    typer.Option("--protocol", help="http or grpc.", metavar="KIND", rich_help_panel=_LOAD),
]
Load = Annotated[
    str | None,
    typer.Option(
        "--load",
        help="Arrivals: poisson, constant, gamma:CV (bursts), piecewise:1x5s,3x1s, trace:FILE; or "
        "closed (so many at a time).",
        metavar="KIND",
        rich_help_panel=_LOAD,
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch",
        help="Items per request: 8, or sizes with shares as in 1:0.7,4:0.2,16:0.1.",
        metavar="SIZES",
        rich_help_panel=_LOAD,
    ),
]
SharedMemory = Annotated[
    str | None,
    typer.Option(
        "--shared-memory",
        help="system: inputs and outputs in shared memory of this machine; or none.",
        metavar="KIND",
        rich_help_panel=_LOAD,
    ),
]
LoadEngine = Annotated[
    str | None,
    typer.Option(
        "--load-engine",
        help="Who sends: tuner, or perf_analyzer if you have it.",
        metavar="NAME",
        rich_help_panel=_LOAD,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Load processes.", rich_help_panel=_LOAD),
]
Pin = Annotated[
    str | None,
    typer.Option(
        "--pin",
        help="Cores of their own: auto, or SERVER:LOAD or SERVER:STUBS:LOAD, as in "
        "0-3:4-11:12-15; or none.",
        metavar="CORES",
        rich_help_panel=_LOAD,
    ),
]
InputData = Annotated[
    Path | None,
    typer.Option(
        "--input-data",
        help="Request contents in perf_analyzer's JSON format.",
        metavar="FILE",
        rich_help_panel=_LOAD,
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        help="Dimensions that the model leaves open, as in image:3,224,224; may be repeated.",
        metavar="NAME:DIMS",
        rich_help_panel=_LOAD,
    ),
]
Confirm = Annotated[
    str | None,
    typer.Option(
        "--confirm",
        help="The final test of a rate: sequential; mlperf for LoadGen's rule in 60 s; or none.",
        metavar="TEST",
        rich_help_panel=_LOAD,
    ),
]
Minimize = Annotated[
    str | None,
    typer.Option(
        "--minimize",
        help="In place of capacity, at --rate: p99, instances, gpu_memory, memory, cpu, energy, or "
        "a sum such as p99/10ms + 0.5*instances.",
        metavar="OBJECTIVE",
    ),
]
AtRate = Annotated[
    float | None,
    typer.Option(
        "--rate", min=0.01, help="Requests/s at which --minimize compares.", metavar="RATE"
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="Who chooses candidates: simulation, Optuna's tpe, gp or random, or one of "
        "OptunaHub's as in hub:samplers/auto_sampler.",
        metavar="NAME",
        rich_help_panel=_HOW,
    ),
]
Relaunch = Annotated[
    str | None,
    typer.Option(
        "--relaunch",
        help="auto: change a running server where Triton can in place; or always.",
        metavar="WHEN",
        rich_help_panel=_HOW,
    ),
]
WarmStart = Annotated[
    Path | None,
    typer.Option(
        "--warm-start",
        help="A run of the same model: what it learned is not learned again.",
        metavar="RUN",
        rich_help_panel=_HOW,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        help="Stop once no candidate is expected to gain more; 1% by default.",
        metavar="SHARE",
        rich_help_panel=_HOW,
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all that is random.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]


def promise(sla_p99: str | None, sla: str | None) -> str | None:
    """The Sla's text out of the two ways to write it."""
    if sla_p99 is not None and sla is not None:
        raise UsageError(
            "give --sla-p99 or --sla, not both; --sla 'p50<5ms,p99<20ms' takes several"
        )
    text = f"p99<{sla_p99}" if sla_p99 is not None else sla
    if text is not None:
        Sla.parse(text)
    return text


def settings(assignments: list[str] | None) -> dict[str, Value]:
    """``max_batch_size=16`` and the like, values as in YAML; lists as in ``4,8``."""
    values: dict[str, Value] = {}
    for assignment in assignments or []:
        path, separator, text = assignment.partition("=")
        if not separator or not path:
            raise UsageError(
                f"--set {assignment!r} does not parse; write it like max_batch_size=16"
            )
        values[SHORT_NAMES.get(path, path)] = _value(text)
    return values


def _value(text: str) -> Value:
    sizes = text.strip("[]").replace(" ", "").split(",")
    if "," in text or text.startswith("["):
        if sizes == [""]:
            return ()
        if all(size.isdigit() for size in sizes):
            return tuple(int(size) for size in sizes)
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    return value if isinstance(value, bool | int | float | str) else text
