"""The settings of a service. Its workers get them through their environment.

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
"""Set to 1 for workers that replace others: they load first and accept connections then."""


FAILURE = "TUNER_FAILURE"
"""The variable that names a file; the first worker that cannot start makes it, and says why."""


def _parse_delay(raw: Any) -> Any:
    return 0.0 if raw in ("0", "0s") else raw


Delay = Annotated[Duration, BeforeValidator(_parse_delay)]
"""Seconds; unlike other durations it may be ``0s``."""
EngineKind = Literal["auto", "onnx", "torch"]

_SERVICE = "The service"
_BOUNDS = "Limits"
_MODEL = "The model"
_TRITON = "Triton"
_ACCESS = "Access"
_GATEWAY_ACCESS = "Access (gateway only)"
_TRACES = "Traces (gateway only)"


class ServiceSettings(BaseModel):
    """``startup`` is the time that a worker has to load its model, in seconds. ``X-Forwarded-For``
    is ignored from all but ``trusted_proxies``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    host: Annotated[str, Option("Address to listen on.", "ADDRESS", _SERVICE)] = "127.0.0.1"
    port: Annotated[int, Option("Port to listen on; 0 picks a free one.", "NUMBER", _SERVICE)] = (
        Field(default=8080, ge=0, le=65535)
    )
    workers: Annotated[int, Option("Worker processes.", "NUMBER", _SERVICE)] = Field(
        default=1, ge=1, le=256
    )
    graceful: Annotated[
        Duration,
        Option("Time for requests in flight to finish after SIGTERM.", "DURATION", _SERVICE),
    ] = Field(default=10.0, gt=0)
    drain_delay: Annotated[
        Delay,
        Option(
            "After SIGTERM, keep accepting connections for this long while /healthz answers 503, "
            "so that a load balancer stops sending requests; 5s on Kubernetes.",
            "DURATION",
            _SERVICE,
        ),
    ] = Field(default=0.0, ge=0)
    startup: float = Field(default=600.0, gt=0)
    timeout: Annotated[
        Duration,
        Option("Deadline of a request, its body included; then 408 or 504.", "DURATION", _BOUNDS),
    ] = Field(default=10.0, gt=0)
    max_body: Annotated[
        Size, Option("Largest request body; larger ones get 413.", "SIZE", _BOUNDS)
    ] = Field(default=1 << 20, ge=1)
    max_items: Annotated[int, Option("Most items in one /batch_predict.", "NUMBER", _BOUNDS)] = (
        Field(default=256, ge=1)
    )
    allow_unauthenticated: Annotated[
        bool,
        Option(
            "Listen beyond loopback without API keys: anyone who reaches the port may use it.",
            panel=_ACCESS,
        ),
    ] = False
    trusted_proxies: tuple[Proxy, ...] = ()

    @classmethod
    def from_environment(cls) -> Self:
        """The settings that ``to_environment`` wrote; UsageError if there are none."""
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
            "Folder of a model, or its name in ./model_repository or among the sample models.",
            argument=True,
        ),
    ]
    workers: Annotated[
        int, Option("Worker processes, each with a copy of the model.", "NUMBER", _SERVICE)
    ] = Field(default=1, ge=1, le=256)
    threads: Annotated[int, Option("Threads of one inference.", "NUMBER", _MODEL)] = Field(
        default=1, ge=1
    )
    concurrency: Annotated[
        int | None,
        Option(
            "Concurrent inferences in each worker; by default, its share of the cores.",
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
            "FILE.py or module:function with pre- and post-processing; by default processing.py in "
            "the model's folder, or plain tensors if there is none.",
            "FILE",
            _MODEL,
        ),
    ] = None
    naive: Annotated[
        bool,
        Option(
            "Compute on the event loop, as most tutorials do; for comparison only.",
            panel=_MODEL,
        ),
    ] = False
    queue: Annotated[
        int,
        Option(
            "Requests that may queue for the model in each worker; more get 503.",
            "NUMBER",
            _BOUNDS,
        ),
    ] = Field(default=1024, ge=0)


