"""The experiment: everything that decides what a run does. YAML, environment, command line."""

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tuner.cores import NONE, parse_cores
from tuner.errors import RepositoryError, UsageError
from tuner.goals.constraints import parse_constraints
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.load.batches import BatchMix
from tuner.model.space import did_you_mean
from tuner.resources import bundled
from tuner.security import Security, parse_header
from tuner.units import parse_duration, parse_share, parse_size

FILE = Path("tuner.yaml")
PREFIX = "TUNER_"
SAMPLE = "text_classifier"
DEFAULT_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"

_BUDGET = ("trials", "until", "timeout", "warm_start")
_ACCESS = ("headers", "token_env", "tls_ca", "tls_insecure")


class Experiment(BaseModel):
    """What to tune, under which promise, where, and for how long.

    Durations are seconds; text such as ``20ms`` and ``3m`` is taken, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: Path
    sla: str
    constraints: tuple[str, ...] = ()
    minimize: str | None = None
    rate: float | None = Field(default=None, gt=0)
    space: str = "default"
    launcher: Literal["auto", "docker", "local", "attached"] = "auto"
    image: str = DEFAULT_IMAGE
    gpus: str = "auto"
    shm_size: int = Field(default=1 << 30, gt=0)
    env: tuple[str, ...] = ()
    server_args: tuple[str, ...] = ()
    url: str | None = None
    grpc_url: str | None = None
    headers: tuple[str, ...] = Field(default=(), exclude=True, repr=False)
    token_env: str | None = None
    tls_ca: Path | None = None
    tls_insecure: bool = False
    startup_timeout: float = Field(default=120.0, gt=0)
    protocol: Literal["http", "grpc"] = "http"
    load: str = "poisson"
    batch: str = "1"
    shared_memory: Literal["none", "system"] = "none"
    load_engine: Literal["tuner", "perf_analyzer"] = "tuner"
    workers: int = Field(default=1, ge=1, le=64)
    pin: str = NONE
    confirm: Literal["sequential", "mlperf", "none"] = "sequential"
    sampler: str = "simulation"
    relaunch: Literal["auto", "always"] = "auto"
    warm_start: Path | None = None
    input_data: Path | None = None
    shapes: tuple[str, ...] = ()
    trials: int | None = Field(default=None, ge=1)
    until: float = Field(default=0.01, gt=0, lt=1)
    timeout: float = Field(default=180.0, gt=0)
    seed: int = Field(default=0, ge=0)
    storage: str | None = None

    @field_validator("timeout", "startup_timeout", mode="before")
    @classmethod
    def _duration(cls, raw: Any) -> Any:
        return parse_duration(raw) if isinstance(raw, str) else raw

    @field_validator("until", mode="before")
    @classmethod
    def _share(cls, raw: Any) -> Any:
        return parse_share(raw) if isinstance(raw, str) else raw

    @field_validator("shm_size", mode="before")
    @classmethod
    def _size(cls, raw: Any) -> Any:
        return parse_size(raw) if isinstance(raw, str) else raw

    @field_validator("pin")
    @classmethod
    def _pin(cls, raw: str) -> str:
        parse_cores(raw)
        return raw

    @field_validator("sla")
    @classmethod
    def _sla(cls, raw: str) -> str:
        Sla.parse(raw)
        return raw

    @field_validator("constraints", mode="before")
    @classmethod
    def _constraints(cls, raw: Any) -> Any:
        texts = (raw,) if isinstance(raw, str) else raw
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            return raw
        return tuple(str(each) for text in texts for each in parse_constraints(text))

    @field_validator("sampler")
    @classmethod
    def _sampler(cls, raw: str) -> str:
        if raw not in ("simulation", "tpe", "gp", "random") and not raw.startswith("hub:"):
            raise ValueError(
                "write simulation, tpe, gp, random or, as in hub:samplers/auto_sampler, one of "
                "OptunaHub's"
            )
        return raw

    @field_validator("minimize")
    @classmethod
    def _minimize(cls, raw: str | None) -> str | None:
        return None if raw is None else str(Objective.parse(raw, 1.0))

    @field_validator("load")
    @classmethod
    def _load(cls, raw: str) -> str:
        if raw != CLOSED:
            Arrivals.parse(raw)
        return raw

    @field_validator("batch", mode="before")
    @classmethod
    def _batch(cls, raw: Any) -> Any:
        text = str(raw) if isinstance(raw, int) else raw
        if isinstance(text, str):
            BatchMix.parse(text)
        return text

    @field_validator("shapes")
    @classmethod
    def _shapes(cls, raw: tuple[str, ...]) -> tuple[str, ...]:
        for text in raw:
            parse_shape(text)
        return raw

    @field_validator("headers", mode="before")
    @classmethod
    def _headers(cls, raw: Any) -> tuple[str, ...]:
        """Texts ``Name: value`` or, as YAML makes of them without quotes, mappings."""
        entries = raw if isinstance(raw, list | tuple) else [raw]
        texts = []
        for entry in entries:
            pairs = entry.items() if isinstance(entry, dict) else ()
            texts += [f"{n}: {v}" for n, v in pairs] if pairs else [str(entry)]
        for text in texts:
            parse_header(text)
        return tuple(texts)

    @field_validator("env")
    @classmethod
    def _env(cls, raw: tuple[str, ...]) -> tuple[str, ...]:
        for entry in raw:
            if "=" not in entry:
                raise ValueError(f"{entry!r} does not parse; write it like NAME=value")
        return raw

    def objective(self) -> Objective | None:
        """What to minimise instead of maximising the capacity; UsageError where options clash."""
        if self.minimize is None:
            return None
        if self.rate is None:
            raise UsageError("--minimize needs the rate to compare at: add --rate, in requests/s")
        if self.load == CLOSED:
            raise UsageError("--minimize goes with an open loop such as --load poisson")
        return Objective.parse(self.minimize, self.rate)

    @property
    def attaches(self) -> bool:
        """Whether the server is one that others run."""
        return self.launcher == "attached" or (self.launcher == "auto" and self.url is not None)

    def security(self) -> Security:
        """UsageError where an option does not parse, or goes with an attached server only."""
        given = [
            name
            for name in ("header", "token-env", "tls-ca", "tls-insecure")
            if getattr(self, "headers" if name == "header" else name.replace("-", "_"))
        ]
        if given and not self.attaches:
            raise UsageError(
                f"--{given[0]} goes with a server that runs already: add --launcher attached --url "
                "https://HOST:PORT"
            )
        ca = None if self.tls_ca is None else str(self.tls_ca)
        return Security.of(self.headers, self.token_env, ca, self.tls_insecure)

    def access(self) -> dict[str, Any]:
        """What may be recorded of how tuner is let in, without what is not set."""
        names = self.security().names
        fields = {**self.model_dump(mode="json", include=set(_ACCESS)), "headers": list(names)}
        return {name: fields[name] for name in _ACCESS if fields[name]}

    def identity(self) -> dict[str, Any]:
        """What two invocations must share to be the same run: all but the budget, what was known
        before, and how tuner is let in; and a trace's digest.
        """
        fields = self.model_dump(mode="json", exclude={*_BUDGET, *_ACCESS})
        if self.pin == NONE:
            del fields["pin"]  # as runs of before there were pins have it
        trace = None if self.load == CLOSED else Arrivals.parse(self.load).sha256
        return {**fields, "trace_sha256": trace} if trace else fields


def resolve(options: dict[str, Any], file: Path | None) -> Experiment:
    """The experiment out of a YAML file (``tuner.yaml`` where none is named), environment variables
    (``TUNER_TIMEOUT=5m``) and options, later ones first; None means not given.
    """
    values = {**_from_file(file), **_from_environment()}
    values.update({name: value for name, value in options.items() if value not in (None, (), [])})
    if "sla" not in values:
        raise UsageError("no promise is given; say which, as in --sla-p99 20ms")
    values["model"] = find_model(values.get("model"))
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise UsageError("\n".join(_explain(e) for e in error.errors())) from error


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``name:3,224,224`` as in --shape."""
    name, separator, dims = text.rpartition(":")
    try:
        sizes = tuple(int(size) for size in dims.split(","))
    except ValueError:
        sizes = ()
    if not separator or not name or not sizes or min(sizes) < 1:
        raise UsageError(f"--shape {text!r} does not parse; write it like name:3,224,224")
    return name, sizes


