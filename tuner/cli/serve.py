"""The commands ``tuner serve``: a model by FastAPI, the gateway in front of Triton, or Triton."""

from pathlib import Path

import typer

from tuner.cli.parameters import command
from tuner.errors import UsageError
from tuner.experiment.find import find_model, similar_model
from tuner.serving.settings import FastApiSettings, GatewaySettings, TritonSettings
from tuner.text import shown

serve = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Serve a model over HTTP: by FastAPI, or by the gateway in front of Triton.",
)


@command(
    serve,
    epilog="Example: tuner serve gateway models/text_classifier --triton localhost:8001 "
    "--api-keys keys.txt --rate-limit 100/second",
)
def gateway(settings: GatewaySettings) -> int:
    """Serve a model that runs on a Triton server: JSON instead of tensors, in front of gRPC.

    Routes: /predict, /batch_predict, /healthz, /livez, /status, /metrics; /docs shows the API.
    Only the gateway has API keys, rate limits, --trusted-proxy and traces; beyond loopback it
    needs API keys. SIGTERM drains: requests in flight finish; a second signal ends at once.
    """
    from tuner.serving.supervise import require_packages, supervise

    require_packages()
    from tuner.serving.gateway import check, keys_of

    folder, name = _folder_and_name(settings.model)
    settings = settings.model_copy(update={"folder": folder, "model": name})
    check(settings)
    remedy = None if keys_of(settings) else "give --api-keys FILE or set TUNER_API_KEYS"
    about = f"model {settings.model}, on Triton at {settings.triton}"
    return supervise("tuner.serving.gateway:from_environment", settings, about, remedy)


@command(
    serve, epilog="Example: tuner serve fastapi models/text_classifier --workers 4 --port 8080"
)
def fastapi(settings: FastApiSettings) -> int:
    """Serve a model with ONNX Runtime or PyTorch in the service's own processes.

    Routes: /predict, /batch_predict, /healthz, /livez, /status, /metrics; /docs shows the API.
    It has no API keys and no rate limits (the gateway has), so it listens on loopback unless
    --allow-unauthenticated is given. SIGHUP loads the model anew, without losing a request.
    SIGTERM drains: requests in flight finish; a second signal ends at once.
    """
    from tuner.serving.supervise import require_packages, supervise

    require_packages()
    from tuner.serving.fastapi import check, engine_title

    settings = settings.model_copy(update={"model": find_model(settings.model)})
    check(settings)
    remedy = "'tuner serve fastapi' has no API keys; put a proxy that authenticates in front"
    about = f"model {settings.model.name}, on {engine_title(settings)}"
    return supervise("tuner.serving.fastapi_worker:app_from_environment", settings, about, remedy)


@command(serve, epilog="Example: tuner serve triton text_classifier")
def triton(settings: TritonSettings) -> int:
    """Start a Triton server on this machine, to try the gateway without Docker.

    It is the tritonserver on the PATH, or the embedded one (extra local). Inference, health and
    metadata need no key; loading models and other control does, and nobody has that key. It prints
    its addresses and Triton's log, and ends on Ctrl-C or SIGTERM.
    """
    from tuner.serving.triton import serve_triton

    return serve_triton(settings)


def _folder_and_name(model: str) -> tuple[Path | None, str]:
    if "/" not in model:
        return None, model
    folder = Path(model).resolve()
    if not folder.is_dir():
        similar = similar_model(Path(model))
        is_folder = similar is not None and "/" in similar
        remedy = "give the model's name on Triton, or its folder"
        raise UsageError(
            f"there is no folder {model}; "
            + (f"did you mean {shown(similar)}?" if is_folder else remedy)
        )
    return folder, folder.name
