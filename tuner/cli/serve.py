"""The commands ``tuner serve``: a FastAPI service of a model, or the gateway before Triton."""

from pathlib import Path

import typer

from tuner.cli.parameters import command
from tuner.errors import UsageError
from tuner.experiment.find import find_model
from tuner.serving.settings import FastApiSettings, GatewaySettings

serve = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Serve a model over HTTP: FastAPI by itself, or in front of Triton.",
)


@command(
    serve,
    epilog="Example: tuner serve gateway models/text_classifier --triton localhost:8001 "
    "--api-keys keys.txt --rate-limit 100/second",
)
def gateway(settings: GatewaySettings) -> int:
    """Serve a model of a Triton server over HTTP: JSON instead of tensors, with API keys, rates,
    deadlines and metrics.

    The routes are /predict, /batch_predict, /healthz, /livez, /status and /metrics; /docs shows
    their types. Beyond loopback it asks for API keys.
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
    """Serve a model by FastAPI, in uvicorn workers of its own.

    The routes are /predict, /batch_predict, /healthz, /livez, /status and /metrics; /docs shows
    their types. It knows no API keys, and listens on loopback until --allow-unauthenticated.
    SIGHUP replaces the workers by new ones, with the model that is there then; no request is lost.
    """
    from tuner.serving.supervise import require_packages, supervise

    require_packages()
    from tuner.serving.fastapi import check, engine_title

    settings = settings.model_copy(update={"model": find_model(settings.model)})
    check(settings)
    remedy = "'tuner serve fastapi' has no API keys; put a proxy that authenticates in front"
    about = f"model {settings.model.name}, on {engine_title(settings)}"
    return supervise("tuner.serving.fastapi_worker:app_from_environment", settings, about, remedy)


def _folder_and_name(model: str) -> tuple[Path | None, str]:
    if "/" not in model:
        return None, model
    folder = Path(model).resolve()
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {model}; give the model's name on Triton, or a folder"
        )
    return folder, folder.name
