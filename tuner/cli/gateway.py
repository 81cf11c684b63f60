"""The command ``tuner serve gateway``."""

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.exit_codes import exit_codes
from tuner.errors import UsageError
from tuner.units import parse_duration, parse_size

_TRITON = "Triton"
_CALLERS = "Who may ask, and how much"
_PROCESS = "The service"


def gateway(
    model: Annotated[
        str,
        typer.Argument(
            help="The model's name on Triton, or its folder (written with a slash), whose "
            "processing.py is then used.",
            show_default=False,
        ),
    ],
    triton: Annotated[
        str,
        typer.Option(
            "--triton",
            help="Triton's gRPC service; grpcs://HOST:PORT is over TLS.",
            metavar="HOST:PORT",
            rich_help_panel=_TRITON,
        ),
    ] = "localhost:8001",
    channels: Annotated[
        int,
        typer.Option(
            "--channels",
            min=1,
            max=64,
            help="Connections to Triton of each worker; each carries any number of requests.",
            rich_help_panel=_TRITON,
        ),
    ] = 1,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-ca", help="Certificates that Triton's is signed by.", rich_help_panel=_TRITON
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            "--tls-certificate", help="A certificate for Triton to see.", rich_help_panel=_TRITON
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", help="The key of that certificate.", rich_help_panel=_TRITON),
    ] = None,
    processing: Annotated[
        str | None,
        typer.Option(
            "--processing",
            help="FILE.py or module:function with the model's pre- and post-processing; without "
            "it, requests and answers are the model's tensors.",
            metavar="FILE",
        ),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            "--api-keys",
            help="File of NAME:KEY lines, or NAME:sha256:DIGEST; or set TUNER_API_KEYS to such "
            "lines. Without either, everybody is let in.",
            rich_help_panel=_CALLERS,
        ),
    ] = None,
    rate_limit: Annotated[
        str | None,
        typer.Option(
            "--rate-limit",
            help="For each key, or address where there are none: '100/second;5000/minute'.",
            metavar="RATES",
            rich_help_panel=_CALLERS,
        ),
    ] = None,
    limit_storage: Annotated[
        str,
        typer.Option(
            "--limit-storage",
            help="Where rates are counted: redis://HOST:PORT for all workers and machines, "
            "memory:// for each worker by itself.",
            metavar="URL",
            rich_help_panel=_CALLERS,
        ),
    ] = "memory://",
    max_in_flight: Annotated[
        int,
        typer.Option(
            "--max-in-flight",
            min=1,
            help="Requests inside a worker; more are answered with 503 at once.",
            rich_help_panel=_CALLERS,
        ),
    ] = 512,
    max_body: Annotated[
        str,
        typer.Option(
            "--max-body", help="The largest body.", metavar="SIZE", rich_help_panel=_CALLERS
        ),
    ] = "1MiB",
    max_items: Annotated[
        int,
        typer.Option(
            "--max-items", min=1, help="The largest /batch_predict.", rich_help_panel=_CALLERS
        ),
    ] = 256,
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout",
            help="What a request may take, Triton included.",
            metavar="DURATION",
            rich_help_panel=_PROCESS,
        ),
    ] = "10s",
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on.", rich_help_panel=_PROCESS)
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, help="0 takes a free one.", rich_help_panel=_PROCESS
        ),
    ] = 8080,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes.", rich_help_panel=_PROCESS)
    ] = 1,
    graceful: Annotated[
        str,
        typer.Option(
            "--graceful",
            help="What requests get to end in when the service is stopped.",
            metavar="DURATION",
            rich_help_panel=_PROCESS,
        ),
    ] = "10s",
    tracing: Annotated[
        bool,
        typer.Option(
            "--tracing",
            help="Send traces to where OTEL_EXPORTER_OTLP_ENDPOINT says.",
            rich_help_panel=_PROCESS,
        ),
    ] = False,
    otel_endpoint: Annotated[
        str | None,
        typer.Option(
            "--otel-endpoint",
            help="Send traces there, by OTLP over gRPC: http://HOST:4317.",
            metavar="URL",
            rich_help_panel=_PROCESS,
        ),
    ] = None,
) -> None:
    """Serve a model of a Triton server over HTTP: JSON instead of tensors, with API keys, rates,
    deadlines and metrics.

    The routes are /predict, /batch_predict, /healthz, /livez and /metrics; /docs shows their types.
    """
    with exit_codes():
        from tuner.serving.supervise import require_packages, supervise

        require_packages()
        from tuner.serving.gateway import GatewaySettings, check

        folder, name = _folder_and_name(model)
        settings = GatewaySettings(
            model=name,
            folder=folder,
            triton=triton,
            channels=channels,
            tls_ca=tls_ca,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
            processing=processing,
            api_keys=api_keys,
            rate_limit=rate_limit,
            limit_storage=limit_storage,
            max_in_flight=max_in_flight,
            max_body=parse_size(max_body),
            max_items=max_items,
            timeout=parse_duration(timeout),
            graceful=parse_duration(graceful),
            host=host,
            port=port,
            workers=workers,
            tracing=tracing,
            otel_endpoint=otel_endpoint,
        )
        check(settings)
        supervise("tuner.serving.gateway:from_environment", settings)


def _folder_and_name(model: str) -> tuple[Path | None, str]:
    if "/" not in model:
        return None, model
    folder = Path(model).resolve()
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {model}; give the model's name on Triton, or a folder"
        )
    return folder, folder.name
