"""The commands ``tuner serve``: a FastAPI service of a model, or the gateway before Triton."""

from typing import Annotated

import typer

from tuner.cli.exit_codes import exit_codes
from tuner.cli.gateway import gateway
from tuner.units import parse_duration, parse_size

_MODEL = "How it computes"
_BOUNDS = "What is turned away"

serve = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Serve a model over HTTP: FastAPI by itself, or in front of Triton.",
)
serve.command(
    epilog="Example: tuner serve gateway models/text_classifier --triton localhost:8001 "
    "--api-keys keys.txt --rate-limit 100/second"
)(gateway)


@serve.command(epilog="Example: tuner serve fastapi models/text_classifier --workers 4 --port 8080")
def fastapi(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a model, or its name in ./model_repository or among the samples.",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8080,
    workers: Annotated[
        int,
        typer.Option("--workers", min=1, max=256, help="Processes, each with a copy of the model."),
    ] = 1,
    threads: Annotated[
        int,
        typer.Option(
            "--threads", min=1, help="Threads of one computation.", rich_help_panel=_MODEL
        ),
    ] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            min=1,
            help="Computations at a time in each worker; as its share of the cores allows if not "
            "given.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="auto, onnx or torch (extra torch).",
            metavar="KIND",
            rich_help_panel=_MODEL,
        ),
    ] = "auto",
    processing: Annotated[
        str | None,
        typer.Option(
            "--processing",
            help="FILE.py or module:function with pre- and post-processing; processing.py in the "
            "model's folder if not given, and plain tensors without that.",
            metavar="FILE",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    naive: Annotated[
        bool,
        typer.Option(
            "--naive",
            help="As it is often written: computes on the event loop. To compare with, only.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout",
            help="What a request may take; then 504.",
            metavar="DURATION",
            rich_help_panel=_BOUNDS,
        ),
    ] = "10s",
    queue: Annotated[
        int,
        typer.Option(
            "--queue",
            min=0,
            help="Requests that may wait for the model in each worker; more are answered with 503.",
            rich_help_panel=_BOUNDS,
        ),
    ] = 1024,
    max_body: Annotated[
        str,
        typer.Option(
            "--max-body", help="The largest body.", metavar="SIZE", rich_help_panel=_BOUNDS
        ),
    ] = "1MiB",
    max_items: Annotated[
        int,
        typer.Option(
            "--max-items", min=1, help="The largest /batch_predict.", rich_help_panel=_BOUNDS
        ),
    ] = 256,
    graceful: Annotated[
        str,
        typer.Option(
            "--graceful",
            help="What requests get to end in when the service is stopped.",
            metavar="DURATION",
        ),
    ] = "10s",
) -> None:
    """Serve a model by FastAPI, in uvicorn workers of its own.

    The routes are /predict, /batch_predict, /healthz, /livez and /metrics; /docs shows their types.
    SIGHUP replaces the workers by new ones, with the model that is there then; no request is lost.
    """
    with exit_codes():
        from tuner.experiment import find_model
        from tuner.serving.supervise import require_packages, supervise

        require_packages()
        from tuner.errors import UsageError
        from tuner.serving.fastapi import FastApiSettings, check

        if engine not in ("auto", "onnx", "torch"):
            raise UsageError(f"--engine {engine!r} is none of auto, onnx, torch")
        settings = FastApiSettings.model_validate(
            {
                "model": find_model(model),
                "host": host,
                "port": port,
                "workers": workers,
                "threads": threads,
                "concurrency": concurrency,
                "engine": engine,
                "processing": processing,
                "naive": naive,
                "timeout": parse_duration(timeout),
                "queue": queue,
                "max_body": parse_size(max_body),
                "max_items": max_items,
                "graceful": parse_duration(graceful),
            }
        )
        check(settings)
        supervise("tuner.serving.fastapi_worker:app_from_environment", settings)