class GatewaySettings(ServiceSettings):
    """``folder`` holds the model's files, if they are on this machine. Keys are never in here:
    ``api_keys`` names their file.
    """

    model: Annotated[
        str,
        Option(
            "The model's name on Triton; or its folder (with a slash), to use its processing.py.",
            argument=True,
        ),
    ]
    triton: Annotated[
        str, Option("Triton's gRPC address; grpcs://HOST:PORT uses TLS.", "HOST:PORT", _TRITON)
    ] = "localhost:8001"
    channels: Annotated[
        int,
        Option(
            "Connections from each worker to Triton; each carries any number of requests.",
            "NUMBER",
            _TRITON,
        ),
    ] = Field(default=1, ge=1, le=64)
    tls_ca: Annotated[
        Path | None, Option("CA certificates that verify Triton's certificate.", "FILE", _TRITON)
    ] = None
    tls_certificate: Annotated[
        Path | None, Option("Client certificate, for mutual TLS.", "FILE", _TRITON)
    ] = None
    tls_key: Annotated[
        Path | None, Option("Private key of the client certificate.", "FILE", _TRITON)
    ] = None
    folder: Path | None = None
    processing: Annotated[
        str | None,
        Option(
            "FILE.py or module:function with the model's pre- and post-processing; by default, "
            "requests and replies hold the model's tensors.",
            "FILE",
        ),
    ] = None
    api_keys: Annotated[
        Path | None,
        Option(
            "File of API keys: lines NAME:KEY or NAME:sha256:DIGEST. Or set TUNER_API_KEYS to such "
            "lines. Without keys, the gateway listens on loopback only.",
            "FILE",
            _GATEWAY_ACCESS,
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[Proxy, ...],
        Option(
            "Address or network of a proxy in front, whose X-Forwarded-For names the client; "
            "repeatable. The header is ignored from all others.",
            "ADDRESS",
            _GATEWAY_ACCESS,
            flags=("--trusted-proxy",),
        ),
    ] = ()
    rate_limit: Annotated[
        str | None,
        Option(
            "Rate limit per API key, or per address without keys: '100/second;5000/minute'.",
            "RATES",
            _GATEWAY_ACCESS,
        ),
    ] = None
    limit_storage: Annotated[
        str,
        Option(
            "Where rates are counted: memory:// in each worker separately, redis://HOST:PORT for "
            "all workers and machines together.",
            "URL",
            _GATEWAY_ACCESS,
        ),
    ] = "memory://"
    max_in_flight: Annotated[
        int,
        Option(
            "Most requests in flight in each worker, counted once their body is complete; more get "
            "503 at once.",
            "NUMBER",
            _BOUNDS,
        ),
    ] = Field(default=512, ge=1)
    tracing: Annotated[
        bool, Option("Send traces to OTEL_EXPORTER_OTLP_ENDPOINT.", panel=_TRACES)
    ] = False
    otel_endpoint: Annotated[
        str | None,
        Option("Send traces to this OTLP collector, over gRPC: http://HOST:4317.", "URL", _TRACES),
    ] = None


class TritonSettings(BaseModel):
    """Of a Triton server on this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: Annotated[
        str | None,
        Option(
            "A model repository; or one model, by its folder, its name in ./model_repository or "
            "among the sample models. By default ./model_repository.",
            "MODEL_OR_REPOSITORY",
            argument=True,
        ),
    ] = None
    host: Annotated[str, Option("Address to listen on.", "ADDRESS", _SERVICE)] = "127.0.0.1"
    http_port: Annotated[int, Option("Port for HTTP; 0 picks a free one.", "NUMBER", _SERVICE)] = (
        Field(default=8000, ge=0, le=65535)
    )
    grpc_port: Annotated[int, Option("Port for gRPC; 0 picks a free one.", "NUMBER", _SERVICE)] = (
        Field(default=8001, ge=0, le=65535)
    )
    metrics_port: Annotated[
        int, Option("Port for Prometheus metrics; 0 picks a free one.", "NUMBER", _SERVICE)
    ] = Field(default=8002, ge=0, le=65535)
    allow_unauthenticated: Annotated[
        bool,
        Option("Listen beyond loopback: anyone who reaches the ports may use it.", panel=_ACCESS),
    ] = False


def is_replacement() -> bool:
    return os.environ.get(REPLACEMENT) == "1"
