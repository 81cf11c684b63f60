"""What a service is told when it starts. Its workers get it through their environment.

Each field with an ``Option`` is one of ``tuner serve``, too.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tuner.errors import UsageError
from tuner.experiment.options import Duration, Option, Size
from tuner.serving.exposure import Proxy

ENVIRONMENT = "TUNER_SERVICE"
"""The variable that holds the settings as JSON, from the supervisor to its workers."""
REPLACEMENT = "TUNER_REPLACEMENT"
"""Set to 1 for workers that take over from others: they load first and accept connections then."""


def _parse_delay(raw: Any) -> Any:
    return 0.0 if raw in ("0", "0s") else raw


Delay = Annotated[Duration, BeforeValidator(_parse_delay)]
"""Seconds; unlike other durations it may be ``0s``."""
EngineKind = Literal["auto", "onnx", "torch"]

_SERVICE = "The service"
_BOUNDS = "What is turned away"
_MODEL = "How it computes"
_TRITON = "Triton"
_CALLERS = "Who may ask, and how much"


class ServiceSettings(BaseModel):
    """``startup`` is what a worker may take to load its model, in seconds. ``X-Forwarded-For``
    counts from ``trusted_proxies`` alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    host: Annotated[str, Option("Address to listen on.", "ADDRESS", _SERVICE)] = "127.0.0.1"
    port: Annotated[int, Option("0 takes a free one.", "NUMBER", _SERVICE)] = Field(
        default=8080, ge=0, le=65535
    )
    workers: Annotated[int, Option("Processes.", "NUMBER", _SERVICE)] = Field(
        default=1, ge=1, le=256
    )
    graceful: Annotated[
        Duration,
        Option("What requests get to end in when the service is stopped.", "DURATION", _SERVICE),
    ] = Field(default=10.0, gt=0)
    drain_delay: Annotated[
        Delay,
        Option(
            "How long the service still accepts connections after SIGTERM, while /healthz answers "
            "503. Give a load balancer time to see it: 5s on Kubernetes.",
            "DURATION",
            _SERVICE,
        ),
    ] = Field(default=0.0, ge=0)
    startup: float = Field(default=600.0, gt=0)
    timeout: Annotated[
        Duration,
        Option("What a request may take, its body included; then 408 or 504.", "DURATION", _BOUNDS),
    ] = Field(default=10.0, gt=0)
    max_body: Annotated[Size, Option("The largest body.", "SIZE", _BOUNDS)] = Field(
        default=1 << 20, ge=1
    )
    max_items: Annotated[int, Option("The largest /batch_predict.", "NUMBER", _BOUNDS)] = Field(
        default=256, ge=1
    )
    allow_unauthenticated: Annotated[
        bool,
        Option(
            "Listen beyond loopback without API keys: whoever reaches the port may ask.",
            panel=_CALLERS,
        ),
    ] = False
    trusted_proxies: tuple[Proxy, ...] = ()

    @classmethod
    def from_environment(cls) -> Self:
        """What ``to_environment`` left; UsageError where nothing did."""
        text = os.environ.get(ENVIRONMENT)
        if text is None:
            raise UsageError(f"{ENVIRONMENT} is not set; start the service with 'tuner serve'")
        return cls.model_validate_json(text)

    def to_environment(self) -> None:
        os.environ[ENVIRONMENT] = self.model_dump_json()