def find_model(name: Any) -> Path:
    """The folder of a model: by its path, by its name in ./model_repository, or among the samples.

    With no name: the only model of ./model_repository, or the sample where there is no such folder.
    """
    own = Path("model_repository")
    if name is None:
        models = _models(own)
        if len(models) == 1:
            return models[0].resolve()
        if models:
            raise RepositoryError(
                f"{own} holds several models; name one of {', '.join(m.name for m in models)}"
            )
        return bundled("model_repository") / SAMPLE
    path = Path(str(name))
    for place in (path, own / path, bundled("model_repository") / path):
        if (place / "config.pbtxt").is_file():
            return place.resolve()
    raise RepositoryError(_no_model(path, own))


def _models(repository: Path) -> list[Path]:
    if not repository.is_dir():
        return []
    return sorted(p.parent for p in repository.glob("*/config.pbtxt"))


def _no_model(path: Path, own: Path) -> str:
    if not path.is_dir():
        known = [m.name for m in (*_models(own), *_models(bundled("model_repository")))]
        return f"there is no model {str(path)!r}{did_you_mean(path.name, sorted(set(known)))}"
    inside = _models(path)
    if inside:
        return f"{path} is a repository; name one of its models, such as {inside[0]}"
    return f"{path} has no config.pbtxt; tuner needs the model's own configuration as a start"


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None and not FILE.is_file():
        return {}
    path = file or FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"cannot read {path}: {reason}") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: an experiment is a mapping such as 'sla: p99<20ms'")
    for key in content:
        if key not in Experiment.model_fields:
            hint = did_you_mean(str(key), list(Experiment.model_fields))
            raise UsageError(f"{path}: unknown field {key!r}{hint}")
    for key in ("model", "input_data", "tls_ca"):
        value = content.get(key)
        beside = path.parent / str(value)
        if value is not None and beside.exists():
            content[key] = beside
    kind, _, trace = str(content.get("load", "")).partition(":")
    if kind == "trace" and trace and (path.parent / trace).exists():
        content["load"] = f"trace:{path.parent / trace}"
    return content


def _from_environment() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in Experiment.model_fields.items():
        text = os.environ.get(PREFIX + name.upper())
        if text is not None:
            many = "tuple" in str(field.annotation)
            words = text.splitlines() if name == "headers" else text.split()
            values[name] = tuple(word for word in words if word.strip()) if many else text
    return values


def _explain(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name.replace('_', '-')}: {message}, not {error['input']!r}"