class FastApiSettings(ServiceSettings):
    """Of a service with the model in its own process. ``model`` is its folder."""

    model: Annotated[
        Path,
        Option(
            "Folder of a model, or its name in ./model_repository or among the samples.",
            argument=True,
        ),
    ]
    workers: Annotated[
        int, Option("Processes, each with a copy of the model.", "NUMBER", _SERVICE)
    ] = Field(default=1, ge=1, le=256)
    threads: Annotated[int, Option("Threads of one computation.", "NUMBER", _MODEL)] = Field(
        default=1, ge=1
    )
    concurrency: Annotated[
        int | None,
        Option(
            "Computations at a time in each worker; as its share of the cores allows if not given.",
            "NUMBER",
            _MODEL,
        ),
    ] = Field(default=None, ge=1)
    engine: Annotated[EngineKind, Option("auto, onnx or torch (extra torch).", "KIND", _MODEL)] = (
        "auto"
    )
    processing: Annotated[
        str | None,
        Option(
            "FILE.py or module:function with pre- and post-processing; processing.py in the "
            "model's folder if not given, and plain tensors without that.",
            "FILE",
            _MODEL,
        ),
    ] = None
    naive: Annotated[
        bool,
        Option(
            "As it is often written: computes on the event loop. To compare with, only.",
            panel=_MODEL,
        ),
    ] = False
    queue: Annotated[
        int,
        Option(
            "Requests that may wait for the model in each worker; more are answered with 503.",
            "NUMBER",
            _BOUNDS,
        ),
    ] = Field(default=1024, ge=0)


class GatewaySettings(ServiceSettings):
    """``folder`` is where the model's files lie, if they are at hand. Keys are never in here:
    ``api_keys`` names their file.
    """

    model: Annotated[
        str,
        Option(
            "The model's name on Triton, or its folder (written with a slash), whose "
            "processing.py is then used.",
            argument=True,
        ),
    ]
    triton: Annotated[
        str, Option("Triton's gRPC service; grpcs://HOST:PORT is over TLS.", "HOST:PORT", _TRITON)
    ] = "localhost:8001"
    channels: Annotated[
        int,
        Option(
            "Connections to Triton of each worker; each carries any number of requests.",
            "NUMBER",
            _TRITON,
        ),
    ] = Field(default=1, ge=1, le=64)
    tls_ca: Annotated[
        Path | None, Option("Certificates that Triton's is signed by.", "FILE", _TRITON)
    ] = None
    tls_certificate: Annotated[
        Path | None, Option("A certificate for Triton to see.", "FILE", _TRITON)
    ] = None
    tls_key: Annotated[Path | None, Option("The key of that certificate.", "FILE", _TRITON)] = None
    folder: Path | None = None
    processing: Annotated[
        str | None,
        Option(
            "FILE.py or module:function with the model's pre- and post-processing; without it, "
            "requests and answers are the model's tensors.",
            "FILE",
        ),
    ] = None
    api_keys: Annotated[
        Path | None,
        Option(
            "File of NAME:KEY lines, or NAME:sha256:DIGEST; or set TUNER_API_KEYS to such lines. "
            "Without either, everybody is let in, and it listens on loopback only.",
            "FILE",
            _CALLERS,
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[Proxy, ...],
        Option(
            "Address or network of a proxy in front, whose X-Forwarded-For names the client; may "
            "be repeated. From others the header counts for nothing.",
            "ADDRESS",
            _CALLERS,
            flags=("--trusted-proxy",),
        ),
    ] = ()
    rate_limit: Annotated[
        str | None,
        Option(
            "For each key, or address where there are none: '100/second;5000/minute'.",
            "RATES",
            _CALLERS,
        ),
    ] = None
    limit_storage: Annotated[
        str,
        Option(
            "Where rates are counted: redis://HOST:PORT for all workers and machines, memory:// "
            "for each worker by itself.",
            "URL",
            _CALLERS,
        ),
    ] = "memory://"
    max_in_flight: Annotated[
        int,
        Option(
            "Requests inside a worker, from the end of the body to the answer; more are answered "
            "with 503 at once.",
            "NUMBER",
            _BOUNDS,
        ),
    ] = Field(default=512, ge=1)
    tracing: Annotated[
        bool, Option("Send traces to where OTEL_EXPORTER_OTLP_ENDPOINT says.", panel=_SERVICE)
    ] = False
    otel_endpoint: Annotated[
        str | None,
        Option("Send traces there, by OTLP over gRPC: http://HOST:4317.", "URL", _SERVICE),
    ] = None


def is_replacement() -> bool:
    return os.environ.get(REPLACEMENT) == "1"
